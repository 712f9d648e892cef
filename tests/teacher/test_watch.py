"""A run that is watched from another process."""

import json
import subprocess
import sys
import time

import pytest

from dyneval.errors import DataFileError
from dyneval.files.parts import Shard
from dyneval.teacher.watch import runs_in
from tests import processes

from .conftest import ANNOTATE

STATUS = [sys.executable, "-m", "dyneval", "status"]


def status(folder, *flags):
    done = processes.run([*STATUS, folder, *flags, "--json"], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_a_run_is_seen_while_it_runs_and_when_it_was_killed(gendb, chat_server, tmp_path):
    metadata, server, out = gendb(prompts=40), chat_server("--latency", "0.2"), tmp_path / "out"
    code = (
        "import dyneval.teacher.watch as watch, runpy, sys; watch.PERIOD = 0.2; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    flags = ["--metadata", metadata, "--output", out, "--base-url", server.url, "--model", "m", "--concurrency", "4"]
    process = processes.Process(
        [sys.executable, "-c", code, *ANNOTATE[1:], *flags, "--gpus", "2"], stderr=subprocess.PIPE
    )
    while not (out / "annotate.progress.json").exists() or status(out)[1][0]["annotated"] < 4:
        assert process.poll() is None
        time.sleep(0.1)
    code, (row,) = status(out, "--price-in", "1000", "--price-out", "2000", "--gpu-hour", "3600")
    assert (code, row["state"], row["total"]) == (0, "running", 80) and 0 < row["pairs"] < 80
    assert row["pairs_per_second"] > 0 and row["seconds_left"] > 0
    tokens = row["prompt_tokens"] / 1000 + row["completion_tokens"] / 500
    assert tokens < row["cost"] < row["cost_at_end"]
    process.kill()
    process.wait()
    code, (row,) = status(out)
    assert (code, row["state"]) == (1, "killed?")


def test_a_run_that_ended_says_what_it_did(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=4), chat_server("--faults", "language", "--fault-rate", "0.5", "--seed", "2")
    summary = run(metadata, tmp_path, server, attempts=1)
    ((name, found),) = runs_in(tmp_path)
    assert (name, found.state, found.pairs, found.total) == ("annotate", "finished", 8, 8)
    assert found.prompt_tokens == summary["prompt_tokens"] > 0
    assert sum(found.rejected.values()) == summary["run"]["rejected"] > 0
    shown = processes.run([*STATUS, tmp_path, "--every", "60"], capture_output=True, text=True, check=True).stdout
    assert "finished" in shown and "8/8" in shown and "reply" in shown


def test_parts_and_single_workflows_are_listed(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=4), chat_server()
    run(metadata, tmp_path, server, workflows=["t2ia_questions"])
    run(metadata, tmp_path, server, workflows=["iqa_questions"], shard=Shard(1, 2))
    assert [name for name, _ in runs_in(tmp_path)] == ["t2ia_questions", "shards/1-of-2/iqa_questions"]


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(DataFileError, match="name the --output of an annotation run"):
        next(runs_in(tmp_path))
