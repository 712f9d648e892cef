"""Near-duplicates: estimated well, verified exactly, and the same whatever the order."""

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.prompts import dedup, minhash
from dyneval.prompts.analysis import shingles
from dyneval.prompts.minhash import PERMUTATIONS

VOCABULARY = [f"w{i}" for i in range(400)]


def keys_of(prompts):
    return np.array([hash(prompt) & (2**63 - 1) for prompt in prompts], np.uint64)


def sets_of(prompts):
    words = [prompt.lower().split() for prompt in prompts]
    return [set(zip(["", *w], w, strict=False)) for w in words]


def jaccard(a, b):
    return len(a & b) / len(a | b)


@pytest.fixture(scope="module")
def corpus():
    """800 prompts: a third fresh, the rest changed in a word or two, and many with the same style at the end."""
    rng = random.Random(3)
    prompts = [" ".join(rng.choices(VOCABULARY, k=rng.randint(8, 30))) for _ in range(270)]
    while len(prompts) < 700:
        words = rng.choice(prompts).split()
        for _ in range(rng.randint(1, 3)):
            words[rng.randrange(len(words))] = rng.choice(VOCABULARY)
        prompts.append(" ".join(words))
    style = " ".join(VOCABULARY[:25])
    prompts += [" ".join(rng.choices(VOCABULARY, k=4)) + " " + style for _ in range(100)]
    return sorted(set(prompts))


def test_signatures_estimate_the_jaccard_similarity(corpus):
    signed, sets = shingles(pl.Series(corpus), 42), sets_of(corpus)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(corpus), (2, 4000))
    exact = np.array([jaccard(sets[i], sets[j]) for i, j in zip(a, b, strict=True)])
    assert minhash.jaccard(signed, a, signed, b) == pytest.approx(exact)
    error = minhash.estimate(signed, a, signed, b) - exact
    some = (exact > 0.05) & (exact < 0.95)
    assert abs(error.mean()) < 0.01
    z = error[some] / np.sqrt(exact[some] * (1 - exact[some]) / PERMUTATIONS)
    assert 0.8 < z.std() < 1.25


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_kept_prompts_are_not_near_and_dropped_ones_are(corpus, threshold):
    signed, sets = shingles(pl.Series(corpus), 42), sets_of(corpus)
    leader = dedup.find_leaders(signed, keys_of(corpus), threshold)
    kept = np.flatnonzero(leader == np.arange(len(corpus)))
    assert set(leader) == set(kept)
    near = [(i, j) for n, i in enumerate(kept) for j in kept[n + 1 :] if jaccard(sets[i], sets[j]) >= threshold]
    possible = sum(jaccard(sets[i], sets[j]) >= threshold for i in range(len(corpus)) for j in range(i))
    assert len(near) <= (1 - dedup.bands_for(threshold).probability(threshold)) * possible
    direct = [jaccard(sets[i], sets[leader[i]]) >= threshold for i in range(len(corpus)) if leader[i] != i]
    assert np.mean(direct) > 0.9  # the others are near to a prompt that is near to their leader


def test_the_order_of_the_input_has_no_say(corpus):
    shuffled = random.Random(1).sample(corpus, len(corpus))
    names = []
    for prompts in (corpus, shuffled):
        leader = dedup.find_leaders(shingles(pl.Series(prompts), 7), keys_of(prompts))
        names.append({prompts[i]: prompts[leader[i]] for i in range(len(prompts))})
    assert names[0] == names[1]


def test_word_order_and_punctuation():
    prompts = [
        "a black cat chasing a white dog over a fence in the garden",
        "A black cat, chasing a white dog over a fence; in the garden!",
        "a white dog chasing a black cat over a fence in the garden",
    ]
    leader = dedup.find_leaders(shingles(pl.Series(prompts), 42), np.array([1, 2, 3], np.uint64))
    assert leader.tolist() == [0, 0, 2]


def test_prompts_without_words_are_kept():
    prompts = ["!" * 30, "?" * 40, "!" * 30 + "?"]
    leader = dedup.find_leaders(shingles(pl.Series(prompts), 42), np.array([3, 2, 1], np.uint64))
    assert leader.tolist() == [0, 1, 2]


def test_bands_find_what_lies_at_the_threshold():
    assert dedup.bands_for(0.8) == (10, 6)
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 1.0):
        assert dedup.bands_for(threshold).probability(threshold) >= 0.95
    with pytest.raises(ValueError, match="threshold"):
        dedup.bands_for(1.5)


def test_matches_with_a_benchmark(corpus):
    benchmark = [corpus[5].upper(), "something else entirely that nobody asked for", corpus[60] + " extra"]
    signed, others = shingles(pl.Series(corpus), 42), shingles(pl.Series(benchmark), 42)
    mine, theirs = dedup.matches(signed, others)
    sets, other_sets = sets_of(corpus), sets_of(benchmark)
    for i, j in zip(mine, theirs, strict=True):
        assert jaccard(sets[i], other_sets[j]) >= 0.8
    found = dict(zip(mine.tolist(), theirs.tolist(), strict=True))
    assert found[5] == 0 and found[60] == 2


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=40, unique=True
    )
)
def test_leaders_are_kept_and_of_lower_key(prompts):
    keys = keys_of(prompts)
    leader = dedup.find_leaders(shingles(pl.Series(prompts), 1), keys, 0.5)
    assert (leader[leader] == leader).all()
    assert (keys[leader] <= keys).all()
