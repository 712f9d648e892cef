"""Tokens cut and hashed in numpy are those that a regular expression would cut."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyneval.prompts.text import FOLD, SIGNS, SINGLE_QUOTES, in_other_script, is_word, tail, tokenise

TOKEN = re.compile(r"[0-9a-z\x80-\U0010ffff]+|[^\x00-\x20'_-]")
LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
PROMPT = st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=60)


def reference(prompt: str) -> list[str]:
    folded = re.sub(SINGLE_QUOTES, r'\1"\2"\3', prompt.translate(str.maketrans(FOLD)))
    return TOKEN.findall(re.sub(SIGNS, r" \g<0> ", folded).translate(LOWER))


@given(st.lists(PROMPT, min_size=1, max_size=8))
@example(["一只红色的狐狸", "a 狐狸, 'キツネ' fox", "狐'狸'", "여우 한 마리"])
@example(["`", "a `sign` that says 'no'"])
def test_tokens_are_those_of_the_regular_expression(prompts):
    tokens = tokenise(pl.Series(prompts, dtype=pl.String))
    expected = [token for prompt in prompts for token in [*reference(prompt), "\n"]]
    assert len(tokens.hashes) == len(expected)
    assert np.flatnonzero([token == "\n" for token in expected]).tolist() == tokens.ends.tolist()
    by_text: dict[str, int] = {}
    for token, value in zip(expected, tokens.hashes.tolist(), strict=True):
        assert by_text.setdefault(token, value) == value
    assert len(set(by_text.values())) == len(by_text)


def test_a_hash_does_not_depend_on_the_place():
    alone, later = tokenise(pl.Series(["Dragon"])), tokenise(pl.Series(["a " * 500, "x, dragon"]))
    assert alone.hashes[0] == later.hashes[-2]


def test_hyphens_apostrophes_and_case_do_not_matter():
    texts = ["Sci-Fi artist's “8K” view", 'sci - fi artist s "8k" view']
    first, second = (tokenise(pl.Series([text])).hashes.tolist() for text in texts)
    assert first == second


def test_endings_and_words_are_told():
    tokens = tokenise(pl.Series(["running, 3"]))
    assert tokens.tail[0] == tail("ing")
    assert is_word(tokens).tolist() == [True, False, True, False]


def test_a_line_feed_inside_a_prompt_is_refused():
    with pytest.raises(ValueError, match="line feeds"):
        tokenise(pl.Series(["two\nlines"]))


def test_other_scripts_are_told():
    other = ["一只红色的狐狸睡在雪地里, 8k", "рыжая лиса в снегу", "여우 한 마리"]
    latin = ["a fox 狐狸 in the snow", "un renard à l'été", "8k, 3d!", "…"]
    assert in_other_script(pl.Series(other)).all() and not in_other_script(pl.Series(latin)).any()


def test_no_prompts():
    assert len(tokenise(pl.Series([], dtype=pl.String)).ends) == 0
