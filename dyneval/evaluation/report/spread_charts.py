"""Charts of how scores spread over images and over the years in which models became public.

A mean hides whether a model is even or draws some images well and others badly; the strips show it.
"""

from __future__ import annotations

import numpy as np

from dyneval.evaluation.leaderboard import Board
from dyneval.evaluation.report.base import GREY, NAMES, ROW, Chart, rounded, score_axis, tier_color, top
from dyneval.evaluation.scored import ScoredSet

BINS = 20
"""Columns of a distribution between 1 and 5."""


def distributions(board: Board, scored: ScoredSet) -> Chart:
    """Share of a model's images at each score, one strip a model, with the median."""
    models, ranked = scored.model_of, np.frombuffer(scored.ranked)
    by_model = {scored.models[name].name: ranked[models.codes == number] for number, name in enumerate(models.things)}
    color = tier_color([tier.tier for tier in board.tiers])
    edges = np.linspace(1, 5, BINS + 1)
    values, medians = [], []
    for row in board.rows:
        scores = by_model[row.model]
        shares = np.histogram(scores, edges)[0] / len(scores)
        medians.append({"model": row.model, "tier": row.tier, "median": rounded(float(np.median(scores)))})
        values += [
            {
                "model": row.model,
                "tier": row.tier,
                "from": round(float(a), 2),
                "to": round(float(b), 2),
                "share": rounded(s),
            }
            for a, b, s in zip(edges[:-1], edges[1:], shares, strict=True)
            if s > 0
        ]
    y = {
        "field": "model",
        "type": "nominal",
        "sort": [row.model for row in board.rows],
        "axis": NAMES,
    }
    strips = {
        "data": {"values": values},
        "mark": {"type": "bar", "height": {"band": 0.72}},
        "encoding": {
            "y": y,
            "x": {**score_axis(f"{board.label} score of an image (1–5)"), "field": "from"},
            "x2": {"field": "to"},
            **color,
            "opacity": {
                "field": "share",
                "type": "quantitative",
                "scale": {"range": [0.06, 1], "type": "sqrt"},
                "legend": None,
            },
            "tooltip": [
                {"field": "model", "title": "Model"},
                {"field": "from", "title": "From"},
                {"field": "to", "title": "To"},
                {"field": "share", "title": "Share of images", "format": ".1%"},
            ],
        },
    }
    ticks = {
        "data": {"values": medians},
        "mark": {"type": "tick", "thickness": 2, "height": {"band": 0.95}},
        "encoding": {
            "y": y,
            "x": {**score_axis(f"{board.label} score of an image (1–5)"), "field": "median"},
            "tooltip": [{"field": "median", "title": "Median"}],
        },
    }
    spec = {"width": "container", "height": ROW * len(board.rows), "layer": [strips, ticks]}
    caption = "Darker means more images at that score; the tick is the median."
    return Chart("distributions", "How scores spread", caption, top(spec))


def year_trend(board: Board) -> Chart:
    """Normalised score over the year in which a model became public; the line joins each year's best."""
    known = [row for row in board.rows if row.year is not None]
    values = [
        {
            "model": row.model,
            "year": row.year,
            # Shifted by up to 5/18 of a year, in an order without pattern, so that models of one year and score stay
            # apart.
            "when": row.year + ((number * 7) % 11 - 5) / 18 if row.year else None,
            "tier": row.tier,
            "score": rounded(row.normalised),
        }
        for number, row in enumerate(known)
    ]
    years = sorted({row.year for row in known if row.year})
    best = [max((v for v in values if v["year"] == year), key=lambda v: v["score"]) for year in years]
    x = {
        "field": "when",
        "type": "quantitative",
        "scale": {"domain": [years[0] - 0.5, years[-1] + 0.5], "nice": False},
        "axis": {"title": None, "values": years, "format": "d", "grid": False, "ticks": False, "domain": False},
    }
    y = {
        "field": "score",
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": f"{board.label} score (0–1)", "tickCount": 5, "domain": False},
    }
    tooltip = [
        {"field": "model", "title": "Model"},
        {"field": "year", "title": "Public since"},
        {"field": "score", "title": f"{board.label} (0–1)", "format": ".3f"},
    ]
    layers = [
        {
            "data": {"values": best},
            "mark": {"type": "line", "strokeWidth": 1.5, "strokeDash": [3, 3], "opacity": 0.6, "color": GREY},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "point", "size": 64, "opacity": 0.9},
            "encoding": {"x": x, "y": y, **tier_color([tier.tier for tier in board.tiers]), "tooltip": tooltip},
        },
        {
            "data": {"values": best},
            "mark": {"type": "text", "dy": -12, "fontSize": 10.5, "limit": 160},
            "encoding": {"x": x, "y": y, "text": {"field": "model"}},
        },
    ]
    spec = {"data": {"values": values}, "width": "container", "height": 300, "layer": layers}
    caption = "Each model at the year in which it became public; the line joins the best of each year."
    return Chart("years", "Progress over the years", caption, top(spec))
