"""The student at work: four-pass scoring of (prompt, image) pairs.

    from dyneval.scorer import Scorer
    scorer = Scorer.from_pretrained("demo")        # or "dyneval-4b", or a checkpoint folder
    records = scorer.score(["cat.png"], ["a cat on a bench"])

Scores are 1-5, higher is better; T2IA and IQA are means over their questions, where those have scores; overall weighs
both by half. `scorer` has the batches, `four_passes` the passes, `students` who replies, `run` the scoring of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyneval.loaded_pairs import Failure, LoadedPair, ScoringError, make_pair
from dyneval.replies import ReplyLimits
from dyneval.scorer.settings import ScorerSettings

if TYPE_CHECKING:
    from dyneval.scorer.scorer import Scorer

__all__ = ["Failure", "LoadedPair", "ReplyLimits", "Scorer", "ScorerSettings", "ScoringError", "make_pair"]


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when the scorer itself is asked for."""
    if name == "Scorer":
        from dyneval.scorer.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
