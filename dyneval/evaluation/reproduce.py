"""Figures that are measured here beside those of the paper: value, interval, difference.

`dyneval reproduce` scores the images and runs the benchmark or the leaderboard. This module makes the tables of
`dyneval.evaluation.paper` from what they return.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from dyneval.evaluation import published
from dyneval.evaluation.bootstrap import ClusterBootstrap, Estimate, FloatArray
from dyneval.evaluation.comparison import EvaluatorComparison
from dyneval.evaluation.leaderboard import Board
from dyneval.evaluation.scores import read_records
from dyneval.evaluation.tables import Table, estimate, number
from dyneval.records import normalised_score

QUESTIONS = {(1, 5): 14.2, (6, 10): None, (11, 15): None, (16, 20): 66.6}
"""Quality questions on average by number of objects in an image, as published for the first and the last range."""
NOTE = "*: the published value lies outside the 95 % interval of what is measured here"
_DASH = "–"

AGREEMENT_HEADINGS = [
    "benchmark", "images", "published", "SRCC published", "SRCC here", "difference", "PLCC published", "PLCC here",
    "difference",
]  # fmt: skip


def agreement_row(found: EvaluatorComparison, evaluator: str) -> list[str]:
    """The row of a benchmark: what the paper has for `evaluator`, and what the first evaluator here has."""
    paper = next((row for row in found.published if row.evaluator == evaluator), None)
    ours = found.evaluators[0].agreement
    cells = [found.rated.benchmark.title, f"{ours.items:,}", f"{paper.pairs:,}" if paper else _DASH]
    for theirs, here in ((paper and paper.srcc, ours.srcc), (paper and paper.plcc, ours.plcc)):
        cells += [_DASH if theirs is None else number(theirs), estimate(here), _difference(here, theirs, 4)]
    return cells


def models_table(board: Board) -> Table:
    """The overall score of each T2I model, 0-1, beside that of the paper."""
    rows = []
    for row in board.rows:
        paper = published.find_model(row.model)
        theirs = paper.paper_score if paper else None
        score = row.scores["overall"]
        value, low, high = (
            None if end is None else normalised_score(end) for end in (score.value, score.low, score.high)
        )
        here = Estimate(value, low, high, score.reason)
        shown = _DASH if theirs is None else number(theirs, 3)
        rows.append([row.model, f"{row.images:,}", shown, estimate(here, 3), _difference(here, theirs, 3)])
    absent = len(published.models()) - sum(1 for row in board.rows if published.find_model(row.model))
    notes = (f"{absent} of the {len(published.models())} models of the paper have no images here",) if absent else ()
    return Table(["T2I model", "images", "published", "here", "difference"], rows, (*board.notes, *notes))


def tiers_table(board: Board) -> Table:
    """Mean and sample deviation of the normalised scores of each tier's models, here and in the paper."""
    rows = []
    for tier in board.tiers:
        theirs = [model.paper_score or 0 for model in published.models() if model.tier == tier.tier]
        # From the paper's scores of three digits. Its text has 0.041 as the deviation of tier 1, and these give 0.040.
        mean = float(np.mean(theirs))
        here = number(tier.mean, 3) + ("" if tier.deviation is None else f" ± {number(tier.deviation, 3)}")
        paper = f"{number(mean, 3)} ± {number(float(np.std(theirs, ddof=1)), 3)}"
        counted = f"{tier.models} of {len(theirs)}"
        rows.append([f"Tier {tier.tier}", counted, paper, here, _difference(Estimate(tier.mean), mean, 3)])
    return Table(["tier", "models", "published", "here", "difference"], rows, tuple(board.notes))


def questions_table(scores: Path, *, resamples: int = 1000, seed: int = 0) -> Table:
    """Quality questions on average by number of objects in the scene graph of an image; intervals over prompts.

    Args:
        scores: file of ScoreRecords; those without a scene graph or without quality questions are passed over.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Raises:
        DataFileError, SchemaError: the file cannot be read, or a row is no ScoreRecord.
    """
    counts = [
        (len(record.scene_graph.nodes), len(record.iqa_questions), record.prompt)
        for record in read_records(scores)
        if record.scene_graph is not None and record.iqa_questions is not None
    ]
    rows, notes = [], []
    for (low, high), theirs in QUESTIONS.items():
        inside = [(questions, prompt) for objects, questions, prompt in counts if low <= objects <= high]
        here = Estimate(None, reason="no image has so many objects")
        if inside:
            bootstrap = ClusterBootstrap([prompt for _, prompt in inside], resamples, seed)
            asked = np.array([questions for questions, _ in inside], np.float64)
            here = Estimate.from_resamples(bootstrap.over_items(partial(_mean, asked)), bootstrap.clusters)
        notes += [f"{low}-{high} objects: {here.reason}"] if inside and here.reason else []
        shown = _DASH if theirs is None else f"{theirs:.1f}"
        rows.append([f"{low}-{high}", f"{len(inside):,}", shown, estimate(here, 1), _difference(here, theirs, 1)])
    return Table(["objects", "images", "published", "here", "difference"], rows, tuple(notes))


def _mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of (items,) values in every resample, by (resamples, items) weights."""
    return np.asarray(weights @ values / weights.sum(axis=1))


def _difference(here: Estimate, published: float | None, digits: int) -> str:
    """What is measured here minus what is published; marked where the published value is outside the interval."""
    if here.value is None or published is None:
        return _DASH
    apart = here.value - published
    # With the minus sign of tables, and without the leading zero, as `tables.number` writes coefficients.
    text = ("+" if apart >= 0 else "\u2212") + f"{abs(apart):.{digits}f}".removeprefix("0" if abs(apart) < 1 else "")
    # Without an interval nothing can be said of it.
    is_outside = here.low is not None and here.high is not None and not here.low <= published <= here.high
    return text + (" *" if is_outside else "")
