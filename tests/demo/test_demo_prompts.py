"""Demo prompts: enough of them, of every length, with a little junk, always the same."""

import sys

import polars as pl
import pytest

from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts, scene_from_prompt
from dyneval.prompts import complexity
from dyneval.prompts.analysis import analyse
from tests import processes


@pytest.fixture(scope="module")
def prompts():
    return demo_prompts(21_000, seed=7)


def test_at_least_20000_distinct_with_some_junk(prompts):
    assert len(set(prompts)) >= 20_000
    short = sum(len(prompt) < MIN_CHARACTERS for prompt in prompts)
    assert 0.01 < short / len(prompts) < 0.03
    assert 0.01 < (len(prompts) - len(set(prompts))) / len(prompts) < 0.05


def test_all_can_be_read_back_and_are_one_line(prompts):
    for prompt in prompts[:5000]:
        assert scene_from_prompt(prompt).groups
        assert prompt == prompt.strip()
        assert prompt.isprintable()


def test_same_seed_same_prompts(prompts):
    assert demo_prompts(500, seed=7) == prompts[:500]
    assert demo_prompts(500, seed=8) != prompts[:500]
    with pytest.raises(ValueError, match="at least 1"):
        demo_prompts(0, seed=7)


def test_complexity_tells_three_tiers_apart(prompts):
    scores = complexity.complexity(analyse(pl.Series(prompts[:3000]), None, label=False).points, complexity.load())
    hard, easy = (scores >= 200).mean(), (scores < 100).mean()
    assert hard > 0.2
    assert easy > 0.2
    assert 1 - hard - easy > 0.2


def test_command_line_writes_one_prompt_a_line(tmp_path):
    output = tmp_path / "deep" / "prompts.txt"
    command = [sys.executable, "-m", "dyneval.demo.prompts", "--seed", "7", "--output", str(output), "--count"]
    processes.run([*command, "50"], check=True, capture_output=True)
    assert output.read_text("utf-8").splitlines() == demo_prompts(50, seed=7)
    assert list(output.parent.iterdir()) == [output]
    refused = processes.run([*command, "0"], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "--count must be at least 1" in refused.stderr
