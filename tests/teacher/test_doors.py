"""The annotation doors as processes: a lost server, keys, wrong command lines."""

import json
import signal
import subprocess
import time

import pytest

from dyneval.files.jsonl import read_jsonl
from tests import processes

from .conftest import ANNOTATE, FILES, content


def test_server_killed_and_started_again_in_mid_run(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=20)
    run(metadata, tmp_path / "clean", chat_server())
    server = chat_server("--latency", "0.1")
    port = server.url.split(":")[-1].removesuffix("/v1")
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--base-url", server.url]
    process = processes.Process([*command, "--model", "m", "--concurrency", "8"], stderr=subprocess.PIPE, text=True)
    while server.stats()["served"] < 30:
        time.sleep(0.05)
    server.process.kill()
    server.process.wait()
    time.sleep(1)
    chat_server("--port", port)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    last = errors.splitlines()[-1]
    assert "t2ia_questions 20, t2ia_answers 40" in last and last.endswith("/out/annotate.summary.json")
    assert len(last) < 300
    assert content(tmp_path / "out") == content(tmp_path / "clean")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_order_and_the_next_one_goes_on(run, gendb, chat_server, tmp_path, number):
    metadata = gendb(prompts=20)
    run(metadata, tmp_path / "clean", chat_server())
    server = chat_server("--latency", "0.2")
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--base-url", server.url]
    process = processes.Process([*command, "--model", "m", "--concurrency", "4"], stderr=subprocess.PIPE, text=True)
    while server.stats()["served"] < 12:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "the same command goes on from here" in errors, errors
    assert "Traceback" not in errors and "\r" not in errors
    there = {name: len(list(read_jsonl(tmp_path / "out" / f"{name}.jsonl"))) for name in FILES}
    summary = json.loads((tmp_path / "out" / "annotate.summary.json").read_text())
    assert there == {name: found["written"] for name, found in summary["workflows"].items()}
    answered = sum(there.values()) + there["t2ia_questions"]  # two requests each
    assert 0 < answered <= summary["requests"]
    assert run(metadata, tmp_path / "out", chat_server())["requests"] == 20 * 2 + 40 * 3 - answered
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_dry_run_shows_requests_and_asks_nothing(gendb, tmp_path):
    metadata = gendb()
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--dry-run", "--model", "none"]
    shown = processes.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.count("=====") == 5 and "tokens" in shown and "a red cat" in shown
    assert shown.count(" characters\n\n=====") == 4 and shown.endswith(" characters\n\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--metadata", "nothing.jsonl"], 1, "nothing.jsonl: no such file"),
        (["--engine", "oracle", "--base-url", "http://x/v1"], 2, "--base-url goes with --engine openai"),
        (["--base-url", "http://127.0.0.1:9/v1"], 1, "127.0.0.1:9: nobody answers there"),
        (["--api-key-env", "NO_SUCH_KEY"], 2, "NO_SUCH_KEY is not set"),
        (["--base-url", "http://x/v1", "--server-option", "top_k"], 2, "--server-option top_k: expected KEY=VALUE"),
        (["--shard", "3/2"], 2, "expected i/n"),
        (["--limit", "0"], 2, "--limit: expected a whole number of 1 or more"),
    ],
)
def test_wrong_command_lines_get_one_clear_line(gendb, tmp_path, flags, status, message):
    command = [*ANNOTATE, "--metadata", gendb(), "--output", tmp_path / "out", *flags]
    done = processes.run(command, capture_output=True, text=True)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


def test_the_key_is_in_no_file_and_no_message(gendb, chat_server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    server = chat_server("--faults", "429,empty", "--fault-rate", "0.5")
    flags = ["--metadata", gendb(), "--output", tmp_path / "out", "--base-url", server.url, "--model", "m"]
    command = [*ANNOTATE, *flags, "--api-key-env", "TEACHER_KEY", "--attempts", "1"]
    done = processes.run(command, capture_output=True, text=True)
    assert server.stats()["seen"] == ["Bearer sk-very-secret"]
    assert "sk-very-secret" not in done.stdout + done.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()
