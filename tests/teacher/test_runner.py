import json

import pytest
from jsonschema import Draft202012Validator

from dyneval.cli.annotate import exit_status
from dyneval.errors import DataFileError
from dyneval.files.jsonl import read_jsonl
from dyneval.files.pairs import read_pairs
from dyneval.files.parts import Shard
from dyneval.llm.chat import EngineStopped
from dyneval.records import ANNOTATIONS, WORKFLOWS, PairRecord, json_schema

from .conftest import FILES, content


def rejects(folder, name):
    path = folder / f"{name}.rejects.jsonl"
    return {row[FILES[name]]: row for row in read_jsonl(path)} if path.exists() else {}


def test_all_four_annotations_of_every_pair(run, gendb, chat_server, tmp_path):
    server = chat_server()
    summary = run(gendb(prompts=3), tmp_path / "out", server)
    assert server.stats()["requests"] == 3 * 2 + 6 * 3, "questions of a prompt are asked once, for all its images"
    for name, key in FILES.items():
        validator = Draft202012Validator(json_schema(ANNOTATIONS[name]))
        rows = list(read_jsonl(tmp_path / "out" / f"{name}.jsonl"))
        assert len(rows) == (3 if key == "prompt_id" else 6)
        for row in rows:
            validator.validate(row)
            assert row["provenance"]["model"] == "m" and row["provenance"]["engine"] == "openai"
            assert row["provenance"]["usage"]["completion_tokens"] > 0
    assert json.loads((tmp_path / "out" / "annotate.summary.json").read_text()) == summary
    assert summary["pairs"] == 6 and summary["completion_tokens"] > 0 and exit_status(summary) == 0


def test_single_workflows_in_order_give_the_same(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(), chat_server()
    run(metadata, tmp_path / "all", server)
    with pytest.raises(DataFileError, match="ask for t2ia_questions first"):
        run(metadata, tmp_path / "one", server, ["t2ia_answers"])
    for name in WORKFLOWS:
        run(metadata, tmp_path / "one", server, [name])
    assert content(tmp_path / "one") == content(tmp_path / "all")


def test_second_run_asks_nothing_and_force_asks_everything(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(), chat_server()
    first = run(metadata, tmp_path, server)
    assert run(metadata, tmp_path, server)["requests"] == 0
    assert run(metadata, tmp_path, server, force=True)["requests"] == first["requests"]


def test_answers_of_another_teacher_are_kept_and_named(run, gendb, chat_server, tmp_path, caplog):
    metadata, out = gendb(), tmp_path / "out"
    run(metadata, out, chat_server(), limit=1)
    assert "holds answers of" not in caplog.text
    path = out / "iqa_answers.jsonl"
    path.write_text(path.read_text().replace('"model": "m"', '"model": "the teacher before"'))
    run(metadata, out, chat_server())
    assert f"{path}: holds answers of the teacher before, which are kept; m answers the rest" in caplog.text
    assert {row["provenance"]["model"] for row in read_jsonl(path)} == {"the teacher before", "m"}


def test_a_changed_prompt_version_is_asked_again(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(), chat_server()
    run(metadata, tmp_path, server)
    path = tmp_path / "iqa_answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    old = lines[0].replace('"prompt_version": "', '"prompt_version": "old')
    path.write_text(old + "".join(lines[1:]))
    assert run(metadata, tmp_path, server)["requests"] == 1


FAULTS = "truncated,cut,empty,language,count,duplicate,huge,nan,score9,token,surrogate,html,429,500,disconnect"


def test_faults_of_every_kind_are_overcome_or_rejected_never_stored(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=12)
    run(metadata, tmp_path / "clean", chat_server())
    server = chat_server("--faults", FAULTS, "--fault-rate", "0.4", "--seed", "3")
    summary = run(metadata, tmp_path / "faulty", server, attempts=3)
    clean, faulty = content(tmp_path / "clean"), content(tmp_path / "faulty")
    assert sum(summary["unusable_replies"].values()) > 20
    for name in WORKFLOWS:
        given_up = rejects(tmp_path / "faulty", name)
        assert faulty[name].keys() | given_up.keys() >= clean[name].keys() - given_up.keys()
        for key, row in faulty[name].items():
            # A reply that was cut may keep fewer of the questions that it was free to choose; never other ones.
            assert row == clean[name][key] or "questions" in row or "answers" in row
        for row in given_up.values():
            assert row["kind"] in ("reply", "engine", "dependency") and row["reason"]
    for _ in range(10):
        if not any(rejects(tmp_path / "faulty", name) for name in WORKFLOWS):
            break
        run(metadata, tmp_path / "faulty", server, attempts=6, retry_rejects=True)
    assert {name: rows.keys() for name, rows in content(tmp_path / "faulty").items()} == {
        name: rows.keys() for name, rows in clean.items()
    }


def test_rejected_replies_are_kept_raw_and_asked_for_only_on_demand(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=1, models=("one",))
    summary = run(metadata, tmp_path, chat_server("--faults", "language"), attempts=2)
    found = rejects(tmp_path, "iqa_questions")
    assert next(iter(found.values()))["raw"] == "Lo siento, no puedo ayudar con eso."
    assert next(iter(rejects(tmp_path, "iqa_answers").values()))["kind"] == "dependency"
    assert exit_status(summary) == 1, "nothing could be annotated"
    good = chat_server()
    assert run(metadata, tmp_path, good)["requests"] == 0
    assert rejects(tmp_path, "iqa_questions") == found, "still on record"
    assert run(metadata, tmp_path, good, retry_rejects=True)["requests"] == 5
    assert not any(rejects(tmp_path, name) for name in WORKFLOWS)


def test_bad_images_and_rows_are_reported_and_the_others_done(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=2, models=("one", "two", "three"))
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    broken = metadata.parent / rows[0]["file_name"]
    broken.write_bytes(broken.read_bytes()[:1000])
    (metadata.parent / rows[1]["file_name"]).unlink()
    secret = tmp_path / "secret.png"
    broken.with_name(rows[2]["file_name"]).rename(secret)
    (metadata.parent / "link.png").symlink_to(secret)
    bad = [
        {**rows[2], "file_name": "../secret.png"},
        {**rows[2], "pair_id": "absolute", "file_name": str(secret)},
        {**rows[2], "pair_id": "link", "file_name": "link.png"},
        {**rows[2], "pair_id": "empty", "prompt": "  "},
        {**rows[3]},
        {**rows[3], "sha256": "1" * 64},
        {"pair_id": "half"},
    ]
    lines = [json.dumps(row) for row in [*rows[:2], *rows[3:], *bad]]
    metadata.write_text("\n".join([*lines, "no JSON"]) + "\n")
    server = chat_server()
    summary = run(metadata, tmp_path / "out", server)
    reasons = {key: row["reason"] for key, row in rejects(tmp_path / "out", "iqa_questions").items()}
    assert reasons.keys() == {rows[0]["pair_id"], rows[1]["pair_id"], rows[2]["pair_id"], "absolute", "link"}
    assert "truncated" in reasons[rows[0]["pair_id"]] and "no such image" in reasons[rows[1]["pair_id"]]
    for key in (rows[2]["pair_id"], "absolute", "link"):
        assert "leads out of" in reasons[key]
    bad_rows = [row["pair_id"] for row in read_jsonl(tmp_path / "out" / "pairs.rejects.jsonl")]
    assert sorted(bad_rows) == sorted(["empty", rows[3]["pair_id"], "half", "line 13"])
    assert summary["bad_rows"] == 4 and summary["workflows"]["iqa_answers"]["written"] == 3
    assert exit_status(summary) == 0, "the run did its job"


def test_a_last_line_without_newline_is_a_pair(gendb):
    metadata = gendb(prompts=1, models=("one", "two"))
    metadata.write_text("\ufeff" + metadata.read_text().rstrip("\n"), "utf-8")
    bad = []
    pairs = list(read_pairs(metadata, PairRecord, bad.append))
    assert [pair.generation_model for pair in pairs] == ["one", "two"] and bad == []


def test_task_tokens_in_prompts_reach_neither_teacher_nor_annotations(run, gendb, chat_server, tmp_path):
    run(gendb(texts=["a cat <|IQA|> <|im_end|> and a dog, painted in oil"]), tmp_path, chat_server())
    texts = [row["questions"] for row in read_jsonl(tmp_path / "t2ia_questions.jsonl")]
    assert texts and "<|" not in json.dumps(texts)


def test_shards_cover_everything_once(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=9), chat_server()
    run(metadata, tmp_path / "whole", server)
    parts = []
    for index in (1, 2, 3):
        shard = Shard(index, 3)
        run(metadata, tmp_path / "parts", server, shard=shard)
        parts.append(content(shard.folder(tmp_path / "parts")))
    whole = content(tmp_path / "whole")
    for name in WORKFLOWS:
        assert sum(len(part[name]) for part in parts) == len(whole[name])
        assert {key: row for part in parts for key, row in part[name].items()} == whole[name]


def test_limit_takes_the_first_pairs(run, gendb, chat_server, tmp_path):
    assert run(gendb(prompts=3), tmp_path, chat_server(), limit=2)["pairs"] == 2


def test_server_gone_for_good_stops_the_run(run, gendb, chat_server, tmp_path):
    server = chat_server("--last", "12")
    with pytest.raises(EngineStopped, match="20 times in a row"):
        run(gendb(prompts=30), tmp_path, server, max_retries=0)
    kinds = {row["kind"] for name in WORKFLOWS for row in rejects(tmp_path, name).values()}
    assert "engine" in kinds and kinds <= {"engine", "dependency"}
    again = chat_server()
    summary = run(gendb(prompts=30), tmp_path, again)
    assert summary["workflows"]["iqa_answers"]["in_file"] == 60, "lost servers are no reason to give a pair up"


def test_a_server_that_was_never_there_stops_the_run_before_anything_is_rejected(run, gendb, chat_server, tmp_path):
    server = chat_server()
    server.process.kill()
    server.process.wait()
    with pytest.raises(EngineStopped, match="nobody answers there"):
        run(gendb(prompts=3), tmp_path, server, patience=900)
    assert not any(rejects(tmp_path, name) for name in WORKFLOWS)
