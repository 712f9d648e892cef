"""Ways into `dyneval score`: folders, archives, foreign tables, names of students, a server; and what comes out."""

import csv
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from dyneval.checkpoints.names import DEFAULT, PUBLISHED, at_revision, named
from dyneval.cli import score
from dyneval.errors import CheckpointError
from dyneval.files.captioned import gather
from dyneval.files.jsonl import read_jsonl

SMALL = ["--max-questions", "2", "--max-text", "8", "--device", "cpu", "--mode", "fast"]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, prompt in (("a_red_cat_2.png", "a cat"), ("more/one dog.jpg", "a dog"), ("no words.webp", None)):
        Image.new("RGB", (40, 40), (200, 60, 40)).save(folder / name)
        if prompt:
            (folder / name).with_suffix(".txt").write_text(prompt + "\n")
    (folder / "notes.md").write_text("not an image")
    return folder


def run(student, *arguments):
    return score.main([*map(str, arguments), "--checkpoint", str(student), *SMALL], "dyneval score")


def prompts_of(gathered):
    return {one.file_name.rpartition("pictures/")[2]: one.prompt for one in gathered.refs}


def test_prompts_stand_beside_images_or_in_their_names(pictures, tmp_path):
    beside = gather([pictures], "txt", True, tmp_path)
    assert prompts_of(beside) == {"a_red_cat_2.png": "a cat", "more/one dog.jpg": "a dog"}
    (reject,) = beside.rejects
    assert reject.key.endswith("no words.webp") and reject.reason == "no prompt: no words.txt is not beside it"
    named = gather([pictures], "filename", True, tmp_path)
    assert sorted(prompts_of(named).values()) == ["a red cat", "no words", "one dog"] and not named.rejects
    same = gather([pictures], "a bird", False, tmp_path)
    assert set(prompts_of(same).values()) == {"a bird"} and len(same.refs) == 3


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_read_as_folders_and_named_by_what_is_inside(pictures, tmp_path, kind):
    (pictures / "a_red_cat_2.txt").unlink()
    (pictures / "a_red_cat_2.json").write_text(json.dumps({"caption": "a cat", "width": 40}))  # as WebDataset has it
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, pictures)
    found = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        gathered = gather([tmp_path / archive], "txt", True, tmp_path / place)
        found.append([(one.pair_id, one.file_name, one.prompt) for one in gathered.refs])
        assert all((gathered.root / one.file_name).is_file() for one in gathered.refs)
    assert found[0] == found[1]
    assert [row[1:] for row in found[0]] == [("packed/a_red_cat_2.png", "a cat"), ("packed/more/one dog.jpg", "a dog")]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path, kind):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
            packed.writestr("../../out.png", picture.getvalue())
    else:
        with tarfile.open(tmp_path / "bad.tar", "w") as packed:
            member = tarfile.TarInfo("../../out.png")
            member.size = len(picture.getvalue())
            packed.addfile(member, io.BytesIO(picture.getvalue()))
    place = tmp_path / "deep" / "deeper"
    place.mkdir(parents=True)
    try:
        gather([tmp_path / f"bad.{kind}"], "a cat", False, place)
    except Exception as error:
        assert "bad.tar: cannot be unpacked" in str(error)
    assert not list(tmp_path.glob("**/out.png")) or (place / "bad" / "out.png").is_file()
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "deep" / "out.png").exists()


def test_a_folder_ends_in_means_tables_and_the_next_command(pictures, student, capsys):
    files = ["--output", "scores.jsonl", "--csv", "scores.csv", "--parquet", "scores.parquet"]
    assert run(student, "pictures", "--captions", "txt", *files) == 1
    said = capsys.readouterr().err
    rows = list(read_jsonl(Path("scores.jsonl")))
    mean = sum(row["overall"] for row in rows) / 2
    soft = sum(row["soft"]["overall"] for row in rows) / 2
    assert f"overall {mean:.2f}, soft T2IA " in said and f"overall {soft:.2f}, failed 1" in said
    # Two prompts and no model: neither a board nor a choice would say anything.
    assert "next: dyneval check NEW.jsonl --baseline scores.jsonl" in said
    table = list(csv.DictReader(Path("scores.csv").read_text().splitlines()))
    assert [(row["image"], float(row["t2ia"])) for row in table] == [(row["image"], row["t2ia"]) for row in rows]
    assert pl.read_parquet("scores.parquet")["overall"].to_list() == [row["overall"] for row in rows]
    config = json.loads(Path("scores.summary.json").read_text())["run"]["config"]
    assert config["command"] == "dyneval score" and config["captions"] == "txt" and config["mode"] == "fast"


def test_the_next_command_is_one_that_makes_sense_of_these_scores(pictures, student, capsys):
    assert run(student, "pictures", "--prompt", "a cat", "--output", "runs/s.jsonl") == 0
    said = capsys.readouterr().err
    assert "next: dyneval best --scores runs/s.jsonl --output runs/best.jsonl" in said
    rows = [{"pair_id": one, "file_name": "a_red_cat_2.png", "prompt": "a cat"} for one in ("one", "two")]
    for models, command in ((("sdxl", "sdxl"), "best --scores m.jsonl"), (("sdxl", "fibo"), "leaderboard m.jsonl")):
        table = [json.dumps(row | {"generation_model": model}) for row, model in zip(rows, models, strict=True)]
        Path("pictures/t.jsonl").write_text("\n".join(table) + "\n")
        assert run(student, "--metadata", "pictures/t.jsonl", "--output", "m.jsonl") == 0
        said = capsys.readouterr().err
        assert f"next: dyneval {command}" in said, said
    assert "next: dyneval leaderboard m.jsonl --metadata pictures/t.jsonl --output board/" in said


@pytest.mark.parametrize("words", ["--csv t.csv", "--csv s.jsonl", "--csv new.csv --parquet new.csv"])
def test_a_table_of_scores_takes_the_place_of_nothing(pictures, student, capsys, words):
    Path("t.csv").write_text("file_name,prompt\na_red_cat_2.png,a cat\n")
    before = Path("t.csv").read_bytes()
    command = ["pictures", "--captions", "t.csv", "--output", "s.jsonl", *words.split()]
    assert run(student, *command) == 1
    said = capsys.readouterr().err
    assert "t.csv: is an input and would be overwritten" in said or "two of them name one file" in said
    assert Path("t.csv").read_bytes() == before and not Path("s.jsonl").exists()


def test_a_foreign_table_names_its_columns_and_images_as_people_do(pictures, student, capsys):
    rows = "path,text\na%20b.png,a cat\nmore\\one dog.jpg,a dog\n"
    (pictures / "a b.png").write_bytes((pictures / "a_red_cat_2.png").read_bytes())
    (pictures.parent / "t.csv").write_text(rows)
    command = ["pictures", "--captions", "t.csv", "--output", "s.jsonl"]
    assert run(student, *command) == 1
    said = capsys.readouterr().err
    assert "t.csv: lacks the columns file_name and prompt; it has path, text" in said
    assert "--column image=NAME prompt=NAME" in said
    assert run(student, *command, "--column", "image=path", "prompt=text") == 0
    assert sorted(row["prompt"] for row in read_jsonl(Path("s.jsonl"))) == ["a cat", "a dog"]


def test_a_json_file_may_map_images_to_prompts(pictures, student, capsys):
    prompts = {"a_red_cat_2.png": "a cat", "./more\\one dog.jpg": {"caption": "a dog"}, "gone.png": "a cow"}
    (pictures.parent / "prompts.json").write_text(json.dumps(prompts))
    assert run(student, "pictures", "--captions", "prompts.json", "--output", "s.jsonl") == 1
    capsys.readouterr()
    assert sorted(row["prompt"] for row in read_jsonl(Path("s.jsonl"))) == ["a cat", "a dog"]
    reasons = sorted(row["reason"] for row in read_jsonl(Path("s.rejects.jsonl")))
    assert reasons == ["has a prompt, and is not among the images", "no prompt: --captions does not name it"]


@pytest.mark.parametrize("text", ['{"a.png": "a cat", "a.png": "a dog"}', '{"a.png": "a cat", "./a.png": "a dog"}'])
def test_a_json_file_has_one_prompt_for_an_image(pictures, student, capsys, text):
    Path("prompts.json").write_text(text)
    with pytest.raises(SystemExit, match="2"):
        run(student, "pictures", "--captions", "prompts.json", "--output", "s.jsonl")
    assert "prompts.json: a.png stands there twice" in capsys.readouterr().err


def test_lines_for_people_on_a_terminal(pictures, student, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(student, "pictures/a_red_cat_2.png", "pictures/more", "--prompt", "a cat") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pictures/a_red_cat_2.png: T2IA ") and len(lines) == 2
    assert run(student, "pictures/more", "--prompt", "a cat", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "a cat"


def test_a_repository_may_have_a_revision_and_a_folder_has_none(tmp_path, monkeypatch):
    assert at_revision("me/judge@v1.0") == ("me/judge", "v1.0")
    assert at_revision("hf://me/judge") == ("me/judge", None)
    monkeypatch.chdir(tmp_path)
    Path("me", "judge@v1.0").mkdir(parents=True)
    assert at_revision("me/judge@v1.0") == ("me/judge@v1.0", None)
    assert at_revision(Path("you/judge@2")) == (Path("you/judge@2"), None)


def test_students_have_names():
    assert named("dyneval-4b") == ("vcl-iisc/DynEval-Evaluator", "DynEval-4B")
    assert named(DEFAULT) == PUBLISHED["dyneval-2b"]
    assert named("me/mine", "sub") == ("me/mine", "sub") and named("./demo") == ("./demo", None)
    with pytest.raises(CheckpointError, match="has no subfolder"):
        named("dyneval-2b", "x")


def test_the_demo_judge_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, _ = named("demo")
    assert (folder / "config.json").is_file() and tmp_path in folder.parents
    assert named("demo")[0] == folder
