"""`dyneval score --server`: the command as a client of the real server, and what it keeps of that in files and logs."""

import csv
import json
import os
import sys

import pytest
from PIL import Image

from dyneval.cli import score as verb
from dyneval.errors import without_secrets
from dyneval.evaluation.scores import read_scores
from dyneval.files.jsonl import read_jsonl
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings
from tests import processes

MODEL = {"model": "judge", "revision": "r1", "template": "readme", "settings": {"mode": "full"}}


def test_a_folder_is_scored_by_a_server_and_only_once(serve_in_process, student, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40), (200, 60, 40)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"a {name}")
    output = tmp_path / "scores.jsonl"
    with serve_in_process(student, tmp_path / "log") as (address, _):
        command = [str(folder), "--captions", "txt", "--server", address]
        for made in (2, 0):
            assert verb.main([*command, "--output", str(output)], "dyneval score") == 0
            assert json.loads(output.with_suffix(".summary.json").read_text())["scored"] == made
        capsys.readouterr()
        assert verb.main([str(folder / "cat.png"), "--prompt", "a cat", "--server", address]) == 0
        printed = json.loads(capsys.readouterr().out)
    rows = {row["prompt"]: row for row in read_jsonl(output)}
    assert set(rows) == {"a cat", "a dog"} and rows["a cat"]["key"] == printed["key"]
    assert rows["a cat"]["overall"] == printed["overall"]


@pytest.fixture
def serve(start, judge_class):
    """A server with a judge that needs no weights: serve(judge, **what /v1/model says too) -> address."""

    def begin(judge=None, **told):
        settings = ServerSettings(queue=8, max_pairs=8)
        batcher = Batcher(judge or judge_class(), batch_size=2, queue=8, wait=0.001, patience=60)
        return start(create_app(batcher, settings, MODEL | told))

    return begin


@pytest.fixture
def score(tmp_path, picture):
    """score(address, *flags): the command line on two pairs of one picture, in the folder `tmp_path`."""
    (tmp_path / "a.png").write_bytes(picture)
    (tmp_path / "pairs.csv").write_text("file_name,prompt,pair_id\na.png,a red circle,one\na.png,a blue circle,two\n")

    def run(address, *flags):
        command = ["score", "--metadata", "pairs.csv", "--output", "scores.jsonl", "--server", address, *flags]
        return processes.run(
            [sys.executable, "-m", "dyneval", *command],
            cwd=tmp_path,
            env=os.environ | {"DYNEVAL_TOKEN": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_password_in_the_address_reaches_no_file_and_no_log(serve, score, tmp_path):
    address = serve().replace("http://", "http://me:secret@")
    done = score(address)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "scores.summary.json").read_text())
    public = address.replace("me:secret@", "")
    assert summary["devices"] == summary["run"]["devices"] == [public] and summary["run"]["config"]["server"] == public
    assert not summary["run"]["config"].keys() & {"alpha", "checkpoint", "max-text"}, "the server has others"
    gone = score("http://me:secret@127.0.0.1:9")
    assert gone.returncode == 1 and "http://127.0.0.1:9: nobody answers there" in gone.stderr
    for file in tmp_path.iterdir():
        assert b"secret" not in file.read_bytes(), file
    assert "secret" not in done.stderr + done.stdout + gone.stderr + gone.stdout


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://me:secret@host:8000/v1: busy", "https://host:8000/v1: busy"),
        ("tried https://me:se@cret@host, ftp://me@host/", "tried https://host, ftp://host/"),
        ("(https://host/v1?api-key=secret#top)", "(https://host/v1?...)"),
        ("is https://host/@me/x there? mail me@host", "is https://host/@me/x there? mail me@host"),
    ],
)
def test_addresses_are_told_without_what_lets_one_in(text, public):
    assert without_secrets(text) == public


def test_a_server_with_questions_scores_a_pair_once(serve_in_process, student, score, tmp_path):
    questions = tmp_path / "questions.jsonl"
    asked = {"prompt": "a red circle", "questions": [{"question": "Is it red?", "answer": "yes"}]}
    questions.write_text(json.dumps(asked) + "\n")
    with serve_in_process(student, tmp_path / "log.txt", "--questions", str(questions)) as (address, _):
        first, second = score(address), score(address)
    assert "2 pairs scored" in first.stderr and "0 pairs scored" in second.stderr, second.stderr
    records = {row["pair_id"]: row for row in read_jsonl(tmp_path / "scores.jsonl")}
    assert [one["question"] for one in records["one"]["t2ia_questions"]] == ["Is it red?"]


def test_other_questions_of_a_server_score_the_pairs_again(serve, score):
    one, other = serve(questions="one"), serve(questions="other")
    assert "2 pairs scored" in score(one).stderr
    assert "0 pairs scored" in score(one).stderr
    assert "2 pairs scored" in score(other).stderr


def test_a_spreadsheet_runs_nothing_of_the_table_and_the_scores_are_found_again(serve, score, tmp_path, picture):
    formula = '=HYPERLINK("http://evil.example","look")'
    (tmp_path / "@a.png").write_bytes(picture)
    pairs = [("=1+1", "@a.png", formula), ("-two", "a.png", "a\n+cat")]
    lines = [json.dumps({"pair_id": key, "file_name": name, "prompt": prompt}) for key, name, prompt in pairs]
    (tmp_path / "odd.jsonl").write_text("\n".join(lines))
    done = score(serve(), "--metadata", "odd.jsonl", "--csv", "scores.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == [f"'{formula}", "a +cat"] and rows[0]["overall"] == "3.0"
    assert [row["pair_id"] for row in rows] == ["'=1+1", "'-two"] and rows[0]["image"] == "'@a.png"
    found = read_scores(tmp_path / "scores.csv")
    assert found.by_id == {"=1+1": 3.0, "-two": 3.0} and found.image_of["=1+1"] == "@a.png"
