"""What the charts share: their form, axes, intervals and colours, as parts of Vega-Lite specifications.

Colours are taken from the ranges of `dyneval.evaluation.report.theme`, so one specification serves light, dark and
print. `top` completes a specification and makes its names harmless; a chart without it can stop at a model's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dyneval.records import TIERS

Spec = dict[str, Any]
# Characters that Vega's expressions or the XML of an SVG cannot hold.
_UNDRAWABLE = re.compile("[\x00-\x1f\x7f\u2028\u2029\ufffe\uffff]")
# What every object of JavaScript has: Vega looks names up in objects, and finds these in empty ones.
_INHERITED = re.compile(r"__\w+__|constructor|hasOwnProperty|isPrototypeOf|propertyIsEnumerable|to\w*String|valueOf")
# Names the version of the specification; nothing is fetched from there.
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
MOST_POINTS = 2500
"""Images in a scatter, drawn by chance where there are more."""
ROW = 18
"""Height of a model's row, pixels."""
NAMES = {"title": None, "domain": False, "ticks": False, "labelExpr": "replace(datum.label, /_/g, ' ')"}
"""Axis of names."""
GREY = "#8a8f98"
"""Of what belongs to no series; it can be read on both grounds."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its title above and its caption below; a `wide` one takes the whole width of the page."""

    name: str
    title: str
    caption: str
    spec: Spec = field(repr=False)
    wide: bool = False


def tier_color(tiers: Sequence[int]) -> Spec:
    """Colour by tier, with a legend of the `tiers` that occur; what has no tier is grey. Without tiers: nothing."""
    if not tiers:
        return {}
    legend = {"title": None, "orient": "top", "labelExpr": "'Tier ' + datum.label", "symbolType": "circle"}
    by_tier = {
        "field": "tier",
        "type": "ordinal",
        # All three stand in the domain, so that a tier has its colour whichever others occur.
        "scale": {"domain": TIERS},
        "legend": {**legend, "values": list(tiers)},
    }
    return {"color": {"condition": {"test": "isValid(datum.tier)", **by_tier}, "value": GREY}}


def heat_color(name: str, title: str = "Score (1–5)", domain: tuple[float, float] = (1, 5)) -> Spec:
    """Colour by a number; the middle of its domain has the middle colour.

    Args:
        name: field of the data.
        title: of the legend.
        domain: numbers of the first and the last colour.
    """
    return {
        "field": name,
        "type": "quantitative",
        "scale": {"domain": list(domain), "range": "heatmap", "interpolate": "lab"},
        "legend": {"title": title, "orient": "right", "gradientLength": 140, "gradientThickness": 10, "tickCount": 5},
    }


def score_axis(title: str) -> Spec:
    """Horizontal axis of scores 1-5."""
    return {
        "field": "score",
        "type": "quantitative",
        "scale": {"domain": [1, 5]},
        "axis": {"title": title, "tickCount": 5, "domain": False},
    }


def free_axis(name: str, title: str | None) -> Spec:
    """Axis of the numbers in field `name`, of any scale."""
    return {
        "field": name,
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": title, "tickCount": 5, "domain": False},
    }


def interval_layers(value: str, title: str, encoding: Spec, tooltip: Sequence[Spec], **point: Any) -> list[Spec]:
    """Layers of points with their 95 % intervals, from the fields `value`, `low` and `high` of the data.

    Args:
        value: field of the statistic.
        title: of its axis.
        encoding: of both layers: rows, offset and colour.
        tooltip: of the points; the statistic and its interval are added.
        point: further encodings of the points.
    """
    x = free_axis(value, title)
    ends = {value: title, "low": "95 % from", "high": "95 % to"}
    shown = [{"field": name, "title": text, "format": ".3f"} for name, text in ends.items()]
    return [
        {
            # A statistic without an interval is a point alone; its bar would reach to 0.
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
            "encoding": {**encoding, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "size": 80, "opacity": 1},
            "encoding": {**encoding, "x": x, **point, "tooltip": [*tooltip, *shown]},
        },
    ]


def top(spec: Spec) -> Spec:
    """Complete a specification; one that fills its container fits its width. Names in it may hold any character."""
    fit = {"autosize": {"type": "fit-x", "contains": "padding"}} if spec.get("width") == "container" else {}
    return {"$schema": SCHEMA, **fit, **_drawable(spec)}


def _drawable(part: Any) -> Any:
    """The same, with a replacement mark for characters that Vega's expressions or SVG cannot hold."""
    if isinstance(part, str):
        text = _UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", part)
        return f"\N{WORD JOINER}{text}" if _INHERITED.fullmatch(text) else text
    if isinstance(part, dict):
        return {name: _drawable(value) for name, value in part.items()}
    return [_drawable(value) for value in part] if isinstance(part, (list, tuple)) else part


def rounded(value: Any, digits: int = 4) -> Any:
    """Round a number for the page; None stays None."""
    return None if value is None else round(float(value), digits)
