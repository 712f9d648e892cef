"""Charts of a comparison with human ratings: coefficients with intervals, scatter, T2I models, categories.

They show the figures of an `EvaluatorComparison`; only the means over T2I models are computed here.
"""

from __future__ import annotations

import math

import numpy as np

from dyneval.evaluation.comparison import EvaluatorComparison, EvaluatorResult
from dyneval.evaluation.report.base import MOST_POINTS, NAMES, Chart, Spec, free_axis, interval_layers, top

PUBLISHED = "published"


def comparison_charts(comparison: EvaluatorComparison) -> list[Chart]:
    """Return the charts that a comparison's data allow, in the order of the page."""
    charts = [coefficients(comparison), *(scatter(comparison, result) for result in comparison.evaluators)]
    if any(result.system["srcc"].value is not None for result in comparison.evaluators):
        charts.append(systems(comparison))
    if any(found.srcc.value is not None for result in comparison.evaluators for found in result.categories.values()):
        charts.append(categories(comparison))
    return charts


def coefficients(comparison: EvaluatorComparison) -> Chart:
    """SRCC of every evaluator with its interval, beside the published figures."""
    rows: list[Spec] = [
        {
            "evaluator": result.name,
            "figures": "measured",
            "srcc": result.agreement.srcc.value,
            "low": result.agreement.srcc.low,
            "high": result.agreement.srcc.high,
        }
        for result in comparison.evaluators
        if result.agreement.srcc.value is not None
    ]
    rows += [
        {"evaluator": f"{row.evaluator} ({PUBLISHED})", "figures": PUBLISHED, "srcc": row.srcc}
        for row in comparison.published
    ]
    order = [row["evaluator"] for row in rows]
    kinds = ["measured", PUBLISHED]
    encoding = {
        "y": {"field": "evaluator", "type": "nominal", "sort": order, "axis": NAMES | {"labelExpr": "datum.label"}},
        "color": {"field": "figures", "type": "nominal", "scale": {"domain": kinds}, "legend": None},
    }
    shape = {"field": "figures", "type": "nominal", "scale": {"domain": kinds, "range": ["circle", "diamond"]}}
    tooltip = [{"field": "evaluator", "title": "Evaluator"}]
    layers = interval_layers("srcc", "SRCC with human ratings", encoding, tooltip, shape=shape | {"legend": None})
    spec = {"data": {"values": rows}, "width": "container", "height": 30 * len(rows), "layer": layers}
    caption = "Rank correlation with the raters; bars are 95 % intervals over prompts. Diamonds are published figures."
    return Chart("coefficients", "Who agrees with people", caption, top(spec))


def scatter(comparison: EvaluatorComparison, result: EvaluatorResult) -> Chart:
    """Each image at its human rating and its score."""
    number = comparison.evaluators.index(result)
    points = [
        {"rating": round(item.rating, 3), "score": round(score, 4), "model": item.model, "id": item.item_id}
        for item, score in zip(comparison.rated.items, result.scores, strict=True)
        if math.isfinite(score)
    ]
    total = len(points)
    if total > MOST_POINTS:
        # A fixed seed: the report of a second run has the same points.
        chosen = np.random.default_rng(0).choice(total, MOST_POINTS, replace=False)
        points = [points[i] for i in sorted(chosen)]
    x, y = free_axis("rating", "Human rating"), free_axis("score", f"Score of {result.name}")
    tooltip = [
        {"field": "id", "title": "Image"},
        {"field": "model", "title": "Model"},
        {"field": "rating", "title": "Human rating", "format": ".2f"},
        {"field": "score", "title": "Score", "format": ".2f"},
    ]
    layers = [
        {
            "mark": {"type": "point", "size": 22, "opacity": 0.3},
            "encoding": {"x": x, "y": y, "tooltip": tooltip},
        },
        {
            "transform": [{"regression": "score", "on": "rating"}],
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": x, "y": y},
        },
    ]
    spec = {"data": {"values": points}, "width": "container", "height": 300, "layer": layers}
    shown = f"{len(points):,} of {total:,} images, drawn by chance" if total > len(points) else f"{total:,} images"
    title = f"Image by image: {result.name}"
    # By number: this becomes the name of a file, and the name of an evaluator may hold anything.
    return Chart(f"scatter-{number + 1}", title, f"{shown}; the line is the linear fit.", top(spec))


def systems(comparison: EvaluatorComparison) -> Chart:
    """The mean over each T2I model: of the raters, and of each evaluator in units of its own spread."""
    values = []
    for result in comparison.evaluators:
        by_model: dict[str, list[tuple[float, float]]] = {}
        for item, score in zip(comparison.rated.items, result.scores, strict=True):
            if item.model and math.isfinite(score):
                by_model.setdefault(item.model, []).append((item.rating, score))
        means = {model: np.mean(pairs, axis=0) for model, pairs in by_model.items()}
        # Evaluators have scales of their own, and only the order of models is compared. `or 1.0`: all means are equal.
        spread = float(np.std([mean[1] for mean in means.values()])) or 1.0
        middle = float(np.mean([mean[1] for mean in means.values()])) if means else 0.0
        values += [
            {
                "evaluator": result.name,
                "model": model,
                "rating": round(float(mean[0]), 4),
                "score": round((float(mean[1]) - middle) / spread, 4),
            }
            for model, mean in means.items()
        ]
    x, y = (
        free_axis("rating", "Mean human rating"),
        free_axis("score", "Mean score, in standard deviations over models"),
    )
    layers: list[Spec] = [
        {
            "mark": {"type": "point", "size": 70, "opacity": 0.9},
            "encoding": {
                "x": x,
                "y": y,
                "color": _evaluators(comparison),
                "tooltip": [{"field": "model", "title": "Model"}, {"field": "evaluator", "title": "Evaluator"}],
            },
        }
    ]
    # Names of models beside the points of several evaluators would hide each other.
    if len(comparison.evaluators) == 1:
        label = {"x": x, "y": y, "text": {"field": "model"}}
        layers.append({"mark": {"type": "text", "dy": -10, "fontSize": 10, "limit": 160}, "encoding": label})
    spec = {"data": {"values": values}, "width": "container", "height": 300, "layer": layers}
    return Chart(
        "systems", "T2I models ranked", "One point a T2I model: do evaluator and raters order models alike?", top(spec)
    )


def categories(comparison: EvaluatorComparison) -> Chart:
    """SRCC of each evaluator within each category."""
    values = [
        {
            "evaluator": result.name,
            "category": name,
            "srcc": round(found.srcc.value, 4),
            "low": found.srcc.low,
            "high": found.srcc.high,
            "images": found.items,
        }
        for result in comparison.evaluators
        for name, found in result.categories.items()
        if found.srcc.value is not None
    ]
    best_first = {"field": "srcc", "op": "max", "order": "descending"}
    encoding = {
        "y": {"field": "category", "type": "nominal", "axis": NAMES, "sort": best_first},
        "yOffset": {"field": "evaluator", "type": "nominal"},
        "color": _evaluators(comparison),
    }
    tooltip = [{"field": name, "title": name.capitalize()} for name in ("category", "evaluator", "images")]
    layers = interval_layers("srcc", "SRCC within the category", encoding, tooltip)
    # The points of all evaluators stand below each other in the row of a category.
    step = 8 + 13 * len(comparison.evaluators)
    names = {row["category"] for row in values}
    spec = {"data": {"values": values}, "width": "container", "height": step * len(names), "layer": layers}
    return Chart(
        "categories", "Agreement by category", "Rank correlation within each category, with 95 % intervals.", top(spec)
    )


def _evaluators(comparison: EvaluatorComparison) -> Spec:
    names = [result.name for result in comparison.evaluators]
    legend = {"title": None, "orient": "top", "symbolType": "circle"} if len(names) > 1 else None
    return {"field": "evaluator", "type": "nominal", "scale": {"domain": names}, "legend": legend}
