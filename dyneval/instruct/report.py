"""Describes a build for people: a dataset card in Markdown (README.md) and a page with bar charts (report.html).

Both are made from the summary alone, so that they cannot say anything else than `summary.json`. The page is one file
without scripts, and opens without a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from dyneval.files.atomic import atomic_write
from dyneval.files.html import content_policy
from dyneval.instruct.chunks import FAULTS

_TITLES = {
    "overall": "S = 0.5 T2IA + 0.5 IQA of a pair",
    "t2ia_scores": "Scores of T2IA answers",
    "iqa_scores": "Scores of IQA answers",
    "t2ia_questions": "T2IA questions a pair",
    "iqa_questions": "IQA questions a pair",
    "nodes": "Nodes of a scene graph",
    "t2ia_targets": "Target answers of T2IA questions",
    "iqa_targets": "Target answers of IQA questions",
    "tokens": "Tokens of a sample, in hundreds",
}
_TENTHS = {"overall": 1, "tokens": 1000}
"""Distance between two values of a histogram, in tenths. The others count things, so theirs is 10."""
_MOST_BARS = 41
"""As many as there are tenths between the scores 1 and 5."""
_WIDTH, _HEIGHT = 460, 190
_WIDEST = 80
_LEFT, _TOP, _BOTTOM = 48, 8, 18
"""Pixels for the counts on the left, above the bars, and for the values below."""
# In the page itself, with colours for light and dark; `content_policy` forbids everything that is not in the file.
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #222; --soft: #666; --line: #ddd; --bar: #4a7fb5; --bad: #a33 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --ink: #e4e4e4; --soft: #a0a4aa; --line: #3a3e45; --bar: #6fa3d8; --bad: #f08a80 }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1020px; margin: 0 auto; padding: 1em; color: var(--ink);
  background: var(--ground); overflow-wrap: anywhere }
.charts, .samples { display: grid; gap: 1.5em; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)) }
figure { margin: 0 } figcaption { font-weight: 600 } small, .of { color: var(--soft); font-weight: 400 }
.wide { overflow-x: auto; overflow-wrap: normal } table { border-collapse: collapse; margin-bottom: 1.5em }
.wide td, .wide th { padding: .2em .9em; text-align: right } .wide th { border-bottom: 1px solid var(--soft) }
.wide td:first-child, .wide th:first-child { text-align: left }
svg { display: block; width: 100%; height: auto } rect { fill: var(--bar) } path { stroke: var(--line); fill: none }
text { font-size: 10px; fill: var(--soft); text-anchor: middle } .count { text-anchor: end }
article { display: flex; flex-wrap: wrap; gap: .8em; align-items: flex-start; border-top: 1px solid var(--line);
  padding-top: .8em } article div { flex: 1 1 180px; min-width: 0 } article p { margin: 0 0 .4em }
article img { max-width: min(100%, 200px); height: auto; border-radius: 4px } .scores { font-weight: 600 }
.problem { color: var(--bad) } details td { vertical-align: top; padding: .2em .5em; border-top: 1px solid var(--line) }
"""


def write_report(path: Path, summary: Mapping[str, Any], samples: str = "") -> None:
    """Write the page.

    Args:
        path: of the page.
        summary: of the build, as in summary.json.
        samples: HTML of `dyneval.instruct.gallery`.
    """
    charts = ""
    for name, title in _TITLES.items():
        described = summary["statistics"][name]
        if described["count"]:
            mean = f", mean {described['mean']}" if "mean" in described else ""
            caption = f"<figcaption>{escape(title)} <small>{described['count']} counted{mean}</small></figcaption>"
            charts += f"<figure>{caption}{_svg(_bars(name, described))}</figure>"
    head, *rows = _outcomes(summary)
    table = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        table += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    shown = f"<h2>Samples</h2><p>Kept pairs where bad annotations gather.</p>{samples}" if samples else ""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>DynEvalInstruct</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{content_policy()}'
        f"<style>{_STYLE}</style><h1>DynEvalInstruct</h1><div class=wide><table>{table}</table></div>"
        f"<div class=charts>{charts}</div>{shown}</html>\n"
    )
    with atomic_write(path) as file:
        file.write(page)


def write_card(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the dataset card, in the form of the Hugging Face Hub."""
    rows = _outcomes(summary)
    table = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])
    teachers = ", ".join(f"`{name}`" for name in summary["statistics"]["teachers"]["histogram"])
    statistics = summary["statistics"]
    card = _CARD.format(
        teachers=teachers,
        table=table,
        delta=", ".join(f"tier {tier}: {delta:g}" for tier, delta in summary["delta"].items()),
        heldout=f"{summary['heldout_share']:.0%}",
        template=summary["template"],
        reply_form=summary["reply_form"],
        t2ia=summary["samples"]["t2ia"],
        iqa=summary["samples"]["iqa"],
        t2ia_mean=statistics["t2ia_questions"].get("mean", "no"),
        iqa_mean=statistics["iqa_questions"].get("mean", "no"),
        overall=statistics["overall"].get("mean", "unknown"),
    )
    with atomic_write(path) as file:
        file.write(card)


_CARD = """\
---
pretty_name: DynEvalInstruct
task_categories:
- image-text-to-text
language:
- en
configs:
- config_name: t2ia
  data_files: dynevalinstruct_t2ia.json
- config_name: iqa
  data_files: dynevalinstruct_iqa.json
---
# DynEvalInstruct

Training data of a DynEval student, which judges text-to-image alignment (T2IA) and image quality (IQA) through
questions made for the very image. Questions, scene graphs, answers and scores were written by {teachers}.

- `dynevalinstruct_t2ia.json`, {t2ia} samples (Stage 1): prompt to questions; image and questions to answers.
- `dynevalinstruct_iqa.json`, {iqa} samples (Stage 2): image to scene graph and questions; image and questions to
  answers.
- `heldout.jsonl`: pairs of the prompts that were kept back ({heldout} of all); none of them is in the files above.
  `dynevalinstruct_t2ia_heldout.json` and `dynevalinstruct_iqa_heldout.json` hold the samples of those that curation
  keeps, for the loss on held-out data.

A pair is kept when S = 0.5 T2IA + 0.5 IQA, or the part that is known, is below delta ({delta}). Human turns: template
`{template}`; answers to questions: form `{reply_form}`. A pair gives a sample for each of its annotations that is good.

{table}

Means over the kept pairs: {t2ia_mean} T2IA questions, {iqa_mean} IQA questions, S = {overall}. Histograms are in
`report.html` and `summary.json`; what could not be used, and why, in `rejects.jsonl`.

Prompts and images come from the users and models named in the metadata; their licences apply.
"""


def _outcomes(summary: Mapping[str, Any]) -> list[list[str]]:
    """Pairs by tier and outcome, as rows of a table; rejects have no tier."""
    names = {"kept": "kept", "heldout": "held out", "score_not_below_delta": "S not below delta"}
    rows = [["pairs", *names.values()]]
    for tier, counts in summary["tiers"].items():
        rows.append([f"tier {tier}", *(str(counts.get(name, 0)) for name in names)])
    totals = (summary["kept"], summary["heldout_pairs"], summary["dropped"]["score_not_below_delta"])
    rows.append(["all", *map(str, totals)])
    rejected = {kind: number for kind, number in summary["rejected"].items() if number}
    for kind, number in rejected.items():
        # A bad annotation costs a pair one sample, not its place, so the two kinds of rejects do not add up.
        whole = "annotations" if kind in FAULTS else "pairs"
        rows.append([f"rejected {whole}: {kind.replace('_', ' ')}", str(number), "", ""])
    return rows


def _bars(name: str, described: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Labels and counts of at most `_MOST_BARS` bars, each of equally many values, seen or not."""
    histogram: dict[str, int] = described["histogram"]
    if "mean" not in described:
        return list(histogram.items())
    # In whole tenths: as floats, 4.3 and 1 + 33 * 0.1 would be two values.
    counts = {round(10 * float(value)): number for value, number in histogram.items()}
    values = range(min(counts), max(counts) + 1, _TENTHS.get(name, 10))
    places = 1 if name == "overall" else 0
    bars = []
    size = -(-len(values) // _MOST_BARS)
    for some in (values[at : at + size] for at in range(0, len(values), size)):
        ends = [f"{value / 10:.{places}f}" for value in dict.fromkeys((some[0], some[-1]))]
        bars.append(("–".join(ends), sum(counts.get(value, 0) for value in some)))
    return bars


def _svg(bars: list[tuple[str, int]]) -> str:
    """Bars with their counts on the left and their values below."""
    ticks = _ticks(max(number for _, number in bars))
    step = min((_WIDTH - _LEFT) / len(bars), _WIDEST)
    scale = (_HEIGHT - _TOP - _BOTTOM) / ticks[-1]
    ground = _HEIGHT - _BOTTOM
    every = -(-len(bars) * max(len(label) for label, _ in bars) // 50)  # about fifty characters fit below the bars
    parts = []
    for tick in ticks:
        y = ground - tick * scale
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH}"/>')
        parts.append(f'<text class="count" x="{_LEFT - 5}" y="{y + 3:.1f}">{tick:,}</text>')
    for place, (label, number) in enumerate(bars):
        height = number * scale
        x, middle = _LEFT + place * step, _LEFT + (place + 0.5) * step
        hint = f"<title>{escape(label)}: {number}</title>"
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{ground - height:.1f}" width="{max(step - 2, 1):.1f}" '
            f'height="{height:.1f}">{hint}</rect>'
        )
        if place % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 4}">{escape(label)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _ticks(highest: int) -> list[int]:
    """Three to six whole counts from 0 to at least `highest`, at round steps."""
    step = 1
    while 5 * step < highest:
        step = next(size for size in (2 * step, 5 * step, 10 * step) if str(size)[0] in "125" and size > step)
    return list(range(0, highest + step, step))
