"""Which model draws which prompt, and from which seed.

Both follow from ids alone, not from a prompt's place in the file, from what was drawn before, or from the machine.
Therefore a resumed run, a run that is split over machines and 36 separate runs give the same images. Every change to
the values of this file makes existing folders of images disagree with new runs; `tests/test_hashing.py` pins them.

The model is found by rendezvous hashing: each (prompt, model) pair has a score, and the highest wins. When a model
joins or leaves, only the prompts that it gains or loses move.
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
    """Return the seed of the image that one model makes for one prompt.

    Args:
        prompt_id: of the prompt.
        slug: of the model; two models draw one prompt from different seeds.
        base_seed: another one gives other images of the same prompts.

    Returns:
        A whole number, 0 <= seed < 2**31.
    """
    return number(f"seed\0{base_seed}\0{slug}\0{prompt_id}") % SEED_LIMIT


def prompt_hashes(prompt_ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return one 64-bit hash for each prompt, shape (prompts,): the input of `owners`."""
    return np.fromiter((number(key) for key in prompt_ids), dtype=np.uint64, count=len(prompt_ids))


def owners(hashes: NDArray[np.uint64], slugs: Sequence[str]) -> NDArray[np.intp]:
    """Return for each prompt the index in `slugs` of the model that draws it.

    Args:
        hashes: of `prompt_hashes`, shape (prompts,).
        slugs: the models that share the prompts out; their order changes no owner.

    Returns:
        Indices of shape (prompts,), 0 <= index < len(slugs).
    """
    salts = np.array([number(f"model\0{slug}") for slug in slugs], dtype=np.uint64)
    best = np.zeros(len(hashes), dtype=np.uint64)
    owner = np.zeros(len(hashes), dtype=np.intp)
    for index, salt in enumerate(salts):  # one model at a time: 500,000 x 36 scores at once would take 144 MB
        score = mixed(hashes ^ salt)
        better = score > best
        best[better], owner[better] = score[better], index
    return owner
