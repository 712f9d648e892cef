"""Bins hold each sample once, never overflow, and are nearly full."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenvl.data.packing import pack


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(0, 5), st.integers(1, 20))
def test_every_sample_once_and_no_bin_over_capacity(lengths, seed, window):
    bins = pack(lengths, 100, seed, window)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in members) <= 100 for members in bins)
    assert bins == pack(lengths, 100, seed, window)


def test_bins_are_nearly_full_and_mixed():
    draw = random.Random(0)
    lengths = [int(draw.lognormvariate(6, 0.6)) + 1 for _ in range(8192)]
    bins = pack(lengths, 8192, seed=0)
    assert sum(lengths) / (len(bins) * 8192) > 0.98
    assert bins != pack(lengths, 8192, seed=1)


def test_a_sample_longer_than_a_bin_is_refused():
    with pytest.raises(ValueError, match="a sample of 101 tokens does not fit into a bin of 100"):
        pack([5, 101], 100, seed=0)
