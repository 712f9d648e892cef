"""The chart of T2I models against each other, a square map with a row and a column for each model."""

from __future__ import annotations

from dyneval.evaluation.leaderboard import Board
from dyneval.evaluation.report.base import NAMES, ROW, Chart, heat_color, rounded, top
from dyneval.structs import Row


def win_map(board: Board) -> Chart:
    """Win rate of each model (row) against each other one (column), best model first."""
    names = [row.model for row in board.rows]
    values: list[Row] = []
    for duel in board.duels:
        rate = duel.win_rate
        low, high = (rate.value if end is None else end for end in (rate.low, rate.high))
        sure = rate.low is not None and not (low or 0) <= 0.5 <= (high or 0)
        # The map is square, so each pair stands in it twice; from the other side wins are losses, and the ends swap.
        for first, second, *ends in (
            (duel.first, duel.second, rate.value, low, high),
            (duel.second, duel.first, *(None if end is None else 1 - end for end in (rate.value, high, low))),
        ):
            shown = dict(zip(("rate", "low", "high"), map(rounded, ends), strict=True))
            values.append({"model": first, "against": second, **shown, "prompts": duel.prompts, "sure": sure})
    axis = {"type": "nominal", "sort": names, "axis": NAMES}
    spec = {
        "data": {"values": values},
        "width": {"step": ROW + 1},
        "height": {"step": ROW},
        "mark": {"type": "rect", "cornerRadius": 1},
        "encoding": {
            "y": {**axis, "field": "model"},
            "x": {**axis, "field": "against", "axis": {**NAMES, "labelAngle": -55}},
            "color": heat_color("rate", "Win rate", (0, 1)),
            "opacity": {"condition": {"test": "datum.sure", "value": 1}, "value": 0.4},
            "tooltip": [
                {"field": "model", "title": "Model"},
                {"field": "against", "title": "Against"},
                {"field": "rate", "title": "Win rate", "format": ".3f"},
                {"field": "low", "title": "95 % from", "format": ".3f"},
                {"field": "high", "title": "95 % to", "format": ".3f"},
                {"field": "prompts", "title": "Prompts"},
            ],
        },
    }
    caption = (
        "How often a model (row) has the better image than another (column) on a prompt that both have, 0-1; a tie "
        "counts half. Pale fields: the 95 % interval holds 0.5."
    )
    return Chart("head-to-head", "Model against model", caption, top(spec), wide=True)
