"""Shards are put together once, with their rejects, and nothing is done twice."""

import json

import pytest

from dyneval.errors import DataFileError
from dyneval.files.jsonl import read_jsonl
from dyneval.files.parts import Shard
from dyneval.records import WORKFLOWS
from dyneval.teacher.merge import merge

from .test_stale import replace_image


def content(folder):
    """Rows by workflow, in an order of their own, without what differs from run to run."""
    rows = {name: list(read_jsonl(folder / f"{name}.jsonl")) for name in WORKFLOWS}
    for name in rows:
        for row in rows[name]:
            del row["provenance"]
    return {name: sorted(found, key=json.dumps) for name, found in rows.items()}


def test_shards_are_merged_once(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=6), chat_server()
    for index in (1, 2):
        run(metadata, tmp_path / "parts", server, shard=Shard(index, 2))
    run(metadata, tmp_path / "whole", server)
    first = merge(tmp_path / "parts")
    assert first["iqa_answers"] == {"added": 12, "in_file": 12, "rejected": 0}
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert merge(tmp_path / "parts")["iqa_answers"] == {"added": 0, "in_file": 12, "rejected": 0}
    assert run(metadata, tmp_path / "parts", server)["requests"] == 0, "what is merged is finished"
    with pytest.raises(DataFileError, match="no parts"):
        merge(tmp_path / "whole")


def test_rejects_of_shards_are_taken_over(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=2)
    for index, server in ((1, chat_server("--faults", "empty")), (2, chat_server())):
        run(metadata, tmp_path, server, shard=Shard(index, 2))
    merged = merge(tmp_path)["iqa_questions"]
    assert merged["in_file"] + merged["rejected"] == 4 and merged["rejected"] > 0
    rejected = list(read_jsonl(tmp_path / "iqa_questions.rejects.jsonl"))
    assert len(rejected) == merged["rejected"] and rejected[0]["raw"] == ""


def test_a_row_of_a_replaced_image_makes_room_for_that_of_its_shard(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=4), chat_server()
    parts = [Shard(index, 2) for index in (1, 2)]
    for shard in parts:
        run(metadata, tmp_path, server, shard=shard)
    merge(tmp_path, metadata)
    key, digest = replace_image(metadata)
    assert sum(run(metadata, tmp_path, server, shard=shard)["requests"] for shard in parts) == 3
    assert merge(tmp_path, metadata)["iqa_answers"] == {"added": 1, "in_file": 8, "rejected": 0}
    rows = {row["pair_id"]: row["image_sha256"] for row in read_jsonl(tmp_path / "iqa_answers.jsonl")}
    assert rows[key] == digest and len(rows) == 8
    assert merge(tmp_path, metadata)["iqa_answers"]["added"] == 0
