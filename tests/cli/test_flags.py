"""Command lines: one line for what is wrong, `--config`, and what a summary says of the flags."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dyneval.cli import VERBS
from dyneval.demo.prompts import demo_prompts
from dyneval.files.jsonl import read_jsonl

ROOT = Path(__file__).parents[2]


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
from dyneval.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
"""A command line for which every file ends at 64 bytes, as on a disk that is full."""


def dyneval(*arguments, cwd):
    command = [sys.executable, "-m", "dyneval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scor"], "dyneval: 'scor' is no verb; did you mean score?"),
        (["score", "--chekpoint", "x"], "--chekpoint is no flag of dyneval score; did you mean --checkpoint?"),
        (["score", "-prompt", "x"], "-prompt is no flag of dyneval score; did you mean --prompt?"),
        (["score", "a.png", "--prompt", "p", "--mode", "fats"], "did you mean fast?"),
        (["generate", "--promts", "x"], "--promts is no flag of dyneval generate; did you mean --prompts?"),
        (["annotate", "--metdata", "x"], "did you mean --metadata?"),
        (["gendb", "stat", "x"], "'stat' is none of stats, duplicates, "),
        (["gendb", "stats", "x", "--jsn"], "--jsn is no flag of dyneval gendb stats; did you mean --json?"),
        (["benchmark", "--benchmark", "tiffa"], "did you mean tifa?"),
        (["plan", "--pears", "3"], "did you mean --pairs?"),
        (["serve", "--port", "many"], "invalid int value: 'many'"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_one_line_with_the_nearest_right_one(arguments, said, tmp_path):
    done = dyneval(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_flags_come_from_a_file_and_those_of_the_command_line_win(tmp_path):
    (tmp_path / "tier-2-prompts.txt").write_text("\n".join(demo_prompts(3, 0)))
    config = {
        "all": True,
        "family": "demo",
        "any-tier": True,
        "prompts": "tier-2-prompts.txt",
        "output": "gendb",
        "set": ["size=64"],
    }
    (tmp_path / "run.json").write_text(json.dumps(config))
    done = dyneval(
        "generate", "--config", "run.json", "--model", "demo-good", "--limit", "1", "--set", "size=96", cwd=tmp_path
    )
    assert done.returncode == 2 and "demo-good" in done.stderr, "--model wins over `all`; there is no such model"
    done = dyneval("generate", "--config", "run.json", "--limit", "1", "--set", "size=96", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["width"] for row in read_jsonl(tmp_path / "gendb" / "metadata.jsonl")} == {96}
    said = json.loads((tmp_path / "gendb" / "summary.json").read_text())["run"]["config"]
    assert said["command"] == "dyneval generate"
    assert (said["limit"], said["all"], said["output"], said["allocation"]) == (1, True, "gendb", "share")


def test_a_verb_below_a_verb_takes_a_file_and_names_its_output_where_the_disk_is_full(tmp_path):
    (tmp_path / "p.txt").write_text("\n".join(demo_prompts(3, 0)))
    draw = [
        "generate",
        "--model",
        "demo-painter",
        "--any-tier",
        "--prompts",
        "p.txt",
        "--output",
        "gendb",
        "--set",
        "size=64",
    ]
    assert dyneval(*draw, cwd=tmp_path).returncode == 0
    assert dyneval("gendb", "stats", "gendb", cwd=tmp_path).returncode == 0  # writes the index
    limited = [sys.executable, "-c", FULL, "gendb", "to-mapping", "gendb", "mapping.json"]
    done = subprocess.run(limited, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60)
    assert done.stderr == "dyneval gendb: mapping.json: cannot be written (File too large)\n"
    (tmp_path / "run.toml").write_text('metadata = "gendb/metadata.jsonl"\nannotations = "none"\n')
    done = dyneval("published", "export", "--config", "run.toml", "--output", "out", cwd=tmp_path)
    assert done.returncode == 1 and "none" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pear = 3", "--config: 'pear' is no flag of dyneval plan; did you mean pairs?"),
        ("pairs = three", "run.toml: is not TOML"),
        ("[pairs]\nx = 1", "run.toml: pairs: expected a text, a number, true or false, or a list"),
        ("pairs = 'three'", "argument --pairs: invalid int value: 'three'"),
        ("json = 3", "--config: json = 3: expected true or false"),
        (None, "No such file or directory: 'run.toml'"),
    ],
)
def test_a_wrong_file_is_one_line(text, said, tmp_path):
    if text is not None:
        (tmp_path / "run.toml").write_text(text)
    done = dyneval("plan", "--config", "run.toml", cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "verb",
    [
        ["gendb", "hub", "none", "out"],
        ["instruct", "--metadata", "none", "--annotations", "none", "--output", "out"],
    ],
)
def test_the_beginning_of_a_flag_that_has_two_spellings_is_that_flag(verb, tmp_path):
    done = dyneval(*verb, "--push", "me/set", cwd=tmp_path)
    assert "ambiguous" not in done.stderr and "me/set" in done.stderr
    done = dyneval(*verb, "--p", "me/set", cwd=tmp_path)
    assert done.returncode == 2 and "ambiguous option: --p could match" in done.stderr


def test_the_file_may_name_an_engine_of_ones_own_and_its_options(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Options:\n    greeting: str\n"
        "class Engine:\n    Options = Options\n    prepare = read = answer = None\n"
    )
    (tmp_path / "run.toml").write_text('engine = "mine:Engine"\ngreeting = "hello"\n')
    done = dyneval("score", "x.png", "--prompt", "a cat", "--config", "run.toml", cwd=tmp_path)
    assert done.returncode == 2 and "engine mine:Engine" in done.stderr and "a class without" in done.stderr


def test_every_verb_shows_examples_of_itself():
    for verb in VERBS:
        text = subprocess.run(
            [sys.executable, "-m", "dyneval", verb, "--help"], capture_output=True, text=True, check=True
        )
        assert f"dyneval {verb}" in text.stdout.partition("\n")[2], verb
