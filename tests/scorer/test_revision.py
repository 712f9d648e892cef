"""Which weights a record was made with: all files of a folder that matter, or the commit of a Hub repository."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from dyneval.scorer.loading import student_revision
from tests import processes

DOOR = Path(__file__).parents[2] / "inference" / "run_inference.py"
COMMITS = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"


def test_a_revision_is_of_the_content_not_of_the_place(student, tmp_path):
    moved = shutil.copytree(student, tmp_path / "moved")
    first = student_revision(student, None)
    assert first.startswith("sha256:") and student_revision(tmp_path, "moved") == first
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert student_revision(moved, None) != first


@pytest.mark.parametrize(
    "name",
    [
        *["added_tokens.json", "chat_template.jinja", "config.json", "merges.txt", "preprocessor_config.json"],
        *["tokenizer.json", "tokenizer_config.json", "vocab.json"],
    ],
)
def test_each_file_that_shapes_a_reply_counts(student, tmp_path, name):
    for path in student.iterdir():
        (tmp_path / path.name).symlink_to(path)
    first = student_revision(tmp_path, None)
    content = (student / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content + b" ")
    changed = student_revision(tmp_path, None)
    (tmp_path / name).unlink()
    assert len({first, changed, student_revision(tmp_path, None)}) == 3


def test_what_shapes_no_reply_does_not_count(student, tmp_path):
    for path in student.iterdir():
        (tmp_path / path.name).symlink_to(path)
    first = student_revision(tmp_path, None)
    for name in ("training_args.bin", "run.json", "README.md"):
        (tmp_path / name).write_text("{}")
    assert student_revision(tmp_path, None) == first


@pytest.fixture
def hub(student, tmp_path):
    """A cache of the Hub that holds two commits of one repository, its newest the first: hub.point(1) moves it."""
    repository = tmp_path / "hub" / "models--owner--judge"
    for folder in ("blobs", "refs", "snapshots"):
        (repository / folder).mkdir(parents=True)
    for commit in COMMITS:
        snapshot = repository / "snapshots" / commit / "DynEval-4B"
        snapshot.mkdir(parents=True)
        for path in student.iterdir():
            blob = repository / "blobs" / path.name
            if not blob.exists():
                os.link(path, blob)
            (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))

    def point(number):
        (repository / "refs" / "main").write_text(COMMITS[number])

    point(0)
    return tmp_path / "hub", point


def score(cache, pictures, tmp_path):
    """Score one picture by the command of users, without network; its records, new ones last."""
    (tmp_path / "metadata.jsonl").write_text('{"pair_id": "p", "file_name": "0.png", "prompt": "a dot"}\n')
    flags = ["--checkpoint", "owner/judge", "--subfolder", "DynEval-4B", "--metadata", tmp_path / "metadata.jsonl"]
    flags += ["--image-root", pictures, "--output", tmp_path / "scores.jsonl", "--device", "cpu"]
    flags += ["--max-questions", 1, "--max-text", 4]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = processes.run([sys.executable, DOOR, *map(str, flags)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]


def test_a_hub_commit_is_recorded_and_another_one_is_scored_again(hub, pictures, tmp_path):
    cache, point = hub
    (first,) = score(cache, pictures, tmp_path)
    assert first["revision"] == f"hub:{COMMITS[0]}/DynEval-4B"
    assert first["model"] == "owner/judge/DynEval-4B"
    assert score(cache, pictures, tmp_path) == [first]
    point(1)
    (second,) = score(cache, pictures, tmp_path)
    assert second["revision"] == f"hub:{COMMITS[1]}/DynEval-4B" and second["key"] != first["key"]
    assert json.loads((tmp_path / "scores.jsonl.superseded").read_text()) == first


def test_everything_is_loaded_from_the_commit_that_is_recorded(hub, tmp_path):
    """The repository moves on between two files of one loading; what is recorded must be what was loaded."""
    cache, _ = hub
    newer = cache / "models--owner--judge" / "snapshots" / COMMITS[1] / "DynEval-4B"
    for name in ("model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        (newer / name).unlink()
    code = """
import sys
from dyneval.scorer.students.registry import Checkpoint
from dyneval.scorer.loading import load_student
from dyneval.scorer.loading import hub_commit
commit = hub_commit("owner/judge", "DynEval-4B")
open(sys.argv[1], "w").write(sys.argv[2])
load_student("owner/judge", "DynEval-4B", device="cpu", commit=commit)
print(commit, Checkpoint(path="owner/judge", subfolder="DynEval-4B", commit=commit).folder())
"""
    command = [sys.executable, "-c", code, cache / "models--owner--judge" / "refs" / "main", COMMITS[1]]
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = processes.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    commit, folder = done.stdout.split()
    assert commit == COMMITS[0] and Path(folder) == newer.parents[1] / COMMITS[0] / "DynEval-4B"
