"""Which model draws which prompt, and from which seed: functions of ids alone.

Neither depends on a prompt's place in the file, on what was drawn before, or on the machine, so that a resumed run, a
run split over machines and 36 separate runs agree. The model is found by rendezvous hashing: each (prompt, model) pair
has a score and the highest wins, so a model that joins or leaves moves only the prompts it gains or loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dyneval.hashing import mixed, number

Allocation = Literal["share", "all"]
"""share: a prompt goes to one model of its tier (GenDB); all: to every one of them (a benchmark)."""


SEED_LIMIT = 2**31
"""Seeds stay below this, the smallest range among the models (a signed 32-bit integer)."""


def image_seed(prompt_id: str, slug: str, base_seed: int) -> int:
    """Seed of the image that model `slug` makes for a prompt, 0 <= seed < 2**31."""
    return number(f"seed\0{base_seed}\0{slug}\0{prompt_id}") % SEED_LIMIT


def prompt_hashes(prompt_ids: Sequence[str]) -> NDArray[np.uint64]:
    """One 64-bit hash for each prompt; input of `owners`."""
    return np.fromiter((number(key) for key in prompt_ids), dtype=np.uint64, count=len(prompt_ids))


def owners(hashes: NDArray[np.uint64], slugs: Sequence[str]) -> NDArray[np.intp]:
    """For each prompt the index in `slugs` of the model that draws it; the order of `slugs` changes no owner."""
    salts = np.array([number(f"model\0{slug}") for slug in slugs], dtype=np.uint64)
    best = np.zeros(len(hashes), dtype=np.uint64)
    owner = np.zeros(len(hashes), dtype=np.intp)
    for index, salt in enumerate(salts):  # one model at a time: 500,000 x 36 scores at once would take 144 MB
        score = mixed(hashes ^ salt)
        better = score > best
        best[better], owner[better] = score[better], index
    return owner
