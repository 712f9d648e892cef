import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dyneval import schemas
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings
from dyneval.scorer.run import score_file, score_image
from dyneval.storage import DataFileError, read_jsonl

DOOR = Path(__file__).parents[2] / "inference" / "run_inference.py"
SMALL = ["--max-questions", "2", "--max-text", "8"]


def door(*arguments, **options):
    command = [sys.executable, str(DOOR), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_image_gives_json_on_stdout(student, pictures, tmp_path):
    done = door("--checkpoint", student, "--image", pictures / "0.png", "--prompt", "a circle", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    schemas.check("score", record, "stdout")
    assert record["settings"]["limits"]["questions"] == 2


def test_one_line_says_what_is_wrong(student, pictures):
    done = door("--checkpoint", student, "--image", pictures / "missing.png", "--prompt", "a cat")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.endswith("missing.png: no such image file\n")


def test_one_image_is_kept_once_and_its_failure_is_said(scorer, pictures, tmp_path):
    output = tmp_path / "scores.jsonl"
    for _ in range(2):
        record = score_image(lambda: scorer, pictures / "0.png", "a circle", output)
        assert [row["pair_id"] for row in read_jsonl(output)] == [record.pair_id]
    assert score_image(lambda: scorer, pictures / "0.png", " ").reason == "the prompt is empty"


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
    metadata, output = write_rows(tmp_path / "metadata.jsonl", rows), tmp_path / "out" / "scores.jsonl"
    summary = score_file(lambda: scorer, metadata, output, image_root=pictures)
    assert (summary.scored, summary.there_before, summary.failed) == (2, 0, 5)
    assert [row["image"] for row in read_jsonl(output)] == ["0.png", "2.png"]
    reasons = {row["pair_id"]: row["reason"] for row in read_jsonl(output.with_name("scores.rejects.jsonl"))}
    assert set(reasons) == {"cut", "outside", "empty", "row 5", "good"}
    assert "leads out of the image folder" in reasons["outside"] and "cut.png" in reasons["cut"]

    rows[3]["prompt"] = "repaired"
    again = score_file(lambda: scorer, write_rows(metadata, rows), output, image_root=pictures)
    assert (again.scored, again.there_before, again.failed) == (1, 2, 4)
    assert len(list(read_jsonl(output))) == 3


def test_scores_of_other_settings_do_not_mix(scorer, loaded, pictures, tmp_path):
    metadata = write_rows(tmp_path / "metadata.jsonl", [{"file_name": "0.png", "prompt": "a circle"}])
    output = tmp_path / "scores.jsonl"
    score_file(lambda: scorer, metadata, output, image_root=pictures)
    other = Scorer(*loaded, "student", ScorerSettings(template="release", limits=scorer.settings.limits))
    with pytest.raises(DataFileError, match="template was readme, is release"):
        score_file(lambda: other, metadata, output, image_root=pictures)
    assert len(list(read_jsonl(output))) == 1


def test_files_that_cannot_be_read_are_said_before_the_student_is_loaded(pictures, tmp_path):
    (tmp_path / "table.csv").write_text("file_name,text\n")
    good = write_rows(tmp_path / "metadata.jsonl", [{"file_name": "0.png", "prompt": "a circle"}])
    for metadata, root, said in [
        (tmp_path / "table.csv", pictures, r"table\.csv: lacks the column prompt"),
        (tmp_path / "gone.jsonl", pictures, r"gone\.jsonl: cannot be read"),
        (good, tmp_path / "nowhere", "nowhere: no such image folder"),
    ]:
        with pytest.raises(DataFileError, match=said):
            score_file(lambda: pytest.fail("loaded"), metadata, tmp_path / "scores.jsonl", image_root=root)
    assert not (tmp_path / "scores.jsonl").exists()


def test_a_killed_run_is_resumed_to_the_same_scores(student, loaded, pictures, tmp_path):
    rows = [{"file_name": f"{n % 6}.png", "prompt": f"circle number {n}", "pair_id": f"p{n}"} for n in range(12)]
    metadata, output = write_rows(tmp_path / "metadata.jsonl", rows), tmp_path / "scores.jsonl"
    flags = ["--checkpoint", student, "--metadata", metadata, "--image-root", pictures, "--batch-size", 1, *SMALL]
    command = [sys.executable, str(DOOR), *map(str, flags), "--output", str(output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
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
    same = Scorer(*loaded, str(student), ScorerSettings(limits=limits, batch_size=5))
    assert score_file(lambda: same, metadata, output, image_root=pictures).failed == 0
    straight = tmp_path / "straight.jsonl"
    score_file(lambda: same, metadata, straight, image_root=pictures)
    assert output.read_bytes().startswith(before)
    one, other = ({row["pair_id"]: row for row in read_jsonl(path)} for path in (output, straight))
    assert len(one) == 12 and one.keys() == other.keys()
    assert all(one[key]["overall"] == other[key]["overall"] for key in one)
