"""report.html: what a run of Step 1 read, dropped, kept and labelled, with samples.

One file that needs nothing else, not even a network. Prompts are hostile input: every text from one is escaped, and the
page's content policy forbids scripts, so that a prompt with a tag in it is shown, not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.files.html import content_policy
from dyneval.prompts import categories
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.filters import Drops
from dyneval.prompts.outputs import FilterSummary
from dyneval.records import TIERS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 260, 56, 30, 22
"""Size of the histogram and what its numbers take at three sides, in units of its viewBox; it scales with the page."""


def histogram(values: npt.NDArray[np.float64], groups: npt.NDArray[np.uint8], cuts: list[float]) -> str:
    """Histogram of `values`, the bars stacked by group (CSS classes t1, t2, ...), with dashed lines at `cuts`.

    Bars are 5 wide (50 where values are large), so that round cuts fall between two of them; the last takes the rest.
    """
    # A few prompts are far more complex than all others; with them on the axis the rest would be one bar.
    top = max(float(np.percentile(values, 99.8)), *cuts, 1.0) if len(values) else 1.0
    step = 5.0 if top <= 1000 else 50.0
    top = step * np.ceil(top / step)
    edges = np.arange(0, top + step, step)
    names = [int(name) for name in np.unique(groups)]
    counts = np.array([np.histogram(np.minimum(values[groups == name], top), edges)[0] for name in names])
    most = max(1, int(counts.sum(axis=0).max())) if len(counts) else 1
    width, height, floor = _WIDTH - _LEFT, _HEIGHT - _BOTTOM - _TOP, _HEIGHT - _BOTTOM
    parts = []
    for column, stack in enumerate(counts.T if len(counts) else ()):
        base, bar_width = float(floor), width / counts.shape[1]
        for name, count in zip(names, stack, strict=True):
            if not count:
                continue
            base -= height * count / most
            parts.append(
                f'<rect class="t{name}" x="{_LEFT + column * bar_width:.1f}" y="{base:.1f}" '
                f'width="{bar_width - 1:.1f}" height="{height * count / most:.1f}"/>'
            )
    for cut in cuts:
        x = _LEFT + width * cut / top
        parts.append(
            f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{floor}"/>'
            f'<text class="strong" x="{x + 4:.1f}" y="{_TOP}">H = {cut:g}</text>'
        )
    parts += [
        f'<text x="{_LEFT - 8}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{_LEFT - 8}" y="{_TOP + 6}" text-anchor="end">{most:,}</text>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{floor}" y2="{floor}"/>',
    ]
    # At most ten numbers below the axis: more would touch each other at this width.
    tick = next(step for step in (10, 20, 50, 100, 200, 500, 1000) if top / step <= 10 or step == 1000)
    for value in range(0, int(top) + 1, tick):
        anchor = "end" if value == top else "middle"
        parts.append(
            f'<text x="{_LEFT + width * value / top:.1f}" y="{floor + 18}" text-anchor="{anchor}">{value}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of H">{"".join(parts)}</svg>'


def bars(rows: list[tuple[str, int]], css: list[str], name_width: int = 150, width: int = 320) -> str:
    """A horizontal bar with name and count for each row."""
    most = max([count for _, count in rows] + [1])
    longest = width - name_width - 70  # 70 for the count behind the bar
    parts = []
    for number, (name, count) in enumerate(rows):
        y, length = 20 * number, longest * count / most
        parts.append(
            f'<text x="0" y="{y + 14}">{escape(name)}</text>'
            f'<rect class="{css[number]}" x="{name_width}" y="{y + 4}" width="{length:.1f}" height="12" rx="2"/>'
            f'<text class="strong" x="{name_width + length + 6:.1f}" y="{y + 14}">{count:,}</text>'
        )
    return f'<svg viewBox="0 0 {width} {20 * len(rows) + 4}" role="img" aria-label="Counts">{"".join(parts)}</svg>'


_SAMPLES, _LONGEST = 10, 400
"""Prompts shown of each tier, and characters of each: --max-chars may let a whole book through."""
_TIER_NAMES = {1: "tier 1, hard", 2: "tier 2, medium", 3: "tier 3, easy"}


def render(config: FilterConfig, summary: FilterSummary, prompts: pl.DataFrame, drops: Drops) -> str:
    """The report on a run: its summary, and the kept prompts with tier, complexity and labels, in output order."""
    folder = files("dyneval.prompts").joinpath("data")
    figures = {
        "rows read": summary["rows_read"],
        "dropped": sum(summary["dropped"].values()),
        "prompts kept": summary["kept"],
        "near benchmark prompts": sum(summary["leaked"].values()),
    }
    tiering = "tiers are cut out of the ranking by H: half of the top third, the middle third, half of the bottom third"
    cuts: list[float] = []
    if config.tiering == "threshold":
        tiering = f"tier 1 from {config.tau_1:g} on, tier 2 from {config.tau_2:g} on, tier 3 below"
        cuts = [config.tau_2, config.tau_1]
    labelled = _LABELLERS[config.labeller]
    if summary["other_scripts"] and config.labeller == "rules":
        told = "they are not written in Latin letters, and the rules know English. --labeller llm labels them, too."
        labelled += f" Prompts without labels: {summary['other_scripts']:,}; {told}"
    return Template(folder.joinpath("report.html").read_text("utf-8")).substitute(
        policy=content_policy(),
        css=folder.joinpath("report.css").read_text("utf-8"),
        sources=escape(", ".join(summary["sources"])),
        figures="".join(
            f'<div class="figure"><b>{count:,}</b><span>{name}</span></div>' for name, count in figures.items()
        ),
        tiering=tiering,
        histogram=histogram(prompts["complexity"].to_numpy(), prompts["tier"].to_numpy(), cuts),
        tiers=bars([(_TIER_NAMES[t], summary["tiers"][str(t)]) for t in TIERS], ["t1", "t2", "t3"]),
        categories=labelled,
        coverage="".join(
            f"<div><h3>{escape(name)}</h3>{bars(list(counts.items()), ['bar'] * len(counts))}</div>"
            for name, counts in summary["categories"].items()
        ),
        agreement=_agreement(summary),
        selection=_selection(summary),
        dropped=_reasons(summary["dropped"], drops),
        changed=f"<h2>Changed prompts</h2>{_reasons(summary['changed'], drops)}" if summary["changed"] else "",
        samples="".join(_samples(tier, prompts.filter(pl.col("tier") == tier).head(_SAMPLES)) for tier in TIERS),
    )


_LABELLERS = {
    "rules": "Prompts with each sub-category, by rules over word lists; a prompt may have several.",
    "llm": "Prompts with each sub-category, assigned by a language model; a prompt may have several.",
    "none": "No categories were assigned in this run.",
}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str | int | float, ...]]) -> str:
    """A table of escaped texts and of numbers: counts with commas, others with two digits. Html is kept as it is."""
    body = ""
    for row in rows:
        body += "<tr>"
        for value in row:
            if isinstance(value, str):
                body += f"<td>{value if isinstance(value, _Html) else escape(value)}</td>"
            else:
                body += f'<td class="n">{value:{"," if isinstance(value, int) else ".2f"}}</td>'
        body += "</tr>"
    # A head stands as its column does.
    kinds = ["" if isinstance(value, str) else ' class="n"' for value in (rows[0] if rows else head)]
    names = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    return f"<table><tr>{names}</tr>{body}</table>"


class _Html(str):
    """A text that is HTML."""


def _reasons(counts: dict[str, int], drops: Drops) -> str:
    """A row a reason or filter, with a few of the prompts that it met."""
    rows = []
    for reason, count in counts.items():
        meaning = escape(drops.meanings[reason])
        if samples := "".join(f"<li>{escape(text)}</li>" for text in drops.samples.get(reason, [])):
            meaning += f"<details><summary>samples</summary><ul>{samples}</ul></details>"
        rows.append((reason, _Html(meaning), count))
    return _table(("reason", "meaning", "rows"), rows)


def _selection(summary: FilterSummary) -> str:
    """What selecting gained, beside as many prompts drawn at random."""
    found = summary["selection"]
    if not found:
        return ""
    rows = [(name, found["selected"][key], found["random"][key]) for key, name in _SPREAD]
    return f"<h2>Selection</h2><p>{_SELECTED}</p>" + _table(("of the prompts", "selected", "drawn at random"), rows)


_SPREAD: tuple[tuple[Literal["distinct_words", "label_entropy", "nearest_distance"], str], ...] = (
    ("distinct_words", "different words"),
    ("label_entropy", "entropy of the labels in bits; 5.39 where all are as frequent"),
    ("nearest_distance", "mean distance to the most similar prompt, 0-1"),
)
_SELECTED = "How varied the selected prompts are, beside as many drawn at random; more is better."


def _agreement(summary: FilterSummary) -> str:
    """How far the model's labels are those of the rules."""
    found = summary["agreement"]
    if found is None:
        return ""
    rows = [
        (name, int(row["both"]), int(row["rules"]), int(row["model"]), float(row["kappa"]))
        for name, row in sorted(found["by_category"].items(), key=lambda item: item[1]["kappa"])
        if row["both"] + row["rules"] + row["model"]
    ]
    told = f"Cohen's kappa over {found['prompts']:,} prompts: {found['kappa']:.2f}. Prompts with a label from"
    head = ("sub-category", "both", "rules only", "the model only", "kappa")
    return f"<h3>Agreement with the rules</h3><p>{told}</p>" + _table(head, rows)


def _samples(tier: int, prompts: pl.DataFrame) -> str:
    labels = categories.load().expand(prompts["labels"].to_numpy())
    rows = []
    for h, prompt, names in zip(prompts["complexity"], prompts["prompt"], labels, strict=True):
        text = prompt if len(prompt) <= _LONGEST else prompt[:_LONGEST] + " ..."
        rows.append((round(h), _Html(f'{escape(text)}<div class="labels">{escape(", ".join(names))}</div>')))
    title = f'<h3><span class="dot d{tier}"></span>{_TIER_NAMES[tier]}</h3>'
    return title + (_table(("H", "prompt and categories"), rows) if rows else "<p>none</p>")
