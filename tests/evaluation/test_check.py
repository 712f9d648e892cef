"""`dyneval check`: a real drop fails, chance and improvement do not, and what cannot be compared is said."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.processes import dyneval

from .scored_data import score_record

ROOT = Path(__file__).parents[2]


def scores(path, means, seed, settings=None, model="DynEval-4B"):
    random = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for number, mean in enumerate(means):
            t2ia, iqa = np.clip(np.rint(random.normal(mean, 0.7, (2, 6))), 1, 5).tolist()
            row = score_record(f"p{number}-{seed}", f"prompt {number}", f"{seed}/{number}.png", t2ia, iqa, model)
            file.write(json.dumps(row | ({"settings": settings} if settings else {})) + "\n")
    return path


def check(*arguments):
    return dyneval("check", *arguments, cwd=ROOT)


@pytest.fixture
def base(tmp_path):
    return scores(tmp_path / "base.jsonl", [3.6] * 60, 1)


def test_a_drop_fails_and_chance_does_not(base, tmp_path):
    same = check(scores(tmp_path / "same.jsonl", [3.6] * 60, 2), "--baseline", base)
    assert same.returncode == 0 and "DROP" not in same.stdout, same.stdout
    worse = scores(tmp_path / "worse.jsonl", [3.1] * 60, 3)
    found = check(worse, "--baseline", base, "--output", tmp_path / "out")
    assert found.returncode == 1 and "DROP" in found.stdout and "60" in found.stdout
    assert "DROP" in (tmp_path / "out" / "check.csv").read_text()
    assert check(worse, "--baseline", base, "--max-drop", "0.3").returncode == 0
    assert check(base, "--baseline", worse).returncode == 0, "a model may become better"


def test_a_drop_in_one_category_is_seen(base, tmp_path):
    prompts = [{"prompt": f"prompt  {n}", "categories": ["count_exact" if n < 15 else "art_style"]} for n in range(60)]
    listed = tmp_path / "prompts.jsonl"
    listed.write_text("\n".join(map(json.dumps, prompts)))
    new = scores(tmp_path / "new.jsonl", [2.6] * 15 + [3.85] * 45, 4)
    assert check(new, "--baseline", base).returncode == 0
    found = check(new, "--baseline", base, "--per", "category", "--prompts", listed)
    assert found.returncode == 1
    assert [line.split()[0] for line in found.stdout.splitlines() if "DROP" in line] == ["count_exact"]


def test_many_groups_and_odd_names_do_not_hide_a_drop(base, tmp_path):
    worse = scores(tmp_path / "worse.jsonl", [2.4] * 60, 7)
    prompts = [{"prompt": f"prompt {n}", "categories": ["all", "all prompts", f"kind {n // 2}"]} for n in range(60)]
    listed = tmp_path / "prompts.jsonl"
    listed.write_text("\n".join(map(json.dumps, prompts)))
    per = ["--per", "category", "--prompts", listed]
    found = check(worse, "--baseline", base, *per)
    assert found.returncode == 1 and found.stdout.count("DROP") > 10
    few = check(worse, "--baseline", base, *per, "--resamples", 500)
    assert few.returncode == 1 and "--resamples 500: 640 or more are needed to be sure of 32 groups" in few.stderr
    assert "--resamples 0: 20 or more are needed" in check(worse, "--baseline", base, "--resamples", 0).stderr
    one = tmp_path / "one.jsonl"
    one.write_text(base.read_text().splitlines()[0] + "\n")
    assert "have 1 prompt in common" in check(one, "--baseline", base).stderr


def test_what_cannot_be_compared_is_said(base, tmp_path):
    part = scores(tmp_path / "part.jsonl", [3.6] * 50, 5)
    found = check(part, "--baseline", base)
    assert found.returncode == 1 and "10 prompts of the baseline have no new score, such as 'prompt 50'" in found.stderr
    assert check(part, "--baseline", base, "--allow-missing").returncode == 0
    other = scores(tmp_path / "other.jsonl", [3.6] * 60, 6, model="DynEval-2B")
    found = check(other, "--baseline", base)
    assert found.returncode == 1 and "scored with model DynEval-4B and DynEval-2B; score both alike" in found.stderr
    other = tmp_path / "elsewhere.jsonl"
    other.write_text(base.read_text().replace('"prompt ', '"another prompt '))
    assert "have no prompt in common" in check(other, "--baseline", base).stderr
    assert "--per category needs --prompts or --metadata" in check(part, "--baseline", base, "--per", "category").stderr
