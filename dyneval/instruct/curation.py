"""Which pairs become training data, and which prompts are kept back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dyneval.errors import SettingError
from dyneval.hashing import number
from dyneval.records import TIERS, prompt_id

PUBLISHED_DELTA = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Curation:
    """A pair is kept when S = 0.5 T2IA + 0.5 IQA is below its tier's delta: flawless pairs teach little.

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
            if tier not in (*TIERS, None) or not 1 < delta <= 6:
                raise SettingError(f"delta {delta} of tier {tier}: expected tiers 1-3 and limits above 1, at most 6")

    def keeps(self, tier: int | None, overall: float | None) -> bool:
        """True when a pair with this S (1-5) is training data; where S is unknown, nothing says that it is flawless."""
        return overall is None or overall < self.limit(tier)

    def limit(self, tier: int | None) -> float:
        """The limit of S for pairs of a tier, or of none."""
        return self.untiered if tier is None else self.delta[tier]

    def holds_out(self, prompt: str) -> bool:
        """True when a prompt is kept back with all its images; a function of its text alone, so stable over runs.

        Ids do not decide: two images of a prompt may have questions, and so prompt ids, of their own.
        """
        return number(prompt_id(prompt.strip()), "heldout") / 2**64 < self.heldout
