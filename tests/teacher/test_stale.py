"""An image made again and an edited prompt: what was said about the old one does not stand for the new one."""

import hashlib
import json
import os
import time

import pytest
from PIL import Image

from dyneval.files.jsonl import read_jsonl
from dyneval.records import WORKFLOWS

from .conftest import FILES

ANSWERS = [name for name in WORKFLOWS if FILES[name] == "pair_id"]


def rows_of(metadata):
    return [json.loads(line) for line in metadata.read_text().splitlines()]


def write(metadata, rows):
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))


def replace_image(metadata, number=0, *, tell=True):
    rows = rows_of(metadata)
    path = metadata.parent / rows[number]["file_name"]
    Image.new("RGB", (48, 32), (250, 5, 5)).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if tell:
        rows[number]["sha256"] = digest
        write(metadata, rows)
    return rows[number]["pair_id"], digest


def recorded(out, name="iqa_answers"):
    return {row[FILES[name]]: row for row in read_jsonl(out / f"{name}.jsonl")}


def test_each_annotation_names_its_image(run, gendb, chat_server, tmp_path):
    metadata = gendb()
    run(metadata, tmp_path / "out", chat_server())
    for name in ANSWERS:
        found = {key: row["image_sha256"] for key, row in recorded(tmp_path / "out", name).items()}
        assert found == {row["pair_id"]: row["sha256"] for row in rows_of(metadata)}


@pytest.mark.parametrize("tell", [True, False], ids=["metadata says so", "only the file is another"])
def test_a_replaced_image_is_annotated_again_and_the_old_rows_move_aside(run, gendb, chat_server, tmp_path, tell):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    run(metadata, out, server)
    before = recorded(out)
    key, digest = replace_image(metadata, tell=tell)
    summary = run(metadata, out, server)
    assert summary["requests"] == 3, "the questions of its prompt stay"
    assert {name: summary["workflows"][name]["stale"] for name in WORKFLOWS} == dict.fromkeys(ANSWERS, 1) | {
        "t2ia_questions": 0
    }
    for name in ANSWERS:
        assert recorded(out, name)[key]["image_sha256"] == digest
        (old,) = map(json.loads, (out / f"{name}.jsonl.superseded").read_text().splitlines())
        assert (old["pair_id"], old["image_sha256"]) == (key, before[key]["image_sha256"])
    assert run(metadata, out, server)["requests"] == 0


def test_an_edited_prompt_is_annotated_again(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    run(metadata, out, server)
    rows = rows_of(metadata)
    for row in rows[:2]:  # both images of the prompt
        row["prompt"] = "a green dog on a chair"
    write(metadata, rows)
    assert run(metadata, out, server)["requests"] == 2 + 2 * 3
    assert recorded(out, "t2ia_questions")[rows[0]["prompt_id"]]["prompt"] == "a green dog on a chair"
    assert run(metadata, out, server)["requests"] == 0


def test_one_prompt_id_with_two_prompts_is_told(run, gendb, chat_server, tmp_path):
    metadata, out = gendb(), tmp_path / "out"
    rows = rows_of(metadata)
    rows[1]["prompt"] = "a green dog on a chair"
    write(metadata, rows)
    assert run(metadata, out, chat_server())["bad_rows"] == 1
    (reject,) = read_jsonl(out / "pairs.rejects.jsonl")
    assert reject["pair_id"] == rows[1]["pair_id"] and "stands there before with another prompt" in reject["reason"]


def test_an_image_that_is_only_written_again_is_not_asked_about(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    run(metadata, out, server)
    for row in rows_of(metadata):
        os.utime(metadata.parent / row["file_name"], (time.time() + 60,) * 2)
    assert run(metadata, out, server)["requests"] == 0


def test_metadata_with_wrong_hashes_is_no_reason_to_ask_again(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    write(metadata, [row | {"sha256": "0" * 64} for row in rows_of(metadata)])
    run(metadata, out, server)
    assert run(metadata, out, server)["requests"] == 0
    assert "0" * 64 not in {row["image_sha256"] for row in recorded(out).values()}


def test_rows_from_before_that_name_no_image_are_kept(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    run(metadata, out, server)
    for name in ANSWERS:
        rows = [
            {key: value for key, value in row.items() if key != "image_sha256"}
            for row in read_jsonl(out / f"{name}.jsonl")
        ]
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(metadata, out, server)["requests"] == 0


def test_what_was_given_up_is_asked_again_about_another_image(run, gendb, chat_server, tmp_path):
    metadata, out = gendb(prompts=1, models=("one",)), tmp_path / "out"
    run(metadata, out, chat_server("--faults", "language"), attempts=1, workflows=["iqa_questions"])
    good = chat_server()
    assert run(metadata, out, good, workflows=["iqa_questions"])["requests"] == 0
    replace_image(metadata)
    assert run(metadata, out, good, workflows=["iqa_questions"])["requests"] == 1
    assert not (out / "iqa_questions.rejects.jsonl").exists()


def test_answers_are_not_asked_to_questions_about_another_image(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    run(metadata, out, server, workflows=["iqa_questions"])
    key, _ = replace_image(metadata)
    summary = run(metadata, out, server, workflows=["iqa_answers"])
    assert summary["requests"] == 5
    (reject,) = read_jsonl(out / "iqa_answers.rejects.jsonl")
    assert reject["pair_id"] == key and "made from another image" in reject["reason"]


def test_two_runs_in_one_folder_keep_their_rejects(run, gendb, chat_server, tmp_path):
    metadata, server, out = gendb(), chat_server(), tmp_path / "out"
    metadata.write_text(metadata.read_text() + '{"pair_id": "half"}\n')
    run(metadata, out, server, workflows=["t2ia_questions"])
    write(metadata, rows_of(metadata)[:-1])
    run(metadata, out, server, workflows=["iqa_questions"])
    assert [row["pair_id"] for row in read_jsonl(out / "pairs.t2ia_questions.rejects.jsonl")] == ["half"]
