"""Which pairs become training data, and which prompts are kept back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from dyneval.records import TIERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Curation:
    """A pair is kept when S = 0.5 T2IA + 0.5 IQA is below its tier's delta: flawless pairs teach little.

    Attributes:
        delta: limit of S by tier; 5 for every tier as published.
        heldout: share of the prompts that is kept back, 0-1.
    """

    delta: Mapping[int, float] = field(default_factory=lambda: dict.fromkeys(TIERS, 5.0))
    heldout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.heldout < 1:
            raise ValueError(f"held-out share {self.heldout}: expected at least 0 and below 1")
        for tier, delta in self.delta.items():
            if tier not in TIERS or not 1 < delta <= 6:
                raise ValueError(f"delta {delta} of tier {tier}: expected tiers 1-3 and limits above 1, at most 6")

    def keeps(self, tier: int, t2ia: float, iqa: float) -> bool:
        """True when a pair with these scores (1-5) is training data."""
        return 0.5 * t2ia + 0.5 * iqa < self.delta[tier]

    def holds_out(self, prompt_id: str) -> bool:
        """True when the prompt is kept back with all its images; a function of its id alone, so stable over runs."""
        digest = hashlib.blake2b(prompt_id.encode("utf-8"), digest_size=8, person=b"heldout").digest()
        return int.from_bytes(digest, "big") / 2**64 < self.heldout
