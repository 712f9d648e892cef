"""Which charts a leaderboard's data allow, in the order of the page."""

from __future__ import annotations

from dyneval.evaluation.leaderboard import Board
from dyneval.evaluation.report.base import Chart
from dyneval.evaluation.report.duel_charts import win_map
from dyneval.evaluation.report.skill_charts import hardest_skills, heat_map, tier_bars
from dyneval.evaluation.report.spread_charts import distributions, year_trend
from dyneval.evaluation.scored import ScoredSet


def board_charts(board: Board, scored: ScoredSet | None = None) -> list[Chart]:
    """Return the charts that a board's data allow, in the order of the page."""
    # From what most readers look for first to the details; what the data do not allow is left out.
    charts = []
    if board.dimensions:
        charts.append(heat_map(board))
    if board.dimensions and board.tiers:
        charts += [tier_bars(board), hardest_skills(board)]
    if board.duels:
        charts.append(win_map(board))
    if scored is not None:
        charts.append(distributions(board, scored))
    if sum(row.year is not None for row in board.rows) > 1:
        charts.append(year_trend(board))
    return charts
