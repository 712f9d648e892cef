"""report.html: one file that needs nothing else, not even a network. All text from prompts is escaped."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

import polars as pl

from dyneval.prompts import categories, svg
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.drops import REASONS
from dyneval.prompts.summary import Summary
from dyneval.records import TIERS

_SAMPLES, _LONGEST = 10, 400
_TIER_NAMES = {1: "tier 1, hard", 2: "tier 2, medium", 3: "tier 3, easy"}


def render(config: FilterConfig, summary: Summary, prompts: pl.DataFrame) -> str:
    """The report on a run: its summary, and the kept prompts with tier, complexity and labels, in output order."""
    folder = files("dyneval.prompts").joinpath("data")
    return Template(folder.joinpath("report.html").read_text("utf-8")).substitute(
        css=folder.joinpath("report.css").read_text("utf-8"),
        sources=escape(", ".join(summary["sources"])),
        figures=_figures(summary),
        tiering=_tiering(config),
        histogram=svg.histogram(prompts["complexity"].to_numpy(), prompts["tier"].to_numpy(), _cuts(config)),
        tiers=svg.bars([(_TIER_NAMES[t], summary["tiers"][str(t)]) for t in TIERS], ["t1", "t2", "t3"], 110, 960),
        categories=_LABELLERS[config.labeller],
        coverage="".join(_dimension(name, counts) for name, counts in summary["categories"].items()),
        dropped=_dropped(summary["dropped"]),
        samples="".join(_samples(tier, prompts.filter(pl.col("tier") == tier).head(_SAMPLES)) for tier in TIERS),
    )


_LABELLERS = {
    "rules": "Prompts with each sub-category, by rules over word lists; a prompt may have several.",
    "llm": "Prompts with each sub-category, assigned by a language model; a prompt may have several.",
    "none": "No categories were assigned in this run.",
}


def _figures(summary: Summary) -> str:
    figures = {
        "rows read": summary["rows_read"],
        "dropped": sum(summary["dropped"].values()),
        "prompts kept": summary["kept"],
        "near benchmark prompts": sum(summary["leaked"].values()),
    }
    return "".join(f'<div class="figure"><b>{count:,}</b><span>{name}</span></div>' for name, count in figures.items())


def _tiering(config: FilterConfig) -> str:
    if config.tiering == "threshold":
        return f"tier 1 from {config.tau_1:g} on, tier 2 from {config.tau_2:g} on, tier 3 below"
    return "tiers are cut out of the ranking by H: half of the top third, the middle third, half of the bottom third"


def _cuts(config: FilterConfig) -> list[float]:
    return [config.tau_2, config.tau_1] if config.tiering == "threshold" else []


def _dimension(name: str, counts: dict[str, int]) -> str:
    return f"<div><h3>{escape(name)}</h3>{svg.bars(list(counts.items()), ['bar'] * len(counts))}</div>"


def _dropped(counts: dict[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{reason}</td><td>{escape(REASONS[reason])}</td><td class="n">{count:,}</td></tr>'
        for reason, count in counts.items()
    )
    return f'<table><tr><th>reason</th><th>meaning</th><th class="n">rows</th></tr>{rows}</table>'


def _samples(tier: int, prompts: pl.DataFrame) -> str:
    labels = categories.load().expand(prompts["labels"].to_numpy())
    rows = "".join(
        f'<tr><td class="n">{h:.0f}</td><td class="prompt">{escape(_shortened(prompt))}'
        f'<div class="labels">{escape(", ".join(names))}</div></td></tr>'
        for h, prompt, names in zip(prompts["complexity"], prompts["prompt"], labels, strict=True)
    )
    title = f'<h3><span class="dot d{tier}"></span>{_TIER_NAMES[tier]}</h3>'
    return f'{title}<table><tr><th class="n">H</th><th>prompt and categories</th></tr>{rows}</table>'


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= _LONGEST else prompt[:_LONGEST] + " ..."
