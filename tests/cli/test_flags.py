"""Command lines: one line for what is wrong, `--config`, and what a summary says of the flags."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from dyneval.cli import VERBS
from dyneval.demo.prompts import demo_prompts
from dyneval.errors import SettingError
from dyneval.files.jsonl import read_jsonl
from dyneval.flags import Parser, arg
from tests import processes
from tests.processes import dyneval

ROOT = Path(__file__).parents[2]


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
from dyneval.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
"""A command line for which every file ends at 64 bytes, as on a disk that is full."""


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
        (["serve", "--port", "many"], "expected a whole number of 0 or more, at most 65535, found 'many'"),
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
    done = processes.run(limited, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300)
    assert done.stderr == "dyneval gendb: mapping.json: cannot be written (File too large)\n"
    (tmp_path / "run.toml").write_text('gendb = "gendb"\noutput = "all"\nlimit = 1\n')
    done = dyneval("gendb", "filter", "--config", "run.toml", "--output", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(read_jsonl(tmp_path / "one" / "metadata.jsonl"))) == 1
    (tmp_path / "run.toml").write_text('metadata = "gendb/metadata.jsonl"\nannotations = "none"\n')
    done = dyneval("published", "export", "--config", "run.toml", "--output", "out", cwd=tmp_path)
    assert done.returncode == 1 and "none" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pear = 3", "--config: 'pear' is no flag of dyneval plan; did you mean pairs?"),
        ("pairs = three", "run.toml: is not TOML"),
        ("[pairs]\nx = 1", "run.toml: pairs: expected a text, a number, true or false, or a list"),
        ("pairs = 'three'", "argument --pairs: expected a whole number of 1 or more, found 'three'"),
        ("json = 3", "--config: json = 3: expected true or false"),
        ("teacher = true", "--config: teacher = True: expected a text or a number"),
        ("gpus = ['8xH100', '8xH200']", "--config: gpus = ['8xH100', '8xH200']: expected one value"),
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
        ["instruct", "--metadata", "none", "--annotations", ".", "--output", "out"],
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
        text = dyneval(verb, "--help", check=True)
        assert f"dyneval {verb}" in text.stdout.partition("\n")[2], verb


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    alpha: Annotated[float, arg("weight", ge=0, le=1)] = 0.5
    mode: Annotated[Literal["full", "fast"], arg("how")] = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    folder: Annotated[Path, arg("what is read", position=True)]
    output: Annotated[Path, arg("what is written", position=True)]
    limit: Annotated[int | None, arg("at most", ge=1)] = None
    dedup: Annotated[float | None, arg("similarity", off="keep all")] = 0.8
    report: Annotated[bool, arg("tables only")] = True
    names: Annotated[tuple[str, ...], arg("a name", flag="name", also="--called")] = ()
    scale: Annotated[tuple[float, float] | None, arg("scale", nargs=2)] = None
    weights: Annotated[Weights, arg("weights")] = field(default_factory=lambda: Weights(alpha=0.25))

    def __post_init__(self):
        if self.limit == 13:
            raise SettingError("13 is no number of rows")


def parsed(*words):
    parser = Parser("try", "What it does.")
    return parser.parse_options(Options, words), parser


def test_a_dataclass_says_what_the_flags_are():
    found, parser = parsed("a", "--limit", "3", "b", "--no-dedup", "--name=x", "--called", "y", "--scale", "1", ".5")
    assert found == Options(
        folder=Path("a"), output=Path("b"), limit=3, dedup=None, names=("x", "y"), scale=(1.0, 0.5)
    )  # fmt: skip
    assert found.weights.alpha == 0.25, "of the field, not of its class"
    assert parser.given == {"limit", "dedup", "name", "scale"}
    assert parser.resolved == {
        "folder": "a", "output": "b", "limit": 3, "dedup": None, "report": True, "name": ["x", "y"],
        "scale": [1.0, 0.5], "alpha": 0.25, "mode": "full",
    }  # fmt: skip
    text = parser.format_help()
    assert "--no-report" in text and "--report" not in text.replace("--no-report", "") and "weights:" in text
    assert "similarity; default: 0.8" in text and "weight; default: 0.25" in text


def test_what_has_a_place_may_be_named_by_a_file_too(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"output": "b", "no-report": True, "scale": [1, 5]}))
    found, _ = parsed("a", "--config", str(tmp_path / "run.json"))
    assert (found.output, found.report, found.scale) == (Path("b"), False, (1.0, 5.0))
    found, _ = parsed("--output", "c", "a")
    assert (found.folder, found.output) == (Path("a"), Path("c"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a b --limit 0", "expected a whole number of 1 or more, found '0'"),
        ("a b --limit 1.5", "expected a whole number of 1 or more, found '1.5'"),
        ("a b --alpha 2", "expected a number of 0 or more, at most 1, found '2'"),
        ("a b --alpha nan", "expected a number of 0 or more, at most 1, found 'nan'"),
        ("a b --mode fats", "'fats' is none of full, fast; did you mean fast?"),
        ("a b --limit 13", "try: error: 13 is no number of rows"),
        ("a", "the following arguments are required: output"),
    ],
)
def test_a_value_out_of_its_bounds_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed(*words.split())
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
