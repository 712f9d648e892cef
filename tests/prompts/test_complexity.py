"""H: nine factors, published weights, our scale."""

import importlib
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dyneval.prompts import complexity, wordlists
from dyneval.prompts.analysis import analyse, describe
from dyneval.prompts.clean import clean_text
from dyneval.records import PromptRecord, json_schema

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "real_prompts_500.txt"


def h_of(prompts: list[str]) -> np.ndarray:
    return complexity.complexity(analyse(pl.Series(prompts), None, label=False).points, complexity.load())


@pytest.fixture(scope="module")
def plain():
    """The plain Python implementation that the benchmark measures against."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        module = importlib.import_module("prompt_filter")
    return module.PlainScorer()


def test_factors_are_the_published_nine():
    schema = json_schema(PromptRecord)
    factors = complexity.load()
    assert list(factors.names) == schema["$defs"]["Factors"]["required"]
    assert [factor.weight for factor in factors.items] == [0.2, 0.2] + [0.1] * 7
    tags = {tag for entry in wordlists.load().values() for tag in entry} | {"word"}
    assert all(factor.definition and set(factor.tags) <= tags for factor in factors.items)


def test_every_word_list_is_defined():
    for file in files("dyneval.prompts").joinpath("data", "words").iterdir():
        first = file.read_text("utf-8").splitlines()[0]
        assert first.startswith("# ") and len(first) > 10, file.name


def test_what_a_factor_counts():
    names = complexity.load().names
    references = [factor.reference for factor in complexity.load().items]
    prompt = "two red cats next to a wooden table, octane render, highly detailed, oil painting, by greg rutkowski"
    points = analyse(pl.Series([prompt]), None, label=False).points[0]
    counts = dict(zip(names, np.round(points * references / 100, 6), strict=True))
    assert counts["prompt_length"] == 17
    assert counts["object_attribute_count"] == 3  # cats, wooden, table
    assert counts["compositional_density"] == 4
    assert counts["artist_style_attribution"] == 2  # by, greg rutkowski
    assert counts["technical_rendering"] == 1
    assert counts["style_keywords"] == 1
    assert counts["color_specifications"] == 1
    assert counts["relational_expressions"] == 1


def test_a_factor_is_capped():
    points = analyse(pl.Series(["detailed " * 400]), None, label=False).points
    assert points.max() == complexity.load().cap


def test_same_scores_as_one_prompt_at_a_time(plain):
    prompts = [json.loads(line)["prompt"] for line in (ROOT / "benchmarks/data/labelled_prompts.jsonl").open()]
    if REAL.exists():
        raw = [line for line in REAL.read_text("utf-8").splitlines() if line.strip()]
        prompts += pl.DataFrame({"p": raw}).select(clean_text(pl.col("p"))).to_series().to_list()
    assert h_of(prompts).tolist() == [plain(prompt) for prompt in prompts]


WORDS = st.sampled_from(sorted({" ".join(words) for words in wordlists.load()})[::7])


@settings(max_examples=60)
@given(st.lists(st.lists(st.one_of(WORDS, st.text(max_size=8)), min_size=1, max_size=30), min_size=1, max_size=5))
def test_same_scores_on_anything(plain, rows):
    prompts = pl.DataFrame({"p": [" ".join(row).replace("\n", " ") or "x" for row in rows]}, schema={"p": pl.String})
    prompts = prompts.select(clean_text(pl.col("p"))).to_series().to_list()
    assert h_of(prompts).tolist() == [plain(prompt) for prompt in prompts]


LISTED = sorted({word for words in wordlists.load() for word in words if word.isalnum()})
PHRASES = sorted(" ".join(words) for words in wordlists.load() if len(words) > 1 and "".join(words).isalnum())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PHRASES), st.sampled_from(LISTED), st.text("abz09é", min_size=1)), min_size=1)
)
@example(["black hole"])
@example(["red"] * 65_536)
def test_h_never_falls_when_words_are_added(parts):
    words = " ".join(parts).split()
    beginnings = [" ".join(words[:end]) for end in sorted({*range(1, min(len(words), 60) + 1), len(words)})]
    h = h_of(beginnings)
    assert (np.diff(h) >= 0).all(), dict(zip(beginnings, h.tolist(), strict=True))


def test_h_of_every_phrase_is_that_of_its_beginnings_at_least():
    rows = [words.split() for words in PHRASES]
    whole = h_of([" ".join(words) for words in rows])
    assert (whole >= h_of([" ".join(words[:-1]) for words in rows])).all()


@pytest.mark.skipif(not REAL.exists(), reason="the real prompts lie beside the repository")
def test_published_thresholds_give_three_tiers_of_real_prompts():
    prompts = [line.strip() for line in REAL.read_text("utf-8").splitlines() if len(line.strip()) >= 30]
    found = complexity.tiers_by_threshold(h_of(prompts))
    assert all((found == tier).mean() >= 0.2 for tier in (1, 2, 3))


def test_rank_tiering_is_the_public_scripts():
    h = np.arange(60.0)
    found = complexity.tiers_by_rank(h, np.arange(60, dtype=np.uint64))
    assert np.flatnonzero(found == 1).tolist() == list(range(50, 60))
    assert np.flatnonzero(found == 2).tolist() == list(range(20, 40))
    assert np.flatnonzero(found == 3).tolist() == list(range(10))


def test_rank_tiering_breaks_ties_by_key_not_by_place():
    keys = np.random.default_rng(0).permutation(30).astype(np.uint64)
    first = complexity.tiers_by_rank(np.zeros(30), keys)
    second = complexity.tiers_by_rank(np.zeros(30), keys[::-1].copy())
    assert first.tolist() == second[::-1].tolist()


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValueError, match="above"):
        complexity.tiers_by_threshold(np.zeros(1), 100, 200)


def test_a_prompt_can_be_described_alone():
    (found,) = describe(["  two red cats next\nto a wooden table "])
    factors = complexity.load()
    assert list(found.factors) == list(factors.names)
    assert found.complexity == pytest.approx(
        sum(factor.weight * found.factors[factor.name] for factor in factors.items)
    )
    assert {"count_exact", "material_binding"} <= set(found.categories)
    assert describe([]) == []
