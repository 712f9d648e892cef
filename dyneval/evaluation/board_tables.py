"""The tables of a leaderboard: models, tier averages, sub-categories, pairs of models, proposed tiers.

They only write figures of a `Board` as text; each heading says the scale of its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.head_to_head import Duel
from dyneval.evaluation.leaderboard import Board, Cell, ModelRow, TierRow
from dyneval.evaluation.tables import Table, estimate, signed
from dyneval.evaluation.tiers import TierProposal

_DASH = "–"


def models_table(board: Board) -> Table:
    """One row a model: rank and its range, the ranked score 0-1 and 1-5 with interval, T2IA, IQA, gaps."""
    ranked = [f"{board.ranked_by} ({scale})" for scale in ("0-1", "1-5")]
    headings = ["model", "rank", "95 %", "tier", *ranked, "T2IA (1-5)", "IQA (1-5)"]
    rows = [
        [
            row.model,
            str(row.rank),
            rank_range(row),
            str(row.tier or _DASH),
            f"{row.normalised:.3f}",
            score(row.ranked),
            score(row.scores["t2ia"]),
            score(row.scores["iqa"]),
            # A table of published scores has no counts.
            str(row.images or _DASH),
            str(row.missing or ""),
        ]
        for row in board.rows
    ]
    # LaTeX sets the best of these columns in bold; the others hold no scores.
    return Table([*headings, "images", "missing"], rows, tuple(board.notes), best=(4, 5, 6, 7))


def duels_table(duels: Sequence[Duel]) -> Table:
    """One row for every two models: how often the first is better on a prompt that both have."""
    rows = [
        [
            duel.first,
            duel.second,
            *(f"{number:,}" for number in (duel.prompts, duel.wins, duel.ties, duel.losses)),
            estimate(duel.win_rate, 3),
            signed(duel.difference, 3),
        ]
        for duel in duels
    ]
    headings = ["model", "against", "prompts", "wins", "ties", "losses", "win rate", "mean difference (1-5)"]
    return Table(headings, rows, ("win rate: share of the prompts that both have, a tie counts half; 95 % intervals",))


def neighbours(board: Board) -> list[Duel]:
    """The duels of each model with the next one on the board; two that share no prompt have none."""
    names = [row.model for row in board.rows]
    found = {(duel.first, duel.second): duel for duel in board.duels}
    return [found[pair] for pair in pairwise(names) if pair in found]


def tier_table(board: Board) -> Table:
    """Mean and sample standard deviation of each tier's normalised scores."""
    rows = [[f"Tier {row.tier}", str(row.models), tier_average(row)] for row in board.tiers]
    return Table(["tier", "models", "overall (0-1), mean ± sd"], rows)


def dimensions_table(board: Board) -> Table:
    """One row a model, one column a dimension (1-5)."""
    rows = [[row.model, *(cell(row.dimensions[name]) for name in board.dimensions)] for row in board.rows]
    return Table(["model", *board.dimensions], rows, best=tuple(range(1, len(board.dimensions) + 1)))


def categories_table(board: Board) -> Table:
    """One row a model, one column a sub-category (1-5)."""
    names = [name for names in board.dimensions.values() for name in names]
    return Table(
        ["model", *names], [[row.model, *(cell(row.categories[name]) for name in names)] for row in board.rows]
    )


def proposal_table(proposals: Sequence[TierProposal]) -> Table:
    """Each model's tier now and as proposed."""
    rows = [
        [
            found.model,
            found.slug,
            str(found.current or _DASH),
            str(found.proposed),
            f"{found.score:.3f}",
            _DASH if found.support is None else f"{found.support:.0%}",
        ]
        for found in proposals
    ]
    return Table(["model", "slug", "tier", "proposed tier", "overall (0-1)", "support"], rows)


def rank_range(row: ModelRow) -> str:
    """Write the ranks that a model takes in 95 % of the resamples."""
    return _DASH if row.rank_low is None else f"{row.rank_low}–{row.rank_high}"


def score(value: Estimate) -> str:
    """Write a mean score (1-5) with its interval, such as `3.91 [3.80, 4.02]`; a dash where there is none."""
    if value.value is None:
        return _DASH
    return f"{value.value:.2f}" + (f" [{value.low:.2f}, {value.high:.2f}]" if value.low is not None else "")


def cell(value: Cell) -> str:
    """Write the score of a category; a gap stays empty."""
    return "" if value.value is None else f"{value.value:.2f}"


def tier_average(row: TierRow) -> str:
    """Write a tier's average with four digits: published scores have three, which leaves the fourth uncertain."""
    return f"{row.mean:.4f}" + ("" if row.deviation is None else f" ± {row.deviation:.4f}")
