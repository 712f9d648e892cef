"""A selection covers tiers and categories evenly, repeats little, and does not depend on the input's order."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.prompts import selection
from dyneval.prompts.analysis import shingles


@pytest.fixture(scope="module")
def pool():
    """3,000 prompts: half of them variations of five texts, categories as uneven as in reality."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(600)]
    same = [" ".join(rng.choice(words, 20)) for _ in range(5)]
    prompts = [f"{same[i % 5]} {i}" for i in range(1500)] + [" ".join(rng.choice(words, 20)) for _ in range(1500)]
    labels = np.zeros(3000, np.uint64)
    for bit in range(12):
        labels |= (rng.random(3000) < 0.9 / 1.8**bit).astype(np.uint64) << np.uint64(bit)
    tiers = rng.choice([1, 2, 3], 3000, p=[0.1, 0.3, 0.6]).astype(np.uint8)
    keys = rng.permutation(3000).astype(np.uint64) * np.uint64(7919)
    return tiers, labels, shingles(pl.Series(prompts), 42).signatures, keys


def coverage(labels):
    return np.array([((labels >> np.uint64(bit)) & np.uint64(1)).sum() for bit in range(12)])


def test_tiers_and_rare_categories_are_filled(pool):
    tiers, labels, _, _ = pool
    chosen = selection.select(600, *pool, seed=42)
    assert chosen.sum() == 600
    assert np.bincount(tiers[chosen], minlength=4)[1:].tolist() == [200, 200, 200]
    chance = coverage(labels) * 600 / 3000
    assert coverage(labels[chosen])[-3:].sum() > 2 * chance[-3:].sum()


def test_near_repeats_are_avoided(pool):
    chosen = selection.select(600, *pool, seed=42, balance=("diversity",))
    assert chosen[:1500].sum() < 30  # chance would take 300
    assert 250 < selection.select(600, *pool, seed=42, balance=())[:1500].sum() < 350


def test_without_balance_by_tier_tiers_fall_as_they_may(pool):
    tiers = pool[0]
    chosen = selection.select(600, *pool, seed=42, balance=("category", "diversity"))
    assert chosen.sum() == 600 and (tiers[chosen] == 3).sum() > 250


def test_the_gain_beside_a_random_choice_is_told(pool):
    _, labels, signatures, keys = pool
    prompts = pl.Series([f"{'same' if i < 1500 else 'other'} word{i}" for i in range(3000)])
    chosen = selection.select(600, *pool, seed=42)
    found = selection.gains(prompts, labels, signatures, keys, chosen, 42)
    assert found["selected"]["label_entropy"] > found["random"]["label_entropy"] + 0.2
    assert found["selected"]["nearest_distance"] > found["random"]["nearest_distance"] + 0.1
    assert found["selected"]["distinct_words"] >= 601
    nothing = selection.gains(prompts[:1], labels[:1], signatures[:1], keys[:1], np.array([True]), 42)
    assert nothing["selected"] == nothing["random"] and nothing["random"]["nearest_distance"] == 1


def test_same_prompts_whatever_the_order_and_others_with_another_seed(pool):
    order = np.random.default_rng(5).permutation(3000)
    first = selection.select(500, *pool, seed=1)
    second = selection.select(500, *(part[order] for part in pool), seed=1)
    assert (first[order] == second).all()
    assert (first != selection.select(500, *pool, seed=2)).any()


def test_all_are_taken_where_there_are_not_enough(pool):
    assert selection.select(10_000, *pool, seed=1).all()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(0, 600))
def test_shares_are_even(sizes, count):
    sizes = np.array(sizes)
    shares = selection.even_shares(sizes, count)
    assert shares.sum() == min(count, sizes.sum()) and (shares <= sizes).all()
    short = shares[shares < sizes]
    assert not len(short) or shares.max() <= short.min() + 1
