"""`--shard` means the same in every step that has it: each pair once, and a prompt in the part of one number."""

import json
import shutil

import pytest

from dyneval.cli import main as dyneval
from dyneval.cli.annotate import main as annotate
from dyneval.cli.generate import main as generate
from dyneval.demo.prompts import demo_prompts
from dyneval.files.jsonl import read_jsonl
from dyneval.records import prompt_id


@pytest.fixture(params=["own", "derived"])
def prompts(request, tmp_path):
    """Ten prompts with ids of their own, as other people's tables have them, or with those that Step 1 gives."""
    texts = list(dict.fromkeys(text for text in demo_prompts(60, seed=3) if len(text) >= 30))[:10]
    path = tmp_path / "prompts.jsonl"
    with path.open("w") as file:
        for number, text in enumerate(texts):
            key = f"own-{number}" if request.param == "own" else prompt_id(text)
            file.write(json.dumps({"prompt_id": key, "prompt": text, "tier": 3, "categories": []}) + "\n")
    return path


def pairs_and_prompts(path, prompt_of):
    found = {}
    for row in read_jsonl(path):
        assert row["pair_id"] not in found, "a pair stands there twice"
        found[row["pair_id"]] = prompt_of[row["pair_id"]]
    return found


def test_two_parts_cover_each_step_once_and_a_prompt_has_one_part_in_all_of_them(prompts, student, tmp_path):
    gendb, annotations, scores = tmp_path / "gendb", tmp_path / "annotations", tmp_path / "scores" / "scores.jsonl"
    draw = ["--model", "demo-doodler", "--prompts", str(prompts), "--output", str(gendb), "--devices", "cpu"]
    drawn = {}
    for part in (1, 2):
        assert generate([*draw, "--shard", f"{part}/2"]) == 0
        rows = {row["pair_id"]: row["prompt_id"] for row in read_jsonl(gendb / "metadata.jsonl")}
        drawn[part] = {pair: key for pair, key in rows.items() if pair not in drawn.get(1, {})}
    prompt_of = drawn[1] | drawn[2]
    assert len(prompt_of) == 10 and drawn[1] and drawn[2]
    for part in (1, 2):
        shard = ["--metadata", str(gendb / "metadata.jsonl"), "--shard", f"{part}/2"]
        assert annotate([*shard, "--output", str(annotations), "--engine", "oracle"]) == 0
        settings = ["--checkpoint", str(student), "--max-questions", "1", "--max-text", "8", "--device", "cpu"]
        assert dyneval(["score", *shard, "--output", str(scores), *settings, "--mode", "fast"]) == 0
        folder = f"shards/{part}-of-2"
        for path in (annotations / folder / "iqa_answers.jsonl", scores.parent / folder / "scores.jsonl"):
            assert pairs_and_prompts(path, prompt_of) == drawn[part]
        asked = {row["prompt_id"] for row in read_jsonl(annotations / folder / "t2ia_questions.jsonl")}
        assert asked == set(drawn[part].values())
    shutil.rmtree(gendb)
    with pytest.raises(SystemExit, match="2"):
        generate([*draw, "--shard", "3/2"])
