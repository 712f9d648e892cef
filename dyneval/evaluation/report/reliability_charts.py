"""Charts of a judge compared with itself: alpha of every run and score, and each pair in two runs.

The figures are those of `dyneval.evaluation.reliability`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dyneval.evaluation.reliability import Reliability, ScoredRun, largest_differences, shared_pairs
from dyneval.evaluation.report.base import MOST_POINTS, NAMES, Chart, Spec, interval_layers, score_axis, top

# Pairs with the largest differences are in a scatter whichever others chance leaves out: they are what one looks for.
_SURE = 100


def reliability_charts(
    first: ScoredRun, others: Sequence[tuple[ScoredRun, str]], found: Sequence[Reliability]
) -> list[Chart]:
    """Return the charts in the order of the page; `others`: each run with the score that its scatter shows."""
    charts = [_alphas(found)] if any(one.alpha.value is not None for one in found) else []
    return charts + [_scatter(first, other, score, number) for number, (other, score) in enumerate(others, 1)]


def _alphas(found: Sequence[Reliability]) -> Chart:
    values = [
        {"run": one.second, "score": one.score, "alpha": one.alpha.value, "low": one.alpha.low, "high": one.alpha.high}
        for one in found
        if one.alpha.value is not None
    ]
    runs = list(dict.fromkeys(row["run"] for row in values))
    scores = list(dict.fromkeys(row["score"] for row in values))
    encoding = {
        "y": {"field": "run", "type": "nominal", "sort": runs, "axis": NAMES},
        "yOffset": {"field": "score", "type": "nominal", "sort": scores},
        "color": {
            "field": "score",
            "type": "nominal",
            "scale": {"domain": scores},
            "legend": {"title": None, "orient": "top", "symbolType": "circle"},
        },
    }
    tooltip = [{"field": "run", "title": "Run"}, {"field": "score", "title": "Score"}]
    layers = interval_layers("alpha", "Krippendorff's alpha", encoding, tooltip)
    height = (12 + 15 * len(scores)) * len(runs)
    spec = {"data": {"values": values}, "width": "container", "height": height, "layer": layers}
    caption = "1: the run gives every pair the score of the first; 0: no closer than chance. Bars are 95 % intervals."
    return Chart("alpha", "Agreement of the judge with itself", caption, top(spec))


def _scatter(first: ScoredRun, other: ScoredRun, score: str, number: int) -> Chart:
    """Each pair at its scores in the two runs."""
    pairs = [p for p in shared_pairs(first, other) if score in first.pairs[p].scores and score in other.pairs[p].scores]
    total = len(pairs)
    if total > MOST_POINTS:
        # A fixed seed: a second run draws the same points.
        chosen = np.random.default_rng(0).choice(total, MOST_POINTS, replace=False)
        pairs = list(dict.fromkeys([*largest_differences(first, other, score, _SURE), *(pairs[i] for i in chosen)]))
    points = [
        {
            "pair": p,
            "prompt": first.pairs[p].prompt[:120],
            "score": round(first.pairs[p].scores[score], 4),
            "other": round(other.pairs[p].scores[score], 4),
        }
        for p in pairs
    ]
    x = score_axis(f"{score} of {first.name} (1–5)")
    y = {**score_axis(f"{score} of {other.name} (1–5)"), "field": "other"}
    layers: list[Spec] = [
        {
            "data": {"values": [{"score": 1, "other": 1}, {"score": 5, "other": 5}]},
            "mark": {"type": "line", "strokeWidth": 1, "strokeDash": [3, 3], "opacity": 0.6},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "point", "size": 26, "opacity": 0.35},
            "encoding": {
                "x": x,
                "y": y,
                "tooltip": [
                    {"field": "pair", "title": "Pair"},
                    {"field": "prompt", "title": "Prompt"},
                    {"field": "score", "title": "First", "format": ".3f"},
                    {"field": "other", "title": "Second", "format": ".3f"},
                ],
            },
        },
    ]
    spec = {"data": {"values": points}, "width": "container", "height": 320, "layer": layers}
    shown = (
        f"{len(points):,} of {total:,} pairs, among them the largest differences"
        if total > len(points)
        else f"{total:,} pairs"
    )
    return Chart(
        f"runs-{number}", f"Pair by pair: {other.name}", f"{shown}; on the line both scores are equal.", top(spec)
    )
