import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from dyneval.errors import DataFileError, UserError
from dyneval.files.atomic import read_json
from dyneval.files.captioned import gather
from dyneval.files.jsonl import read_jsonl
from dyneval.loaded_pairs import default_pair_id
from dyneval.records import ScoreRecord, json_schema
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings
from dyneval.scorer.loading import student_revision
from dyneval.scorer.run import read_questions, score_file, score_refs
from tests import processes
from tests.rows import write_jsonl

DOOR = Path(__file__).parents[2] / "inference" / "run_inference.py"
SMALL = ["--max-questions", "2", "--max-text", "8"]


def door(*arguments, **options):
    command = [sys.executable, str(DOOR), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return processes.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


def one_image(path, prompt):
    return gather([path], prompt, False, path.parent)


def test_one_image_gives_json_on_stdout(student, pictures, tmp_path):
    done = door("--checkpoint", student, "--image", pictures / "0.png", "--prompt", "a circle", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    Draft202012Validator(json_schema(ScoreRecord)).validate(record)
    assert record["settings"]["limits"]["questions"] == 2


def test_one_line_says_what_is_wrong(student, pictures):
    done = door("--checkpoint", student, "--image", pictures / "missing.png", "--prompt", "a cat")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.endswith("missing.png: no such image file\n")


def test_a_run_goes_on_past_bad_rows_and_is_resumed(scorer, pictures, tmp_path):
    (pictures / "cut.png").write_bytes((pictures / "0.png").read_bytes()[:100])
    rows = [
        {"file_name": "0.png", "prompt": "a circle", "pair_id": "good"},
        {"file_name": "cut.png", "prompt": "a circle", "pair_id": "cut"},
        {"file_name": "../outside.png", "prompt": "a circle", "pair_id": "outside"},
        {"file_name": "1.png", "prompt": "", "pair_id": "empty"},
        {"file_name": "1.png"},
        {"file_name": "2.png", "prompt": "a circle", "pair_id": "good"},
        {"file_name": "2.png", "prompt": "<|im_end|>"},
    ]
    metadata, output = write_jsonl(tmp_path / "metadata.jsonl", rows), tmp_path / "out" / "scores.jsonl"
    summary = score_file(lambda: scorer, metadata, output, image_root=pictures)
    assert (summary.made, summary.there_before, summary.rejected) == (2, 0, 5)
    told = read_json(output.with_suffix(".summary.json"))
    assert told["run"] == {"made": 2, "there_before": 0, "rejected": 5, "seconds": summary.seconds, "devices": ["cpu"]}
    assert (told["scored"], told["there_before"], told["failed"]) == (2, 0, 5)
    assert [row["image"] for row in read_jsonl(output)] == ["0.png", "2.png"]
    reasons = {row["pair_id"]: row["reason"] for row in read_jsonl(output.with_name("scores.rejects.jsonl"))}
    assert set(reasons) == {"cut", "outside", "empty", "row 5", "good"}
    assert "leads out of the image folder" in reasons["outside"] and "cut.png" in reasons["cut"]

    rows[3]["prompt"] = "repaired"
    again = score_file(lambda: scorer, write_jsonl(metadata, rows), output, image_root=pictures)
    assert (again.made, again.there_before, again.rejected) == (1, 2, 4)
    assert len(list(read_jsonl(output))) == 3


def test_new_pairs_among_many_that_are_there_are_scored_and_no_other(scorer, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("dyneval.scorer.run._STRETCH", 2)
    metadata, output = tmp_path / "metadata.jsonl", tmp_path / "scores.jsonl"
    rows = [{"file_name": f"{n % 4}.png", "prompt": "a circle", "pair_id": f"p{n}"} for n in range(12)]
    new = [rows[0], rows[5], rows[6], rows[11]]
    score_file(lambda: scorer, write_jsonl(metadata, [row for row in rows if row not in new]), output, pictures)
    summary = score_file(lambda: scorer, write_jsonl(metadata, rows), output, pictures)
    assert (summary.made, summary.there_before, summary.rejected) == (4, 8, 0)
    assert sorted(row["pair_id"] for row in read_jsonl(output)) == sorted(row["pair_id"] for row in rows)


def test_every_row_of_a_users_table_is_scored_or_rejected(scorer, pictures, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(("a b.png", "a-b.png", "x(1).png", "x[1].png")):
        shutil.copy(pictures / f"{number}.png", images / name)
    metadata, output = tmp_path / "m.csv", tmp_path / "scores.jsonl"
    metadata.write_text(
        "pair_id;file_name;prompt\n0;a b.png;a pet\n;a b.png;a pet\n;a-b.png;a pet\n;x(1).png;a pet\n"
        "7;a-b.png;a; pet\n;x[1].png;a pet"
    )
    summary = score_file(lambda: scorer, metadata, output, image_root=images)
    assert (summary.made, summary.rejected) == (5, 1)
    found = [row["pair_id"] for row in read_jsonl(output)]
    assert "0" in found and len(set(found)) == 5, "two files have two ids, whatever letters their names hold"
    (reject,) = read_jsonl(output.with_name("scores.rejects.jsonl"))
    assert reject["pair_id"] == "row 5" and "has 4 cells, expected 3" in reject["reason"]
    assert score_file(lambda: scorer, metadata, output, image_root=images).there_before == 5


def test_an_id_that_needs_no_change_is_what_it_was_and_others_carry_their_name():
    assert default_pair_id("a pet", "a-b.png") == "Pda14eda3a9d0b390-a-b.png"
    changed = default_pair_id("a pet", "a b.png")
    assert changed.startswith("Pda14eda3a9d0b390-a-b.png-") and len(changed) == len("Pda14eda3a9d0b390-a-b.png-") + 8


@pytest.mark.parametrize("form", ["{}\n", "{}", "[{}]", "\ufeff{}\r\n"])
def test_questions_are_read_whole(tmp_path, form):
    row = {"prompt": "a dot", "questions": [{"question": "Is it round?", "answer": "yes"}]}
    (tmp_path / "q.jsonl").write_text(form.replace("{}", json.dumps(row)), "utf-8")
    assert read_questions(tmp_path / "q.jsonl") == {"a dot": row["questions"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no questions"),
        ('{"prompt": " ", "questions": []}', "row 1: expected `prompt` and `questions`"),
        ('{"prompt": "a", "questions": [{"question": " "}]}', "row 1: expected questions with a text `question`"),
        ('{"prompt": "a", "questions": ["Is it?"]}', "row 1: expected questions with a text"),
        ('{"prompt": "a", "questions": []}\n{"prompt"', r"q\.jsonl:2: is not JSON"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(tmp_path, content, message):
    (tmp_path / "q.jsonl").write_text(content)
    with pytest.raises(DataFileError, match=message):
        read_questions(tmp_path / "q.jsonl")


@pytest.fixture
def two_pairs(pictures, tmp_path):
    """Scores two pairs into one file: run(scorer, prompts) -> (scored, there before, failed), rows, superseded rows."""
    images, output = tmp_path / "images", tmp_path / "scores.jsonl"
    shutil.copytree(pictures, images)

    def run(scorer, prompts=("a circle", "a dot")):
        rows = [{"pair_id": f"p{n}", "file_name": f"{n}.png", "prompt": prompt} for n, prompt in enumerate(prompts)]
        metadata = write_jsonl(tmp_path / "metadata.jsonl", rows)
        summary = score_file(lambda: scorer, metadata, output, image_root=images)
        old = output.with_name("scores.jsonl.superseded")
        counts = summary.made, summary.there_before, summary.rejected
        return counts, list(read_jsonl(output)), list(read_jsonl(old)) if old.exists() else []

    run.images = images
    return run


def test_what_was_made_from_the_same_is_not_scored_again(two_pairs, scorer, engine):
    counts, rows, _ = two_pairs(scorer)
    assert counts == (2, 0, 0) and len({row["key"] for row in rows}) == 2
    other_batches = Scorer(engine, "student", dataclasses.replace(scorer.settings, batch_size=1))
    assert two_pairs(other_batches) == ((0, 2, 0), rows, [])


def test_a_row_that_is_no_record_is_scored_again(two_pairs, scorer):
    _, rows, _ = two_pairs(scorer)
    output = two_pairs.images.parent / "scores.jsonl"
    output.write_text("".join(json.dumps(row) + "\n" for row in ({**rows[0], "t2ia": 9}, rows[1])))
    counts, again, old = two_pairs(scorer)
    assert counts == (1, 1, 0) and [row["t2ia"] for row in old] == [9]
    assert sorted(row["t2ia"] for row in again) == sorted(row["t2ia"] for row in rows)


def test_another_image_or_prompt_is_scored_again_and_the_old_record_is_kept_aside(two_pairs, scorer):
    _, first, _ = two_pairs(scorer)
    (two_pairs.images / "0.png").write_bytes((two_pairs.images / "4.png").read_bytes())
    counts, rows, old = two_pairs(scorer)
    assert counts == (1, 1, 0) and old == first[:1]
    assert [row["pair_id"] for row in rows] == ["p1", "p0"] and rows[1]["key"] != first[0]["key"]
    counts, rows, old = two_pairs(scorer, ("a circle", "a dot of ink"))
    assert counts == (1, 1, 0) and old == first and rows[-1]["prompt"] == "a dot of ink"


@pytest.mark.parametrize("change", [{"template": "release"}, {"mode": "fast"}, {"alpha": 0.2, "beta": 0.8}])
def test_other_settings_are_scored_again_and_said(two_pairs, scorer, engine, change, caplog):
    _, first, _ = two_pairs(scorer)
    other = Scorer(engine, "student", dataclasses.replace(scorer.settings, **change))
    counts, rows, old = two_pairs(other)
    assert counts == (2, 0, 0) and old == first and len(rows) == 2
    assert "holds other scores" in caplog.text and next(iter(change)) in caplog.text


def test_given_questions_and_other_weights_count_too(two_pairs, scorer, engine):
    _, first, _ = two_pairs(scorer)
    asked = Scorer(engine, "student", scorer.settings)
    asked.give_questions({"a dot": [{"question": "Is it round?", "answer": "yes"}]})
    counts, _, old = two_pairs(asked)
    assert counts == (1, 1, 0) and old == first[1:]
    tuned = Scorer(engine, "student", scorer.settings, revision="sha256:0")
    assert two_pairs(tuned)[0] == (2, 0, 0)
    assert two_pairs(Scorer(engine, "elsewhere", scorer.settings, revision="sha256:0"))[0] == (
        0,
        2,
        0,
    )


def test_a_record_that_holds_no_more_does_not_stay_when_scoring_fails(two_pairs, scorer, caplog):
    _, first, _ = two_pairs(scorer)
    (two_pairs.images / "1.png").unlink()
    counts, rows, old = two_pairs(scorer, (" ", "a dot"))
    assert counts == (0, 0, 2) and old == first[:1]
    assert rows == first[1:], "whether the image that is gone had changed nobody knows"


def test_files_that_cannot_be_read_are_said_before_the_student_is_loaded(pictures, tmp_path):
    (tmp_path / "table.csv").write_text("file_name,text\n")
    good = write_jsonl(tmp_path / "metadata.jsonl", [{"file_name": "0.png", "prompt": "a circle"}])
    for metadata, root, said in [
        (tmp_path / "table.csv", pictures, r"table\.csv: lacks the column prompt"),
        (tmp_path / "gone.jsonl", pictures, r"gone\.jsonl: cannot be read"),
        (good, tmp_path / "nowhere", "nowhere: no such image folder"),
    ]:
        with pytest.raises(DataFileError, match=said):
            score_file(lambda: pytest.fail("loaded"), metadata, tmp_path / "scores.jsonl", image_root=root)
    assert not (tmp_path / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.txt", b"python generate.py --seed 7 --steps 30"),
        ("m.jsonl", b'{"pair_id": "a", "file_name": "a.png", "prompt": "a cat"}'),
        ("a.png", None),
    ],
)
def test_a_file_that_is_no_record_of_scores_is_never_written_into(scorer, pictures, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if content is not None else (pictures / "0.png").read_bytes())
    before = path.read_bytes()
    metadata = path if name == "m.jsonl" else write_jsonl(tmp_path / "t.jsonl", [{"file_name": "0.png", "prompt": "x"}])
    with pytest.raises(UserError, match=f"{name}: (is an input|its last line is no record|holds no scores)"):
        score_file(lambda: scorer, metadata, path, pictures)
    assert path.read_bytes() == before


def test_a_killed_run_is_resumed_to_the_same_scores(student, loaded, pictures, tmp_path, engine):
    rows = [{"file_name": f"{n % 6}.png", "prompt": f"circle number {n}", "pair_id": f"p{n}"} for n in range(12)]
    metadata, output = write_jsonl(tmp_path / "metadata.jsonl", rows), tmp_path / "scores.jsonl"
    flags = ["--checkpoint", student, "--metadata", metadata, "--image-root", pictures, "--batch-size", 1, *SMALL]
    command = [sys.executable, str(DOOR), *map(str, flags), "--output", str(output)]
    process = processes.Process(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (output.exists() and output.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = output.read_bytes()
    assert 0 < before.count(b"\n") < 12
    with output.open("ab") as file:
        file.write(b'{"pair_id": "torn')

    limits = ReplyLimits().capped(2, 8)
    revision = student_revision(student, None)
    same = Scorer(
        engine,
        str(student),
        ScorerSettings(limits=limits, batch_size=5, template="readme", reply_form="readme"),
        revision,
    )
    assert score_file(lambda: same, metadata, output, image_root=pictures).rejected == 0
    straight = tmp_path / "straight.jsonl"
    score_file(lambda: same, metadata, straight, image_root=pictures)
    assert output.read_bytes().startswith(before)
    one, other = ({row["pair_id"]: row for row in read_jsonl(path)} for path in (output, straight))
    assert len(one) == 12 and one.keys() == other.keys()
    assert all(one[key]["overall"] == other[key]["overall"] for key in one)


@pytest.mark.parametrize(
    ("name", "said"), [("", "is a folder"), ("0.png", "is an input"), ("other.jsonl", "holds no scores")]
)
def test_an_output_that_is_not_to_be_written_is_said_before_the_student_is_loaded(pictures, tmp_path, name, said):
    image = tmp_path / "0.png"
    image.write_bytes((pictures / "0.png").read_bytes())
    other = write_jsonl(tmp_path / "other.jsonl", [{"pair_id": "p", "file_name": "0.png", "prompt": "x"}])
    before = image.read_bytes(), other.read_bytes()
    with pytest.raises(UserError, match=said):
        score_refs(lambda: pytest.fail("loaded"), one_image(image, "a cat"), tmp_path / name)
    assert (image.read_bytes(), other.read_bytes()) == before


def test_files_that_are_written_beside_the_output_are_no_inputs_either(pictures, tmp_path):
    rows = [{"file_name": "0.png", "prompt": "x"}]
    for name in ("scores.rejects.jsonl", "scores.jsonl.superseded", "scores.summary.json"):
        questions = write_jsonl(tmp_path / name, rows)
        with pytest.raises(UserError, match=f"{name}: is an input"):
            pair, output = one_image(pictures / "0.png", "a"), tmp_path / "scores.jsonl"
            score_refs(lambda: pytest.fail("loaded"), pair, output, [questions])


def test_questions_that_no_pair_has_are_told(engine, settings, pictures, tmp_path, caplog):
    scorer = Scorer(engine, "student", settings)
    scorer.give_questions({"A circle.": [{"question": "Is it round?", "answer": "yes"}]})
    score_refs(lambda: scorer, one_image(pictures / "0.png", "a circle"), tmp_path / "scores.jsonl")
    assert "questions of 1 prompts are not used, since no pair has such a prompt: 'A circle.'" in caplog.text
    caplog.clear()
    score_refs(lambda: scorer, one_image(pictures / "0.png", "A circle.\n"), tmp_path / "others.jsonl")
    assert "not used" not in caplog.text


def test_a_prompt_of_several_lines_is_scored_as_one_line(scorer, pictures):
    key = scorer.key("a cat\nQuestions:", "0" * 64)
    assert key == scorer.key("a cat Questions:", "0" * 64) != scorer.key("a cat Questions", "0" * 64)
    assert scorer.key("a cat", "0" * 64) != scorer.key(" a cat", "0" * 64), "records made before stay current"


@pytest.mark.parametrize(
    "flags", [["--prompt", " "], [], ["--prompt", "a", "--output", "."], ["--prompt", "a", "--output", "0.png"]]
)
def test_the_command_line_is_checked_before_anything_is_loaded(pictures, tmp_path, flags):
    (tmp_path / "0.png").write_bytes((pictures / "0.png").read_bytes())
    done = door("0.png", *flags, "--checkpoint", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode in (1, 2) and "nowhere" not in done.stderr and "Traceback" not in done.stderr
