"""What the charts share: their form, axes and colours.

Colours are taken from the ranges of `dyneval.evaluation.report.theme`, so one specification serves light, dark and
print.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the version of the specification; nothing is fetched from there."""
ROW = 18
"""Height of a model's row."""
NAMES = {"title": None, "domain": False, "ticks": False, "labelExpr": "replace(datum.label, /_/g, ' ')"}
"""Axis of names."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with what stands above and below it; a `wide` one needs the whole page."""

    name: str
    title: str
    caption: str
    spec: Spec = field(repr=False)
    wide: bool = False


def tier_color() -> Spec:
    """Colour by tier."""
    return {
        "field": "tier",
        "type": "ordinal",
        "scale": {"domain": [1, 2, 3]},
        "legend": {"title": None, "orient": "top", "labelExpr": "'Tier ' + datum.label", "symbolType": "circle"},
    }


def heat_color(name: str) -> Spec:
    """Colour by the score (1-5) in field `name`."""
    return {
        "field": name,
        "type": "quantitative",
        "scale": {"domain": [1, 5], "range": "heatmap", "interpolate": "lab"},
        "legend": {"title": "Score", "orient": "right", "gradientLength": 140, "gradientThickness": 10, "tickCount": 5},
    }


def score_axis(title: str) -> Spec:
    """Horizontal axis of scores 1-5."""
    return {
        "field": "score",
        "type": "quantitative",
        "scale": {"domain": [1, 5]},
        "axis": {"title": title, "tickCount": 5, "domain": False},
    }


def top(spec: Spec) -> Spec:
    """Complete a specification; one that fills its container fits its width."""
    fit = {"autosize": {"type": "fit-x", "contains": "padding"}} if spec.get("width") == "container" else {}
    return {"$schema": SCHEMA, **fit, **spec}


def rounded(value: Any, digits: int = 4) -> Any:
    """Round a number for the page; None stays None."""
    return None if value is None else round(float(value), digits)
