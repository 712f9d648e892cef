"""Tiers: 1 hard, 2 medium, 3 easy, from the complexity H of each prompt."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.errors import SettingError
from dyneval.prompts.complexity import Floats

TierMode = Literal["threshold", "rank"]
TIER_MODES: tuple[TierMode, ...] = ("threshold", "rank")
TAU_1, TAU_2 = 200.0, 100.0
"""Published thresholds: tier 1 from H = 200 on, tier 2 from H = 100 on, tier 3 below."""
NO_TIER = 0

Tiers = npt.NDArray[np.uint8]


def by_threshold(complexity: Floats, tau_1: float = TAU_1, tau_2: float = TAU_2) -> Tiers:
    """Tier of each prompt: 1 where H >= tau_1, 2 where tau_2 <= H < tau_1, 3 below.

    Raises:
        SettingError: tau_1 is not above tau_2.
    """
    if tau_1 <= tau_2:
        raise SettingError(f"tau_1 = {tau_1:g} has to be above tau_2 = {tau_2:g}")
    return np.where(complexity >= tau_1, 1, np.where(complexity >= tau_2, 2, 3)).astype(np.uint8)


def by_rank(complexity: Floats, order_keys: npt.NDArray[np.uint64]) -> Tiers:
    """Tiers as the public script cuts them, after ranking by falling H.

    Tier 1 is the upper half of the top third, tier 2 the middle third, tier 3 the lower half of the bottom third; the
    rest gets 0, no tier. `order_keys`, distinct per prompt, decide between equal H, whatever the input's order.
    """
    count = len(complexity)
    third = count // 3
    ranking = np.lexsort((order_keys, -complexity))
    tiers = np.full(count, NO_TIER, np.uint8)
    tiers[ranking[: third // 2]] = 1
    tiers[ranking[third : 2 * third]] = 2
    tiers[ranking[2 * third + (count - 2 * third) // 2 :]] = 3
    return tiers


def in_order(prompts: pl.DataFrame, mode: TierMode, seed: int) -> pl.DataFrame:
    """Order prompts (columns tier, complexity, prompt_id) as they are written, tier by tier.

    With thresholds each tier is in the order of the ids. They are hashes of the texts, so this is a shuffle that does
    not depend on the input's order: any first n lines of a tier file are a fair sample of it. With ranks tiers 1 and 3
    are in the order of falling H and tier 2 is shuffled with `seed`, as the public script has it.
    """
    if mode == "threshold":
        return prompts.sort("tier", "prompt_id")
    ranked = prompts.sort(["tier", "complexity", "prompt_id"], descending=[False, True, False])
    parts = ranked.partition_by("tier", maintain_order=True, as_dict=True)
    middle = parts.get((2,))
    if middle is not None:
        parts[(2,)] = middle.sample(fraction=1.0, shuffle=True, seed=seed)
    return pl.concat(parts.values()) if parts else ranked
