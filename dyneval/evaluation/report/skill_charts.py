"""Charts of what T2I models can do: heat map of sub-categories, dimensions by tier, the hardest skills.

A skill is a sub-category of prompts. A field without an image stays empty: a colour for it would be a score.
"""

from __future__ import annotations

import numpy as np

from dyneval.evaluation.leaderboard import Board
from dyneval.evaluation.report.base import NAMES, ROW, Chart, heat_color, rounded, score_axis, tier_color, top
from dyneval.structs import Row

# Breaks a dimension's name into lines, but not before its ampersand.
_DIMENSION_LINES = "split(replace(datum.label, ' & ', '\u00a0&~'), /[ ~]/)"
# Width of a column of the heat map, and what is between two dimensions; pixels.
_STEP, _SPACE = 19, 8
# Width of a bold letter of a head, pixels.
_LETTER = 6.6


def heat_map(board: Board) -> Chart:
    """Model x sub-category, grouped by dimension; an empty field is a gap."""
    values = [
        {
            "model": row.model,
            "dimension": dimension,
            "skill": name,
            "score": rounded(row.categories[name].value),
            "images": row.categories[name].images or None,
        }
        for row in board.rows
        for dimension, names in board.dimensions.items()
        for name in names
    ]
    order = [name for names in board.dimensions.values() for name in names]
    rect = {
        "mark": {"type": "rect", "cornerRadius": 1},
        "width": {"step": _STEP},
        "height": {"step": ROW},
        "encoding": {
            "x": {
                "field": "skill",
                "type": "nominal",
                "sort": order,
                "axis": {**NAMES, "labelAngle": -55},
            },
            "y": {
                "field": "model",
                "type": "nominal",
                "sort": [row.model for row in board.rows],
                "axis": NAMES,
            },
            "color": heat_color("score"),
            "tooltip": [
                {"field": "model", "title": "Model"},
                {"field": "skill", "title": "Skill"},
                {"field": "score", "title": "Score", "format": ".2f"},
                *([{"field": "images", "title": "Images"}] if any(row["images"] for row in values) else []),
            ],
        },
    }
    spec = {
        "data": {"values": values},
        "transform": [{"filter": "isValid(datum.score)"}],
        "spacing": _SPACE,
        "bounds": "flush",
        **_heads(board, rect),
        "resolve": {"scale": {"x": "independent"}},
    }
    caption = "Mean score of each model in each sub-category (1–5), best model on top. Empty fields hold no image."
    return Chart("heat-map", "What each model can and cannot do", caption, top(spec), wide=True)


def _heads(board: Board, rect: Row) -> Row:
    """The fields by dimension, its name in lines above; the names slanted where one is wider than its columns."""
    by_dimension = {"field": "dimension", "type": "nominal", "sort": list(board.dimensions)}
    is_tight = any(
        max(map(len, name.replace(" & ", "_& ").split())) * _LETTER > len(skills) * _STEP + _SPACE
        for name, skills in board.dimensions.items()
    )
    if not is_tight:
        header = {"labelExpr": _DIMENSION_LINES, "labelLineHeight": 13}
        return {"facet": {"column": {**by_dimension, "header": header}}, "spec": rect}
    # Vega-Lite centres a slanted head in the space of the longest one, so it is drawn as a mark instead.
    head = {
        "transform": [{"aggregate": [], "groupby": ["dimension"]}],
        "mark": {"type": "text", "angle": -40, "align": "left", "baseline": "bottom", "x": 6, "y": -5, "limit": 160}
        | {"fontWeight": 600},
        "encoding": {"text": {"field": "dimension"}},
    }
    size = {name: rect.pop(name) for name in ("width", "height")}
    return {
        "facet": {"column": {**by_dimension, "header": {"labels": False}}},
        "spec": {**size, "layer": [rect, head]},
    }


def tier_bars(board: Board) -> Chart:
    """Mean score of each tier's models in each dimension."""
    values = _tier_values(board, list(board.dimensions), dimension=True)
    spec = {
        "data": {"values": values},
        "width": "container",
        "height": (14 + 16 * len(board.tiers)) * len(board.dimensions),
        "mark": {"type": "bar", "cornerRadiusEnd": 2, "height": {"band": 0.86}},
        "encoding": {
            "y": {
                "field": "skill",
                "type": "nominal",
                "sort": list(board.dimensions),
                "axis": NAMES,
                "scale": {"paddingInner": 0.28},
            },
            "yOffset": {"field": "tier", "type": "ordinal"},
            "x": score_axis("Mean score (1–5)"),
            # The lowest score is 1; without this a bar would begin at 0, left of the axis.
            "x2": {"datum": 1},
            **tier_color([tier.tier for tier in board.tiers]),
            "tooltip": _tier_tooltip("Dimension"),
        },
    }
    caption = "Mean over the models of a tier."
    return Chart("tiers", "Skills by tier", caption, top(spec))


def hardest_skills(board: Board, count: int = 12) -> Chart:
    """The sub-categories with the lowest mean over all models, by tier."""
    # Infinity puts a sub-category that no image has behind all others.
    means = {
        name: np.mean(
            [cell.value for row in board.rows if (cell := row.categories[name]).value is not None] or [np.inf]
        )
        for names in board.dimensions.values()
        for name in names
    }
    hardest = sorted(means, key=lambda name: float(means[name]))[:count]
    values = _tier_values(board, hardest, dimension=False)
    encoding = {
        "y": {
            "field": "skill",
            "type": "nominal",
            "sort": hardest,
            "axis": NAMES,
        },
        "x": score_axis("Mean score (1–5)"),
    }
    span = {
        "mark": {"type": "rule", "strokeWidth": 5, "strokeCap": "round", "opacity": 0.16},
        "encoding": {
            **encoding,
            "x": {**encoding["x"], "aggregate": "min"},
            "x2": {"field": "score", "aggregate": "max"},
        },
    }
    dots = {
        "mark": {"type": "point", "size": 90, "opacity": 1},
        "encoding": {
            **encoding,
            **tier_color([tier.tier for tier in board.tiers]),
            "tooltip": _tier_tooltip("Sub-category"),
        },
    }
    spec = {"data": {"values": values}, "width": "container", "height": 26 * len(hardest), "layer": [span, dots]}
    caption = f"The {len(hardest)} sub-categories with the lowest mean over all models, hardest on top."
    return Chart("hardest", "Where models fail", caption, top(spec))


def _tier_values(board: Board, names: list[str], *, dimension: bool) -> list[Row]:
    """Mean score (1-5) of each tier's models in each of these dimensions or sub-categories, where any has a score."""
    values = []
    for name in names:
        for tier in board.tiers:
            cells = [
                (row.dimensions if dimension else row.categories)[name] for row in board.rows if row.tier == tier.tier
            ]
            scores = [cell.value for cell in cells if cell.value is not None]
            if scores:
                mean = rounded(float(np.mean(scores)))
                values.append({"skill": name, "tier": tier.tier, "score": mean, "models": len(scores)})
    return values


def _tier_tooltip(title: str) -> list[dict[str, str]]:
    return [
        {"field": "skill", "title": title},
        {"field": "tier", "title": "Tier"},
        {"field": "score", "title": "Mean score", "format": ".2f"},
        {"field": "models", "title": "Models"},
    ]
