"""The best of N, comparisons of two images, and pairs for DPO, on pictures whose true scores are known."""

import io
import json
import shutil

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from dyneval.choosing import ChoiceError, best_of, compare
from dyneval.cli import best as best_verb
from dyneval.cli import preferences as preferences_verb
from dyneval.demo.painters import draw
from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts
from dyneval.demo.summary import true_scores
from dyneval.files.jsonl import read_jsonl
from dyneval.scorer import Scorer, ScorerSettings

FAST = ["--mode", "fast", "--device", "cpu"]


@pytest.fixture(scope="module")
def scorer(demo_judge):
    return Scorer.from_pretrained(demo_judge, device="cpu", settings=ScorerSettings(mode="fast"))


@pytest.fixture(scope="module")
def gendb(tmp_path_factory):
    """Two prompts with three pictures each, the truly worst, middle and best of twenty."""
    folder = tmp_path_factory.mktemp("gendb")
    prompts = [text for text in demo_prompts(40, 5) if len(text) >= MIN_CHARACTERS][:2]
    rows = []
    for number, prompt in enumerate(prompts):
        drawn = [
            (true_scores(truth)["overall"], image)
            for slug in ("demo-painter", "demo-doodler")
            for image, truth in (draw(slug, prompt, seed, 128) for seed in range(10))
        ]
        drawn.sort(key=lambda one: one[0])
        for name, (_, image) in zip(("worst", "middle", "best"), (drawn[0], drawn[10], drawn[-1]), strict=True):
            image.save(folder / f"{number}_{name}.png")
            rows.append({"pair_id": f"{number}-{name}", "file_name": f"{number}_{name}.png", "prompt": prompt})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def prompt(gendb):
    return next(read_jsonl(gendb / "metadata.jsonl"))["prompt"]


@pytest.fixture(scope="module")
def records(scorer, gendb, prompt):
    return scorer.score([gendb / f"0_{name}.png" for name in ("worst", "middle", "best")], [prompt] * 3)


@pytest.fixture(scope="module")
def table(demo_judge, gendb, tmp_path_factory):
    """Arguments of `dyneval best` for the table, which ran once; its --output, and the scores that it keeps."""
    output = tmp_path_factory.mktemp("best") / "best.jsonl"
    metadata = ["--metadata", str(gendb / "metadata.jsonl"), "--output", str(output)]
    arguments = [*metadata, "--checkpoint", str(demo_judge), *FAST]
    assert best_verb.main(arguments, "dyneval best") == 0
    return arguments, output, output.with_name("best.scores.jsonl")


def test_the_best_of_several_and_why(scorer, gendb, prompt, records):
    best = scorer.best([gendb / "0_worst.png", gendb / "0_best.png"], prompt)
    assert (best.number, best.order) == (1, (1, 0)) and best.record.image.endswith("0_best.png")
    lead = records[2].soft["overall"] - records[0].soft["overall"]
    assert best.lead.difference == pytest.approx(lead, abs=1e-3) and lead > 0
    assert best.reason.startswith(f"{gendb / '0_best.png'} is the best of 2 (overall ")
    assert f"{best.lead.difference:.2f} above" in best.reason and best.reason.endswith(").")
    assert any(one.question in best.reason for one in best.lead.decided[:5] if one.effect > 0)

    tensor = torch.stack(
        [torch.from_numpy(np.array(Image.open(gendb / f"0_{name}.png"))).permute(2, 0, 1) for name in ("best", "worst")]
    )
    assert scorer.best(tensor.float() / 255, prompt, "t2ia").record.image in ("image-1", "image-2")
    alone = scorer.best([gendb / "0_worst.png"], prompt)
    assert (alone.order, alone.lead) == ((0,), None) and "the only scored image" in alone.reason
    with pytest.raises(ChoiceError, match="no scored image"):
        scorer.best([], prompt)


def test_a_comparison_names_what_decides_and_how_sure_it_is(records):
    worst, middle, best = records
    found = compare(best, worst)
    assert found.difference == pytest.approx(sum(one.effect for one in found.decided), abs=1e-3)
    assert found.low < found.difference < found.high and found == compare(best, worst)
    mirrored = compare(worst, best)
    assert mirrored.difference == -found.difference
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=0.15)
    sizes = [abs(one.effect) for one in found.decided]
    assert sizes == sorted(sizes, reverse=True)
    paired = [one for one in found.decided if one.part == "t2ia"]
    assert all(one.a is not None and one.b is not None for one in paired)
    assert [one.question for one in compare(best, worst, "t2ia").decided] == [one.question for one in paired]
    same = compare(middle, middle)
    assert (same.difference, same.is_sure) == (0, False)
    assert best_of([middle, middle]).reason.endswith("that score the same " + f"({middle.soft['overall']:.2f}).")


def test_what_does_not_compare_is_refused(records):
    worst, _, best = records
    replace = msgspec.structs.replace
    with pytest.raises(ChoiceError, match="two prompts"):
        compare(best, replace(worst, prompt="another"))
    with pytest.raises(ChoiceError, match="two judges"):
        best_of([best, replace(worst, settings=worst.settings | {"mode": "full"})])
    with pytest.raises(ChoiceError, match="no soft overall score"):
        best_of([best, replace(worst, soft=None)])
    release = [replace(one, holistic={"iqa": 4}) for one in (best, worst)]
    assert compare(*release).low is None and compare(*release, "t2ia").low is not None


def test_the_best_do_not_take_the_place_of_the_table(demo_judge, gendb, tmp_path, capsys):
    table = tmp_path / "metadata.jsonl"
    table.write_bytes((gendb / "metadata.jsonl").read_bytes())
    arguments = ["--metadata", str(table), "--output", str(table), "--checkpoint", str(demo_judge)]
    assert best_verb.main(arguments, "dyneval best") == 1
    assert "is an input and would be overwritten" in capsys.readouterr().err
    assert table.read_bytes() == (gendb / "metadata.jsonl").read_bytes()


def test_best_of_a_table_goes_on_where_it_was(table, tmp_path, capsys):
    arguments, output, scores = table
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["pair_id"] for row in rows] == ["0-best", "1-best"]
    assert all([one["pair_id"] for one in row["ranking"]][-1].endswith("worst") for row in rows)

    before = scores.read_bytes()
    assert best_verb.main([*arguments, "--n", "2"], "dyneval best") == 0  # of worst and middle, as the table has them
    assert "2 prompts: mean soft overall score" in capsys.readouterr().err
    assert scores.read_bytes() == before
    assert [len(row["ranking"]) for row in read_jsonl(output)] == [2, 2]
    assert [row["pair_id"] for row in read_jsonl(output)] == ["0-middle", "1-middle"]

    again = tmp_path / "again.jsonl"
    assert best_verb.main(["--scores", str(scores), "--n", "9", "--output", str(again)], "dyneval best") == 0
    assert {row["pair_id"] for row in read_jsonl(again)} == {"0-best", "1-best"}
    assert "2 of them have fewer than 9 scored images" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        best_verb.main(["--scores", str(scores)], "dyneval best")
    assert best_verb.main(["--scores", str(scores), "--output", str(scores)], "dyneval best") == 1
    assert scores.read_bytes() == before


def test_best_of_images_on_the_command_line(demo_judge, gendb, prompt, capsys):
    images = [str(gendb / f"0_{name}.png") for name in ("worst", "best")]
    assert best_verb.main([*images, "--prompt", prompt, "--checkpoint", str(demo_judge), *FAST], "dyneval best") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["image"] == images[1] and row["lead"] > 0 and row["interval"][0] < row["interval"][1]
    assert [one["image"] for one in row["ranking"]] == images[::-1]


def test_a_broken_image_does_not_lose_the_others(demo_judge, gendb, prompt, tmp_path, capsys):
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes((gendb / "0_best.png").read_bytes()[:200])
    student = ["--prompt", prompt, "--checkpoint", str(demo_judge), *FAST]
    images = [gendb / "0_worst.png", broken, gendb / "0_best.png", missing]
    assert best_verb.main([*map(str, images), *student], "dyneval best") == 1
    told = capsys.readouterr()
    row = json.loads(told.out)
    assert [one["image"] for one in row["ranking"]] == [str(images[2]), str(images[0])]
    lines = [line for line in told.err.splitlines() if line.startswith("dyneval best: ")]
    assert len(lines) == 2 and str(broken) in lines[0] and lines[1].endswith(f"{missing}: no such image file")

    # Without one image no student is loaded: none is of that name.
    none = [str(broken), "--prompt", prompt, "--checkpoint", "no/such/student"]
    assert best_verb.main(none, "dyneval best") == 1
    told = capsys.readouterr()
    assert not told.out and told.err.count("\n") == 1 and str(broken) in told.err


def read_as_diffusers_does(dataset):
    """What train_diffusion_dpo.py makes of a row: the better image first."""
    for row in dataset:
        images = [Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("jpg_0", "jpg_1")]
        yield row["caption"], images[::-1] if row["label_0"] == 0 else images


def test_preferences_are_what_dpo_trainers_read(table, gendb, tmp_path, capsys):
    datasets = pytest.importorskip("datasets")
    scores = table[2]
    output = tmp_path / "dpo.jsonl"
    arguments = [str(scores), "--image-root", str(gendb), "--margin", "0.1"]
    assert preferences_verb.main([*arguments, "--output", str(output)], "dyneval preferences") == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        (str(gendb / f"{number}_best.png"), str(gendb / f"{number}_worst.png")) for number in range(2)
    ]
    assert all(row["jpg_0"] == row["chosen"] and row["label_0"] == 1 and row["label_1"] == 0 for row in rows)
    assert all(row["score_0"] - row["score_1"] >= 0.1 and row["caption"] == row["prompt"] for row in rows)

    packed = tmp_path / "dpo" / "train.parquet"
    assert preferences_verb.main([*arguments, "--pairs", "all", "--output", str(packed)], "dyneval preferences") == 0
    dataset = datasets.load_dataset(str(packed.parent), split="train", cache_dir=str(tmp_path / "cache"))
    assert 4 <= len(dataset) <= 6 and {"caption", "jpg_0", "jpg_1", "label_0"} <= set(dataset.column_names)
    shown = dict(read_as_diffusers_does(row for row in dataset if row["image_0_uid"] == "0-best"))
    assert [np.array_equal(one, Image.open(gendb / "0_best.png")) for (one, _) in shown.values()] == [True]

    capsys.readouterr()
    assert preferences_verb.main([*arguments, "--margin", "3.9", "--output", str(output)], "dyneval preferences") == 1
    assert "no two images of a prompt lie 3.9 or more apart (2 prompts, 0 of them" in capsys.readouterr().err
    assert len(list(read_jsonl(output))) == 2
    cut = tmp_path / "cut"
    shutil.copytree(gendb, cut)
    (cut / "1_worst.png").write_bytes(b"nothing")
    lost = [str(scores), "--image-root", str(cut), "--output", str(tmp_path / "lost.parquet")]
    assert preferences_verb.main(lost, "dyneval preferences") == 1
    said = capsys.readouterr().err
    assert "1_worst.png" in said and "1 pairs of 1 of 2 prompts" in said
    lost[2] = str(tmp_path)  # where no image is
    before = (tmp_path / "lost.parquet").read_bytes()
    assert preferences_verb.main(lost, "dyneval preferences") == 1
    assert "no pair has both images" in capsys.readouterr().err
    assert (tmp_path / "lost.parquet").read_bytes() == before
    for wrong in (["--margin", "nan"], ["--margin", "-1"], ["--output", "dpo.csv"]):
        with pytest.raises(SystemExit):
            preferences_verb.main([str(scores), "--output", str(output), *wrong], "dyneval preferences")
