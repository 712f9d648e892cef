"""Who draws what, and from which seed, depends on ids alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.files.parts import Shard
from dyneval.generation import allocation
from dyneval.records import prompt_id

IDS = [prompt_id(f"prompt {n}") for n in range(20_000)]
HASHES = allocation.prompt_hashes(IDS)
SLUGS = [f"model-{n}" for n in range(19)]


def test_models_and_categories_are_balanced():
    owner = allocation.owners(HASHES, SLUGS)
    share = len(IDS) / len(SLUGS)
    counts = np.bincount(owner, minlength=len(SLUGS))
    assert np.abs(counts - share).max() < 5 * np.sqrt(share)
    category = np.arange(len(IDS)) % 10  # any label that the hash does not see
    table = np.histogram2d(owner, category, bins=(len(SLUGS), 10))[0]
    assert np.abs(table - share / 10).max() < 5 * np.sqrt(share / 10)


@settings(max_examples=30)
@given(st.permutations(SLUGS[:6]), st.permutations(range(200)))
def test_no_order_changes_an_owner(slugs, order):
    names = np.array(SLUGS[:6])[allocation.owners(HASHES[:200], SLUGS[:6])]
    shuffled = np.array(slugs)[allocation.owners(HASHES[:200][list(order)], slugs)]
    assert (shuffled == names[list(order)]).all()


def test_a_new_model_moves_only_the_prompts_it_gets():
    before = np.array(SLUGS)[allocation.owners(HASHES, SLUGS)]
    after = np.array([*SLUGS, "new"])[allocation.owners(HASHES, [*SLUGS, "new"])]
    moved = before != after
    assert (after[moved] == "new").all()
    assert 0.03 < moved.mean() < 0.07


def test_shards_are_disjoint_complete_and_independent_of_the_owner():
    masks = [np.array([Shard(part, 4).holds(key) for key in IDS]) for part in (1, 2, 3, 4)]
    assert (np.sum(masks, axis=0) == 1).all()
    owner = allocation.owners(HASHES, SLUGS[:4])
    table = np.histogram2d(owner, np.argmax(masks, axis=0), bins=4)[0]
    assert np.abs(table - 1250).max() < 180


def test_a_seed_depends_on_prompt_model_and_base_seed_alone():
    seed = allocation.image_seed("P1", "sdxl", 0)
    assert seed == allocation.image_seed("P1", "sdxl", 0)
    others = {allocation.image_seed(*key) for key in (("P2", "sdxl", 0), ("P1", "sana", 0), ("P1", "sdxl", 1))}
    assert seed not in others
    assert len(others) == 3
    assert all(0 <= s < 2**31 for s in others)


def test_owners_and_seeds_stay_what_they_were():
    """A change here would draw every GenDB anew."""
    assert allocation.image_seed("Pabc", "sdxl", 0) == 1133482512
    assert allocation.owners(HASHES[:8], ["a", "b", "c"]).tolist() == [0, 2, 0, 2, 2, 1, 2, 0]
