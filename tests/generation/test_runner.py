"""The runner never loses an image, never mixes settings, and says what is missing."""

import json
import time
from collections import Counter

import pytest
from PIL import Image

from dyneval.errors import DataFileError, GenerationError
from dyneval.files import images
from dyneval.files.parts import Shard
from dyneval.generation.engine import DrawingLoop
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, GeneratedImage, ImageRequest, NoImage, RunOptions
from dyneval.hashing import file_sha256
from dyneval.records import PairRecord


def test_a_run_writes_images_records_and_sidecars(studio):
    studio.write_prompts(["a cat", "a dog"], categories=["Animals"])
    summary = studio.run()
    assert (summary.total("made"), summary.exit_status) == (2, 0)
    for row in studio.records():
        record = PairRecord.from_dict(row)
        path = studio.output / record.file_name
        assert file_sha256(path) == record.sha256
        assert images.load_image(path).size == (record.width, record.height) == (32, 32)
        assert path.with_suffix(".truth.json").read_text() == record.prompt
        assert record.categories == ("Animals",)
        assert record.settings["prompt_sent"] == record.prompt
        assert record.settings["revision"] == "r1"


def test_a_second_run_makes_nothing_and_leaves_the_records_as_they_are(studio):
    studio.write_prompts(["a cat", "a dog"])
    studio.run()
    before = (studio.output / "metadata.jsonl").read_bytes()
    summary = studio.run()
    assert (summary.total("existing"), summary.total("made"), summary.exit_status) == (2, 0, 0)
    assert (studio.output / "metadata.jsonl").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncate", "delete", "swap", "sidecar"])
def test_an_image_that_is_not_as_recorded_is_made_anew(studio, damage):
    studio.write_prompts(["a cat", "a dog"])
    studio.run()
    path = studio.output / studio.records()[0]["file_name"]
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "delete":
        path.unlink()
    elif damage == "swap":
        Image.new("RGB", (32, 32), "white").save(path)
    else:
        path.with_suffix(".truth.json").unlink()
    summary = studio.run()
    assert (summary.total("existing"), summary.total("made")) == (1, 1)
    assert path.read_bytes() == whole
    assert len({row["pair_id"] for row in studio.records()}) == len(studio.records()) == 2


def test_a_record_without_its_newline_is_made_again(studio):
    studio.write_prompts(["a cat", "a dog"])
    studio.run()
    path = studio.output / "metadata.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert studio.run().total("made") == 1
    assert len(studio.records()) == 2


def test_other_settings_do_not_mix(studio):
    studio.write_prompts(["a cat", "a dog"])
    studio.run()
    summary = studio.run(build=BuildOptions(preset="paper"))
    assert (summary.total("made"), summary.total("missing"), summary.exit_status) == (0, 2, 1)
    assert "arguments.size 32 -> 64" in summary.models[0].error
    summary = studio.run(build=BuildOptions(preset="paper"), replace=True)
    assert (summary.total("made"), summary.exit_status) == (2, 0)
    assert [row["width"] for row in studio.records()] == [64, 64]


def test_other_weights_do_not_mix(studio):
    studio.write_prompts(["a cat"])
    studio.run()
    studio.write_prompts(["a cat", "a dog"])
    summary = studio.run(studio.model(revision="r2"))
    assert summary.total("missing") == 1
    assert "revision r1, here it is r2" in summary.models[0].error


def test_one_bad_prompt_costs_one_image(studio):
    studio.write_prompts(["a cat", "boom", "a dog", "a black square", "flagged", "refuse", "a fox"])
    summary = studio.run()
    assert (summary.total("made"), summary.total("missing"), summary.total("refused")) == (3, 1, 3)
    assert summary.exit_status == 1
    assert studio.rejects() == {
        "P0001-stand-in": "RuntimeError: boom",
        "P0003-stand-in": "the image is black",
        "P0004-stand-in": "flagged by the model's safety checker",
        "P0005-stand-in": "refused by policy",
    }
    assert not (studio.output / "stand-in" / "P0003-stand-in.png").exists()


def test_what_was_refused_for_good_is_not_asked_again(studio):
    studio.write_prompts(["a cat", "refuse", "boom"])
    studio.run()
    studio.calls.unlink()
    summary = studio.run()
    assert (summary.total("refused"), summary.total("missing")) == (1, 1)
    assert studio.calls.read_text().split()[2:] == ["P0002"]
    studio.calls.unlink()
    studio.run(retry_refused=True)
    assert "P0001" in studio.calls.read_text()


def test_only_refusals_missing_has_an_exit_status_of_its_own(studio):
    studio.write_prompts(["a cat", "refuse"])
    assert studio.run().exit_status == 3


def test_the_batch_is_halved_when_memory_runs_out_and_stays_so(studio):
    studio.write_prompts([f"cat {n}" for n in range(20)])
    summary = studio.run(studio.model(fits=3), run=RunOptions(batch_size=8))
    assert (summary.total("made"), summary.exit_status) == (20, 0)
    assert studio.batches()[:2] == [8, 4]
    assert set(studio.batches()[2:]) == {2}


def test_a_model_too_large_for_one_image_says_so(studio):
    studio.write_prompts(["a cat"])
    studio.run(studio.model(fits=0))
    assert "out of memory with one image" in studio.rejects()["P0000-stand-in"]


def test_a_dead_device_ends_the_model_and_keeps_what_it_drew(studio):
    studio.write_prompts(["a cat", "a dog", "dead device", "a fox", "a hen", "a cow"])
    summary = studio.run()
    assert summary.models[0].error == "the device is gone"
    assert (summary.total("made"), summary.total("missing"), len(studio.records())) == (2, 4, 2)


def test_failures_without_end_stop_the_model(studio):
    studio.write_prompts(["boom"] * 40)
    summary = studio.run()
    assert "images in a row failed" in summary.models[0].error
    assert len(studio.rejects()) < 20


def test_the_record_of_an_image_does_not_wait_for_the_next_image(tmp_path):
    """The other prompts of the batch may fail for minutes, and a kill must not cost an image that is on the disk."""
    requests = [ImageRequest(pair_id=f"P{n}", prompt_id=f"P{n}", prompt="a cat", seed=n, tier=1) for n in range(500)]
    results = []

    class OneOfMany:
        batch_size, facts = len(requests), {}

        def generate(self, batch):
            image = Image.new("RGB", (8, 8), "green")
            yield GeneratedImage(request=batch[0], image=image, prompt_sent="a cat", seconds=0.1)
            for request in batch[1:]:
                if not any(isinstance(result, PairRecord) for result in results):
                    time.sleep(0.01)  # until the image is written
                yield NoImage(request=request, reason="overloaded")

        def close(self):
            pass

    loop = DrawingLoop(
        model=OneOfMany(), slug="one", root=tmp_path, settings={}, image_format="png", batch_size=len(requests)
    )
    for result in loop.work(requests):
        results.append(result)
    assert len(results) == len(requests) and isinstance(results[-1], NoImage)


def test_one_model_that_cannot_run_does_not_stop_the_others(studio):
    studio.write_prompts([f"cat {n}" for n in range(30)])
    good, bad = studio.model("good"), studio.model("bad", packages=["no_such_package"])
    summary = studio.run(good, bad)
    assert summary.models[0].missing == 0
    assert "pip install no_such_package" in summary.models[1].error
    assert summary.exit_status == 1


def test_bad_prompts_are_rejects_and_the_run_is_not_complete(studio):
    rows = [
        {"prompt_id": "P1", "prompt": "a cat", "tier": 1, "categories": []},
        {"prompt_id": "P2", "prompt": "  ", "tier": 1, "categories": []},
        {"prompt_id": "../../etc/passwd", "prompt": "a path", "tier": 1, "categories": []},
        {"prompt_id": "P1", "prompt": "a dog", "tier": 1, "categories": []},
        {"prompt_id": "P5", "prompt": "no tier", "tier": 7, "categories": []},
        {"prompt_id": "P6", "prompt": 3, "tier": 1},
    ]
    studio.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = studio.run()
    assert (summary.total("made"), summary.rejected_prompts, summary.exit_status) == (1, 5, 1)
    assert set(studio.rejects()) == {"P1", "P2", "P5", "P6", "../../etc/passwd"}
    assert {path.name for path in studio.output.iterdir() if path.is_dir()} == {"stand-in", ".parts"}


def test_nothing_to_do_is_an_error_that_says_what_to_do(studio):
    studio.write_prompts(["a cat"], tier=3)
    with pytest.raises(GenerationError, match=r"1 of tier 3\. --any-tier"):
        studio.run()
    assert studio.run(any_tier=True).total("made") == 1
    one, two = studio.model("one"), studio.model("two")
    for tier, flags, words in ((1, {}, "one model of its tier"), (3, {"any_tier": True}, "one model")):
        studio.write_prompts(["a cat"], tier=tier)
        told = []
        for model in (one, two):  # it is for one of them
            try:
                studio.run(model, roster=[one, two], **flags)
            except GenerationError as error:
                told.append(str(error))
        assert len(told) == 1 and f"Each goes to {words}, here to others: --allocation all" in told[0]
        made = studio.run(one, two, roster=[one, two], allocation="all", **flags)
        assert (made.total("planned"), made.total("missing")) == (2, 0)


@pytest.mark.parametrize("flags", [{}, {"any_tier": True}, {"allocation": "all"}])
def test_prompts_without_a_tier_are_drawn_by_the_models_that_are_asked_to(flags, studio):
    studio.prompts = studio.folder / "mine.txt"
    studio.prompts.write_text("".join(f"cat {n}\n" for n in range(12)))
    asked = [studio.model("one", tier=1), studio.model("two", tier=3)]
    roster = [*asked, *(studio.model(f"other-{n}", tier=tier) for n, tier in enumerate((1, 1, 3)))]
    assert studio.run(asked[0], roster=roster, **flags).total("made") == 12
    assert {row["tier"] for row in studio.records()} == {1}
    both = studio.run(*asked, roster=roster, **flags)
    assert (both.total("planned"), both.total("missing")) == (24 if "allocation" in flags else 12, 0)
    counts = Counter((row["generation_model"], row["tier"]) for row in studio.records())
    assert set(counts) == {("one", 1), ("two", 3)}


def test_what_went_wrong_is_said_again_at_the_end(studio, caplog):
    studio.write_prompts(["a cat", "a dog"])
    studio.run(studio.model("bad", packages=["no_such_package"]))
    assert "bad needs no_such_package" in caplog.messages[-1]
    caplog.clear()
    studio.write_prompts(["a cat", "boom", "refuse"])
    studio.run()
    assert caplog.messages[-2] == "stand-in, the first: RuntimeError: boom"
    assert caplog.messages[-1].startswith("reasons, one by one: ")
    for name in ("metadata.rejects.jsonl", "refused.jsonl"):
        assert str(studio.output / name) in caplog.messages[-1] and (studio.output / name).exists()


def test_two_devices_share_the_work(studio):
    studio.write_prompts([f"slow cat {n}" for n in range(24)] + ["boom"])
    summary = studio.run(devices=("cpu", "cpu"))
    assert (summary.total("made"), summary.total("missing")) == (24, 1)
    assert len({line.split()[0] for line in studio.calls.read_text().splitlines()}) == 2
    assert len(studio.records()) == 24


def test_a_worker_that_dies_loses_only_the_prompt_that_killed_it(studio):
    studio.write_prompts([f"slow cat {n}" for n in range(12)] + ["die now"])
    summary = studio.run(studio.model(batch_size=2), devices=("cpu", "cpu", "cpu"))
    assert (summary.total("made"), summary.total("missing")) == (12, 1)
    assert "for the second time" in studio.rejects()["P0012-stand-in"]


def test_without_any_worker_left_the_run_ends(studio):
    studio.write_prompts(["dead device", "dead device 2", "a cat", "a dog"])
    summary = studio.run(studio.model(batch_size=1), devices=("cpu", "cpu"))
    assert summary.exit_status == 1
    assert "no worker is left" in summary.models[0].error
    assert summary.total("made") == len(studio.records())


def test_shards_divide_the_work_and_end_in_one_file(studio):
    studio.write_prompts([f"cat {n}" for n in range(30)])
    made = [studio.run(shard=Shard(part, 3)).total("made") for part in (1, 2, 3)]
    assert sum(made) == len(studio.records()) == 30
    assert min(made) > 2
    assert studio.run().total("existing") == 30
    assert not list((studio.output / ".parts").glob("*.jsonl"))


def test_the_part_of_a_killed_run_is_merged_by_the_next_run_of_any_model(studio):
    studio.write_prompts([f"cat {n}" for n in range(8)])
    studio.run()
    whole = studio.output / "metadata.jsonl"
    lines = whole.read_text().splitlines(keepends=True)
    (studio.output / ".parts" / "metadata-stand-in.1-of-2.jsonl").write_text("".join(lines[:3]) + '{"torn')
    whole.write_text("".join(lines[3:]))
    studio.run(studio.model("other"))
    summary = studio.run()
    assert (summary.total("existing"), summary.total("made")) == (8, 0)
    assert len({row["pair_id"] for row in studio.records()}) == len(studio.records()) == 16


def test_models_run_side_by_side_but_no_run_twice(studio):
    studio.write_prompts(["a cat"])
    with GenDB(studio.output, "stand-in"):
        with pytest.raises(DataFileError, match="another process"):
            studio.run()
        assert studio.run(studio.model("other")).total("made") == 1
    assert [row["generation_model"] for row in studio.records()] == ["other"]
    assert studio.run().total("made") == 1
    assert len(studio.records()) == 2


def test_rejects_are_those_of_the_last_run_of_each_model(studio):
    studio.write_prompts(["a cat", "boom", "a dog"])
    studio.run()
    studio.run(studio.model("other"))
    assert set(studio.rejects()) == {"P0001-stand-in", "P0001-other"}
    studio.write_prompts(["a cat", "a fox", "a dog"])
    studio.run()
    assert set(studio.rejects()) == {"P0001-other"}
    studio.run(studio.model("other"))
    assert studio.rejects() == {}


def test_limit_takes_the_same_prompts_whatever_the_order_of_the_file(studio):
    studio.write_prompts([f"cat {n}" for n in range(20)])
    lines = studio.prompts.read_text().splitlines(keepends=True)
    studio.prompts.write_text("".join(reversed(lines)))
    studio.run(limit=3)
    assert sorted(row["prompt_id"] for row in studio.records()) == ["P0000", "P0001", "P0002"]
