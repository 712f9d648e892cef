"""An engine of one's own on the command line of the doors, as a process that is run where the engine's file is."""

import pytest

from dyneval.files.jsonl import read_jsonl
from tests import processes

from .conftest import ANNOTATE

MINE = """
from dataclasses import dataclass
from typing import Annotated
from msgspec import Meta
from dyneval.llm.openai_server import OpenAIEngine
from dyneval.llm.registry import ServerOptions

class Mine(OpenAIEngine):
    name = "mine"

    @dataclass(frozen=True, kw_only=True)
    class Options:
        url: Annotated[str, Meta(description="where 100% of my servers are")]
        tries: Annotated[int, Meta(ge=1, description="how often it is tried")] = 3

    def __init__(self, model, options):
        super().__init__(model, ServerOptions(base_urls=(options.url,), max_retries=options.tries))

class Mute:
    pass

number = 7
"""


@pytest.fixture
def annotate(gendb, tmp_path):
    (tmp_path / "my_engines.py").write_text(MINE)
    (tmp_path / "broken_engine.py").write_text("class Mine:\n    def chat(self:\n")

    def run(*flags):
        command = [*ANNOTATE, "--metadata", gendb(), "--output", tmp_path / "out", "--model", "m", *map(str, flags)]
        return processes.run(command, capture_output=True, text=True, cwd=tmp_path)

    return run


def test_it_annotates_with_flags_of_its_own(annotate, chat_server, tmp_path):
    done = annotate("--engine", "my_engines:Mine", "--url", chat_server().url, "--tries", "2")
    assert done.returncode == 0, done.stderr
    rows = list(read_jsonl(tmp_path / "out" / "iqa_answers.jsonl"))
    assert len(rows) == 6 and {row["provenance"]["engine"] for row in rows} == {"mine"}


def test_help_describes_its_flags(annotate):
    shown = annotate("--help", "--engine", "my_engines:Mine").stdout
    assert "where 100% of my servers are" in shown and "how often it is tried; default: 3" in shown


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nothing_here:Mine"], "engine nothing_here:Mine: nothing_here cannot be imported (ModuleNotFoundError: "),
        (["broken_engine:Mine"], "engine broken_engine:Mine: broken_engine cannot be imported (SyntaxError: "),
        (["my_engines:Yours"], "engine my_engines:Yours: my_engines has no 'Yours'"),
        (["my_engines:number"], "engine my_engines:number: is 7; a chat engine is a class that has chat, close"),
        (["my_engines:Mute"], "engine my_engines:Mute: is a class without chat, close"),
        (["my_engines:Mine"], "--engine my_engines:Mine needs --url: where 100% of my servers are"),
        (["my_engines:Mine", "--base-url", "http://x/v1"], "--base-url goes with --engine openai, not with my_engines"),
        (["gpt"], "engine 'gpt': expected one of openai, vllm, transformers, oracle, or module:Class"),
        (
            ["my_engines:Mine", "--url", "x", "--tries", "0"],
            "argument --tries: expected a whole number of 1 or more, found '0'",
        ),
        (
            ["transformers", "--batch-size", "many"],
            "argument --batch-size: expected a whole number of 1 or more, found 'many'",
        ),
        (["vllm", "--device", "cpu"], "--device goes with --engine transformers, not with vllm"),
        (["oracle", "--max-pixels", "9"], "--max-pixels goes with --engine openai or vllm or transformers, not with"),
    ],
)
def test_what_cannot_be_used_gets_one_clear_line(annotate, flags, said):
    done = annotate("--engine", *flags)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr
