"""The annotation doors as processes: kills, full disks, keys, wrong command lines."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dyneval.storage import read_jsonl
from dyneval.teacher.prompts import WORKFLOWS

ROOT = Path(__file__).parents[2]
ANNOTATE = [sys.executable, str(ROOT / "Distill Annotations" / "annotate.py")]
FILES = dict.fromkeys(WORKFLOWS, "pair_id") | {"t2ia_questions": "prompt_id"}


def content(folder):
    """What the annotation files say, without what differs from run to run."""
    found = {}
    for name, key in FILES.items():
        rows = list(read_jsonl(folder / f"{name}.jsonl"))
        found[name] = {
            row[key]: {k: v for k, v in row.items() if k not in ("provenance", "raw_response")} for row in rows
        }
        assert len(found[name]) == len(rows), f"{name}: a record stands there twice"
    return found


def test_two_processes_on_one_folder_are_refused(gendb, chat_server, tmp_path):
    server = chat_server("--latency", "0.5")
    flags = ["--metadata", gendb(prompts=20), "--output", tmp_path / "out", "--base-url", server.url]
    command = [*ANNOTATE, *flags, "--model", "m", "--concurrency", "1"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not list((tmp_path / "out").glob("t2ia_questions.jsonl")):
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True)
    finally:
        first.terminate()
    assert second.returncode == 1 and "another process is writing" in second.stderr
    assert first.wait() == 130, "SIGTERM ends a run in order"


def test_server_killed_and_started_again_in_mid_run(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=20)
    run(metadata, tmp_path / "clean", chat_server())
    server = chat_server("--latency", "0.1")
    port = server.url.split(":")[-1].removesuffix("/v1")
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--base-url", server.url]
    process = subprocess.Popen([*command, "--model", "m", "--concurrency", "8"], stderr=subprocess.PIPE, text=True)
    while server.stats()["served"] < 30:
        time.sleep(0.05)
    server.process.kill()
    server.process.wait()
    time.sleep(1)
    chat_server("--port", port)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_kill_9_at_random_moments_then_the_same_files_as_undisturbed(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=40)
    server = chat_server("--latency", "0.02")
    run(metadata, tmp_path / "clean", server)
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--base-url", server.url]
    rng = random.Random(0)
    kills = 0
    for _ in range(20):
        process = subprocess.Popen([*command, "--model", "m", "--concurrency", "4"], stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.7, 1.6))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills >= 3, "the run was over before it could be killed"
    subprocess.run([*command, "--model", "m"], check=True, capture_output=True)
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_dry_run_shows_requests_and_asks_nothing(gendb, tmp_path):
    metadata = gendb()
    command = [*ANNOTATE, "--metadata", metadata, "--output", tmp_path / "out", "--dry-run", "--model", "none"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.count("=====") == 5 and "tokens" in shown and "a red cat" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--metadata", "nothing.jsonl"], 1, "nothing.jsonl: no such file"),
        (["--engine", "oracle", "--base-url", "http://x/v1"], 2, "--base-url goes with --engine openai"),
        (["--api-key-env", "NO_SUCH_KEY"], 2, "NO_SUCH_KEY is not set"),
        (["--shard", "3/2"], 2, "expected i/n"),
        (["--limit", "0"], 2, "expected at least 1"),
    ],
)
def test_wrong_command_lines_get_one_clear_line(gendb, tmp_path, flags, status, message):
    command = [*ANNOTATE, "--metadata", gendb(), "--output", tmp_path / "out", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


def test_full_disk_stops_the_run_and_loses_nothing(run, gendb, chat_server, tmp_path):
    """A file size limit fails a write half way, as a full disk does; Python turns it into the same kind of error."""
    metadata, server = gendb(prompts=12), chat_server()
    run(metadata, tmp_path / "clean", server)
    flags = ["--metadata", str(metadata), "--output", str(tmp_path / "out"), "--base-url", server.url, "--model", "m"]
    command = ["bash", "-c", 'ulimit -f 20; exec "$@"', "-", *ANNOTATE, *flags, "--concurrency", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr
    before = content(tmp_path / "out")
    assert any(before.values()) and before != content(tmp_path / "clean")
    run(metadata, tmp_path / "out", server)
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_the_key_is_in_no_file_and_no_message(gendb, chat_server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    server = chat_server("--faults", "429,empty", "--fault-rate", "0.5")
    flags = ["--metadata", gendb(), "--output", tmp_path / "out", "--base-url", server.url, "--model", "m"]
    command = [*ANNOTATE, *flags, "--api-key-env", "TEACHER_KEY", "--attempts", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert server.stats()["seen"] == ["Bearer sk-very-secret"]
    assert "sk-very-secret" not in done.stdout + done.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()
