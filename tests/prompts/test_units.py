"""Phrases are joined as a scan from the left, longest first, would join them."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.prompts import lexicon, wordlists
from dyneval.prompts.text import tokenise
from dyneval.prompts.units import find_units

WORDS = "abcd"
PHRASES = [("a", "b"), ("a", "b", "c"), ("b", "c"), ("c", "d", "a", "b"), ("d", "d"), ("c",), ("b", "c", "d", "d", "a")]
SMALL = lexicon.build({words: frozenset({"tag"}) for words in PHRASES})


def scan(words: list[str]) -> list[str]:
    found, place = [], 0
    while place < len(words):
        fits = [p for p in PHRASES if tuple(words[place : place + len(p)]) == p]
        longest = max(fits, key=len, default=(words[place],))
        found.append(" ".join(longest))
        place += len(longest)
    return found


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=25), min_size=1, max_size=6))
def test_units_are_those_of_a_scan(prompts):
    units = find_units(tokenise(pl.Series([" ".join(words) for words in prompts], dtype=pl.String)), SMALL)
    expected = [unit for words in prompts for unit in [*scan(words), "end"]]
    assert [SMALL.names[entry] for entry in units.entries] == expected
    assert units.words.tolist() == [len(words) for words in prompts]


@pytest.mark.parametrize(
    ("text", "shape"),
    [("qwxyz", "unknown"), ("1987", "number"), ("qwxyzs", "unknown_plural"), ("qwxying", "unknown_ing")],
)
def test_words_of_no_list_are_told_apart_by_shape(text, shape):
    words = lexicon.load()
    units = find_units(tokenise(pl.Series([text])), words)
    assert words.names[units.entries[0]] == shape


def test_a_phrase_covers_its_words():
    words = lexicon.load()
    units = find_units(tokenise(pl.Series(["a hot dog and a dog"])), words)
    animals = words.having("animal")[units.entries]
    assert [words.names[entry] for entry, hit in zip(units.entries, animals, strict=True) if hit] == ["dog"]


def test_a_phrase_that_begins_with_a_colour_keeps_it():
    words = lexicon.load()
    units = find_units(tokenise(pl.Series(["a brown bear", "a teddy bear"])), words)
    kept = [words.names[entry] for entry in units.entries if words.having("colored")[entry]]
    assert kept == ["brown bear"]


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (wordlists.plural("fox"), "foxes"),
        (wordlists.plural("city"), "cities"),
        (wordlists.plural("toy"), "toys"),
        (wordlists.present_participle("run"), "running"),
        (wordlists.present_participle("ride"), "riding"),
        (wordlists.present_participle("tie"), "tying"),
        (wordlists.present_participle("eat"), "eating"),
        (wordlists.past("carry"), "carried"),
        (wordlists.comparative("big"), "bigger"),
    ],
)
def test_forms(made, form):
    assert made == form


def test_irregular_forms_replace_or_join_the_regular_ones():
    entries = wordlists.load()
    assert "plural" in entries[("geese",)] and ("gooses",) not in entries
    assert "action" in entries[("ran",)] and "ing" in entries[("running",)]


def test_word_lists_hold_only_what_the_tokeniser_can_produce():
    for words in wordlists.load():
        assert words and all(word == word.lower() for word in words)
