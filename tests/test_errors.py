"""What a user can mend is one line; everything else keeps its traceback."""

import errno
import os
import re
import sys
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from dyneval.cli.running import run
from dyneval.errors import (
    CheckpointError,
    ClusterError,
    DataFileError,
    GenerationError,
    ImageError,
    SchemaError,
    SettingError,
    UserError,
)
from dyneval.evaluation.benchmarks import BENCHMARKS
from dyneval.evaluation.benchmarks.base import LayoutError, load
from dyneval.extras import EXTRAS
from dyneval.files.hub import HubOptions
from dyneval.flags import Parser
from tests import processes

PARSER, NONE = Parser("dyneval verb"), HubOptions()
ONE = ["dyneval", "score", "x.png", "--prompt", "a cat"]
MANY = ["dyneval", "score", "--metadata", "x.jsonl", "--output", "y.jsonl"]
GENERIC = ["dyneval", "benchmark", "--benchmark", "generic", "--annotations", "x", "--scores", "y"]


def raises(error):
    def action(options):
        raise error

    return action


@pytest.mark.parametrize(
    "error",
    [
        *(kind("cats.png: mend it") for kind in (UserError, SettingError, DataFileError, SchemaError, ImageError)),
        *(kind("cats.png: mend it") for kind in (CheckpointError, GenerationError, ClusterError, OSError)),
        RuntimeError("the layers say\ncats.png: mend it, CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, capsys):
    assert run(PARSER, raises(error), NONE) == 1
    said = capsys.readouterr().err
    assert said.startswith("dyneval verb: cats.png: mend it") and said.count("\n") == 1


def test_a_full_disk_names_the_output(capsys):
    parser = Parser("dyneval verb")
    parser.add_argument("--output")
    parser.parse_args(["--output", "scores.jsonl"])
    assert run(parser, raises(OSError(errno.ENOSPC, "No space left on device")), NONE) == 1
    assert capsys.readouterr().err == "dyneval verb: scores.jsonl: cannot be written (No space left on device)\n"


def test_a_missing_extra_is_named_by_the_command(capsys):
    missing = ModuleNotFoundError("No module named 'vllm'", name="vllm")
    if find_spec("vllm") is None:
        assert run(Parser("dyneval score"), raises(missing), NONE) == 1
        said = "dyneval score: this needs vllm, which is not installed: pip install 'dyneval[vllm]'\n"
        assert capsys.readouterr().err == said
    with pytest.raises(ModuleNotFoundError):
        run(Parser("dyneval score"), raises(ModuleNotFoundError("No module named 'ours'", name="ours")), NONE)


def brought(extras, extra):
    """Requirements of an extra, and of those that it includes."""
    for requirement in extras[extra]:
        yield requirement
        if requirement.startswith("dyneval["):
            for included in requirement[len("dyneval[") : -1].split(","):
                yield from brought(extras, included)


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A folder with the packages of the core alone."""
    folder, wanted, seen = tmp_path_factory.mktemp("core"), ["dyneval"], set()
    while wanted:
        distribution = metadata.distribution(wanted.pop())
        if distribution.name in seen:
            continue
        seen.add(distribution.name)
        wanted += [re.match(r"[\w.-]+", one)[0] for one in distribution.requires or () if is_needed(one)]
        for top in {file.parts[0] for file in distribution.files if distribution.name != "dyneval"} - {
            "..",
            "__pycache__",
        }:
            (folder / top).symlink_to(distribution.locate_file(top))
    return folder


def is_needed(requirement):
    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("gendb stats gendb", "hub"),
        ("gendb parquet gendb out", "hub"),
        ("check one.jsonl --baseline other.jsonl", "eval"),
        ("leaderboard one.jsonl", "eval"),
        ("generate --model demo-painter --prompts p.txt --output out", "generate"),
        ("score a.png --prompt x", "local"),
        ("prompts --input p.txt --output out", "prompts"),
    ],
)
def test_the_core_is_told_one_extra_with_all_that_the_verb_needs(core, command, extra, tmp_path):
    (tmp_path / "p.txt").write_text("a cat on a bench\n")
    (tmp_path / "gendb").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    done = processes.run(
        [sys.executable, "-S", "-m", "dyneval", *command.split()],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{core}:{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.endswith(f"which is not installed: pip install 'dyneval[{extra}]'\n"), done.stderr


def test_every_package_of_the_table_of_extras_belongs_to_its_extra():
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    names = {"google": "google-genai", "vl_convert": "vl-convert-python", "starlette": "fastapi", "aiohttp": "openai"}
    names |= {"pyarrow": "datasets", "ImageReward": "image-reward"}  # the first is brought by the second
    for extra, packages in EXTRAS.items():
        text = " ".join(brought(extras, extra))
        for package in packages:
            assert names.get(package, package.replace("_", "-")) in text, (extra, package)


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), TypeError("a bug"), KeyError("a bug")])
def test_a_fault_of_ours_is_not_swallowed(error):
    with pytest.raises(type(error), match="a bug"):
        run(PARSER, raises(error), NONE)


@pytest.mark.parametrize("kind", [SettingError, DataFileError, SchemaError, ImageError, CheckpointError])
def test_callers_in_python_may_expect_a_value_error(kind):
    assert issubclass(kind, ValueError) and issubclass(kind, UserError)


@pytest.mark.parametrize(
    ("status", "arguments", "said"),
    [
        (2, [*ONE, "--alpha", "2"], "expected two weights"),
        (2, [*ONE, "--batch-size", "0"], "--batch-size: expected a whole number of 1 or more, or auto, found '0'"),
        (2, [*ONE, "--max-questions", "0"], "--max-questions: expected a whole number of 1 or more, found '0'"),
        (2, [*MANY, "--shard", "5/4"], "shard '5/4'"),
        (1, MANY, "x.jsonl"),
        (2, [*MANY, "--ray", "--ray-batch", "0"], "--ray-batch"),
        (1, ["dyneval", "plan", "--gpus", "eight"], "COUNTxTYPE"),
        (1, ["dyneval", "plan", "--assume", "nonsense=1"], "'nonsense' is unknown"),
        (1, ["dyneval", "leaderboard", "none.jsonl", "--resamples", "-1"], "none.jsonl"),
        (2, [*GENERIC, "--column", "a"], "MEANING=NAME"),
        (2, ["dyneval", "serve", "--batch-wait", "-1"], "--batch-wait: expected a number of 0 or more, found '-1'"),
        (1, ["dyneval.demo.summary", "show", "--output", "none"], "did all five steps run"),
    ],
)
def test_command_lines_say_in_one_line_what_to_mend(status, arguments, said, tmp_path):
    done = processes.run([sys.executable, "-m", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status and said in done.stderr and done.stderr.count("\n") == 1


def test_a_file_with_a_word_for_a_number_is_named(tmp_path):
    (tmp_path / "board.csv").write_text("model,overall,tier\nours,0.5,two\n")
    arguments = [sys.executable, "-m", "dyneval", "leaderboard", "board.csv"]
    done = processes.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "dyneval leaderboard: board.csv: row 1: tier: expected a whole number, found 'two'\n",
    )


def test_annotations_that_are_no_text_are_not_the_layout(tmp_path):
    (tmp_path / "prompts.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "imgnames.txt").write_bytes(b"caf\xe9.png\n")
    with pytest.raises(LayoutError, match="not the layout of"):
        load(BENCHMARKS["evalmi"], tmp_path)
