"""Decides which pairs become training data, and which prompts are held out.

The split must not change from build to build: a student that is compared with an earlier one must not have seen the
held-out prompts of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dyneval.errors import SettingError
from dyneval.hashing import number
from dyneval.records import TIERS, prompt_id

PUBLISHED_DELTA = 5.0
"""Limit of S for every tier in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curation:
    """Keep a pair for training if its overall score S = 0.5 T2IA + 0.5 IQA is below the limit of its tier.

    Nearly every answer about a flawless image is "5", so such pairs add little. The paper uses 5.0 for all tiers, which
    drops only perfect pairs.

    Attributes:
        delta: limit of S by tier; 5 for every tier as published.
        untiered: limit of S of pairs whose tier nobody knows.
        heldout: share of the prompts that is kept back, 0-1.
    """

    delta: Mapping[int, float] = field(default_factory=lambda: dict.fromkeys(TIERS, PUBLISHED_DELTA))
    untiered: float = PUBLISHED_DELTA
    heldout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.heldout < 1:
            raise SettingError(f"held-out share {self.heldout}: expected at least 0 and below 1")
        for tier, delta in (*self.delta.items(), (None, self.untiered)):
            # S is 1-5 and the limit is exclusive: with 1 nothing would be kept, above 5 everything is.
            if tier not in (*TIERS, None) or not 1 < delta <= 6:
                raise SettingError(f"delta {delta} of tier {tier}: expected tiers 1-3 and limits above 1, at most 6")

    def keeps(self, tier: int | None, overall: float | None) -> bool:
        """True when a pair with this S (1-5) is training data. One without S is: nothing says that it is flawless."""
        return overall is None or overall < self.limit(tier)

    def limit(self, tier: int | None) -> float:
        """The limit of S for pairs of a tier, or of none."""
        return self.untiered if tier is None else self.delta[tier]

    def holds_out(self, prompt: str) -> bool:
        """True when a prompt is held out with all its images; a function of its text alone, so stable over runs."""
        # Not of the prompt_id in the data: two images of a prompt may have questions, and so prompt ids, of their own.
        return number(prompt_id(prompt.strip()), "heldout") / 2**64 < self.heldout
