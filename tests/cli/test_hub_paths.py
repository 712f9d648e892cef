"""Paths that are addresses of the Hub, with a server of this machine in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dyneval.files.jsonl import read_jsonl

SERVER = Path(__file__).parents[1] / "qwenvl" / "hub_server.py"
SMALL = ["--max-questions", "2", "--max-text", "8", "--device", "cpu", "--mode", "fast"]


@pytest.fixture
def dyneval(tmp_path):
    """dyneval(*words) runs a verb; the Hub has the data set me/cats, an ImageFolder of two pairs."""
    place = tmp_path / "hub" / "me" / "cats" / "main"
    place.mkdir(parents=True)
    rows = [{"file_name": f"{name}.png", "prompt": f"a {name} cat"} for name in ("red", "blue")]
    (place / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name in ("red", "blue"):
        Image.new("RGB", (40, 40), name).save(place / f"{name}.png")
    process = subprocess.Popen([sys.executable, SERVER, tmp_path / "hub", "a-token"], stdout=subprocess.PIPE, text=True)
    there = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    there |= {"HF_ENDPOINT": f"http://127.0.0.1:{int(process.stdout.readline())}", "HF_TOKEN": "a-token"}
    there |= {"HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}

    def run(*words, **more):
        command = [sys.executable, "-m", "dyneval", *map(str, words)]
        settings = there | more
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)

    yield run
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_data_set_of_the_hub_is_scored_and_read_again_without_the_hub(dyneval, student, tmp_path):
    command = ["score", "hf://datasets/me/cats@main", "--output", "s.jsonl", "--checkpoint", student, *SMALL]
    done = dyneval(*command)
    assert done.returncode == 0, done.stderr
    assert "hf://datasets/me/cats@main: 3 files, 0.0 MB, are fetched from the Hub" in done.stderr
    assert sorted(row["prompt"] for row in read_jsonl(tmp_path / "s.jsonl")) == ["a blue cat", "a red cat"]
    said = json.loads((tmp_path / "s.summary.json").read_text())["run"]["config"]
    assert said["image"] == ["hf://datasets/me/cats@main"]
    again = dyneval(*command, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "fetched" not in again.stderr, again.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://datasets/me/cats/none.jsonl", "there is no such file in the repository"),
        ("hf://datasets/me/cats@v2", "cannot be fetched (RevisionNotFoundError: "),
        ("hf://cats", "expected hf://datasets/USER/NAME[@REVISION][/PATH]"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(dyneval, address, said):
    done = dyneval("score", "--metadata", address, "--output", "s.jsonl")
    assert done.returncode == 1 and done.stderr.startswith(f"dyneval score: {address}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_written_to_an_address(dyneval):
    done = dyneval("overall", "--metadata", "a", "--annotations", "b", "--output", "hf://datasets/me/cats/s.csv")
    assert done.returncode == 1 and "--output: is written to this machine" in done.stderr
