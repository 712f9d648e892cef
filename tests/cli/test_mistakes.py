"""The commonest mistakes at the command line: each is one line that says what to do, and the right status."""

import json
import os
import socket
import sys

import pytest
from PIL import Image

from tests import processes

MISTAKES = [
    # a verb, a flag, a value
    (2, ["scor", "a.png"], "did you mean score?"),
    (2, ["score", "a.png", "--promt", "a cat"], "--promt is no flag of dyneval score; did you mean --prompt?"),
    (2, ["score", "a.png", "--prompt", "a cat", "--mode", "quick"], "'quick' is none of full, fast"),
    (2, ["score", "a.png"], "images need --prompt TEXT"),
    (2, ["score", "--metadata", "pairs.csv"], "--metadata needs --output"),
    (2, ["benchmark", "--benchmark", "generic", "--column", "mos"], "mos: expected MEANING=NAME"),
    (2, ["score", "a.png", "--prompt", "a cat", "--batch-size", "0"], "expected a whole number of 1 or more, or auto"),
    (2, ["serve", "--rate", "a.csv"], "--rate and --ratings go together"),
    (2, ["serve", "--port", "http"], "expected a whole number of 0 or more, at most 65535, found 'http'"),
    (2, ["score", "--metadata", "pairs.csv", "--output", "s.jsonl", "--limit", "0"], "a whole number of 1 or more"),
    (2, ["annotate", "--metadata", "m.jsonl", "--output", "o", "--limit", "-1"], "a whole number of 1 or more"),
    # a path
    (1, ["score", "missing.png", "--prompt", "a cat"], "missing.png: no such image file"),
    (1, ["score", "empty", "--captions", "txt"], "empty: holds no images"),
    (1, ["score", "notes.txt", "--prompt", "a cat"], "notes.txt"),
    (1, ["score", "--metadata", "missing.csv", "--output", "s.jsonl"], "missing.csv"),
    (1, ["score", "--metadata", "pairs.csv", "--output", "empty"], "--output empty: is a folder; name a JSONL file"),
    (1, ["score", "--metadata", "pairs.csv", "--output", "pairs.csv"], "is an input and would be overwritten"),
    (1, ["leaderboard", "missing.jsonl"], "missing.jsonl"),
    (1, ["instruct", "--metadata", "m.jsonl", "--annotations", "none", "--output", "o"], "none: no such folder"),
    (1, ["leaderboard", "s.jsonl", "--images", "nowhere"], "--images nowhere: no such folder"),
    (1, ["leaderboard", "--checkpoint", "demo", "--prompts", "p.json", "--images", "a.png"], "expected a folder"),
    (1, ["benchmark", "--benchmark", "tifa", "--annotations", "x", "--scores", "s", "--images", "no"], "no such"),
    (1, ["preferences", "s.jsonl", "--output", "p.jsonl", "--image-root", "no"], "--image-root no: no such folder"),
    (1, ["best", "--metadata", "pairs.csv", "--image-root", "no", "--output", "b.jsonl"], "--image-root no: no such"),
    # a step before the one that makes its input
    (2, ["generate", "--model", "demo-painter", "--prompts", "o/prompts.parquet", "--output", "o"], "Step 1 (dyneval"),
    (1, ["annotate", "--metadata", "gendb/metadata.jsonl", "--output", "o"], "; Step 2 (dyneval generate) writes it"),
    (2, ["gendb", "stats", "gendb"], "gendb/metadata.jsonl: no such file; Step 2 (dyneval generate) writes it"),
    (1, ["instruct", "--metadata", "m.jsonl", "--annotations", "empty", "--output", "o"], "Step 3 (dyneval annotate)"),
    (1, ["score", "--metadata", "in/heldout.jsonl", "--output", "s.jsonl"], "; Step 3 (dyneval instruct) writes it"),
    (1, ["leaderboard", "scores.jsonl"], "; Step 5 (dyneval score) writes it"),
    # nothing in it
    (2, ["score", "a.png", "--prompt", " "], "--prompt is empty"),
    (2, ["best", "a.png", "--prompt", ""], "--prompt is empty"),
    (1, ["preferences", "empty.jsonl", "--output", "p.jsonl"], "empty.jsonl: holds no scores to choose from"),
    (1, ["check", "empty.jsonl", "--baseline", "empty.jsonl"], "empty.jsonl: holds no scores"),
    (1, ["prompts", "--input", "missing.txt", "--output", "o"], "missing.txt: no such file"),
    # a table
    (1, ["score", "--metadata", "other.csv", "--output", "s.jsonl"], "--column image=NAME prompt=NAME"),
    (1, ["score", "--metadata", "other.jsonl", "--output", "s.jsonl"], "--column image=NAME prompt=NAME"),
    (1, ["score", "--metadata", "pairs.xls", "--output", "s.jsonl"], "save the sheet as CSV in UTF-8"),
    # a student, a server
    (1, ["score", "a.png", "--prompt", "a cat", "--checkpoint", "no/such/folder"], "Step 4 (dyneval train) makes one"),
    (1, ["score", "a.png", "--prompt", "a cat", "--checkpoint", "empty"], "the folder holds no config.json"),
    (1, ["score", "a.png", "--prompt", "a cat", "--server", "gpu-machine:8000"], "expected the address of a server"),
    (1, ["score", "a.png", "--prompt", "a cat", "--server", "http://127.0.0.1:PORT"], "refused"),
    (2, ["score", "a.png", "--prompt", "a cat", "--server", "http://x", "--mode", "fast"], "settled by the server"),
    (2, ["score", "a.png", "--prompt", "a", "--server", "x", "--alpha", "0.5"], "--alpha: settled by the server"),
    (2, ["score", "a.png", "--prompt", "a", "--server", "x", "--max-t=9", "--device", "cpu"], "--device, --max-text: "),
    (2, ["score", "a.png", "--prompt", "a", "--server", "x", "--config", "score.toml"], "--beta: settled by"),
    (2, ["generate", "--model", "flux9", "--prompts", "p.txt", "--output", "g"], "did you mean flux2-dev?"),
    (2, ["generate", "--model", "sdlx", "--prompts", "p.txt", "--output", "g"], "sdlx"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mistakes")
    Image.new("RGB", (8, 8)).save(root / "a.png")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("not an image")
    (root / "pairs.csv").write_text("file_name,prompt\na.png,a cat\n")
    (root / "empty.jsonl").touch()
    (root / "pairs.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "score.toml").write_text("beta = 0.5\n")
    (root / "other.csv").write_text("path,caption\na.png,a cat\n")
    (root / "other.jsonl").write_text(json.dumps({"path": "a.png", "caption": "a cat"}) + "\n")
    return root


@pytest.mark.parametrize(("status", "arguments", "said"), MISTAKES, ids=[" ".join(row[1]) for row in MISTAKES])
def test_a_mistake_is_one_line_with_its_status(status, arguments, said, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "dyneval", *(word.replace("PORT", port) for word in arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    before = sorted(folder.iterdir())
    done = processes.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    left = {path.name for path in folder.iterdir()} - {path.name for path in before}
    assert left <= {"o"}, "a mistake leaves nothing behind"
