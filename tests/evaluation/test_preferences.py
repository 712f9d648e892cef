"""Preference sets: published layouts, accuracy as ImageReward and HPS v2 count it, strengths of models, the door."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dyneval.evaluation.benchmarks import BENCHMARKS, LayoutError, load
from dyneval.evaluation.preference import bradley_terry, compare_preferences
from dyneval.evaluation.scores import ScoreTable
from dyneval.evaluation.unscored import rated_images
from tests import processes

ROOT = Path(__file__).parents[2]
ROWS = [
    {"id": "000-1", "prompt": "a cat", "generations": ["i/a.webp", "i/b.webp", "i/c.webp"], "ranking": [1, 2, 2]},
    {"id": "000-2", "prompt": "a dog", "generations": ["i/d.webp", "i/e.webp"], "ranking": [2, 1]},
]


def write(path, value):
    path.write_text(json.dumps(value), "utf-8")
    return path


def judged(rated, scores):
    return compare_preferences(rated, [ScoreTable("judge", by_image=scores)], resamples=50)


def test_accuracy_is_over_untied_pairs_within_each_prompt(tmp_path):
    rated = load(BENCHMARKS["imagerewarddb"], write(tmp_path / "test.json", ROWS))
    assert [(i.item_id, i.rating, i.group) for i in rated.items[:2]] == [
        ("000-1/0", -1, "000-1"),
        ("000-1/1", -2, "000-1"),
    ]
    scores = {"i/a.webp": 3.0, "i/b.webp": 1.0, "i/c.webp": 4.0, "i/d.webp": 1.0, "i/e.webp": 2.0}
    (one,) = judged(rated, scores).evaluators
    assert (one.prompts, one.pairs, one.missing) == (2, 3, 0)
    assert one.accuracy.value == 0.75, "half of the first prompt's two untied pairs, all of the second's one"
    assert one.kendall.value == pytest.approx((0 + 1) / 2)
    (tied,) = judged(rated, dict.fromkeys(scores, 2.5)).evaluators
    assert tied.accuracy.value == 0.5 and tied.kendall.value is None
    (part,) = judged(rated, {"i/a.webp": 3.0, "i/b.webp": 1.0}).evaluators
    assert (part.prompts, part.pairs, part.missing, part.accuracy.value) == (1, 1, 3, 1)


def test_ratings_of_imagerewarddb_are_ratings(tmp_path):
    row = {"image_path": "i/a.webp", "prompt_id": "000-1", "prompt": "a cat", "rank": 1, "overall_rating": 5}
    path = tmp_path / "metadata-test.parquet"
    pl.DataFrame([row | {"image_text_alignment_rating": 6, "fidelity_rating": 2}]).write_parquet(path)
    (item,) = load(BENCHMARKS["imagerewarddb"], path, "alignment").items
    assert (item.rating, item.group) == (6, None)
    assert load(BENCHMARKS["imagerewarddb"], path).items[0].group == "000-1"
    with pytest.raises(LayoutError, match="holds ranks alone"):
        load(BENCHMARKS["imagerewarddb"], write(tmp_path / "test.json", ROWS), "alignment")


def test_ranks_that_are_texts_are_ranks(tmp_path):
    texts = [row | {"ranking": list(map(str, row["ranking"]))} for row in ROWS]
    as_texts = load(BENCHMARKS["imagerewarddb"], write(tmp_path / "texts.json", texts))
    assert as_texts.items == load(BENCHMARKS["imagerewarddb"], write(tmp_path / "test.json", ROWS)).items
    rows = "a.png,1,a cat,1\nb.png,1,a cat,2\nc.png,1,a cat,x\n"
    (tmp_path / "m.csv").write_text("image_path,prompt_id,prompt,rank\n" + rows)
    found = load(BENCHMARKS["imagerewarddb"], tmp_path / "m.csv")
    assert [(i.image, i.rating) for i in found.items] == [("a.png", -1), ("b.png", -2)]
    assert [reject.key for reject in found.rejects] == ["c.png"]


def test_hpdv2_and_hpdv3_and_pick_a_pic(tmp_path):
    nine = [{"prompt": "a cat", "image_path": ["a.jpg", "b.jpg"], "rank": [1.5, 1.25]}]
    assert [i.rating for i in load(BENCHMARKS["hpdv2"], write(tmp_path / "t.json", nine)).items] == [-1.5, -1.25]
    with pytest.raises(LayoutError, match="0 has 2 images and 1 ranks"):
        load(BENCHMARKS["hpdv2"], write(tmp_path / "t.json", [nine[0] | {"rank": [1]}]))
    pairs = [{"prompt": "a cat", "path1": "x/1.jpg", "path2": "x/2.jpg"}]
    pairs.append(pairs[0] | {"choice_dist": None, "path2": "x/3.jpg"})
    rated = load(BENCHMARKS["hpdv3"], write(tmp_path / "test_tf.json", pairs))
    assert [(i.image, i.rating) for i in rated.items] == [("x/1.jpg", 1), ("x/2.jpg", 0)] and len(rated.unrated) == 2
    row = {
        "caption": "a cat",
        "image_0_uid": "u",
        "image_1_uid": "v",
        "label_0": 0.5,
        "label_1": 0.5,
        "has_label": True,
    }
    pl.DataFrame([row, row | {"label_0": 1.0, "label_1": 0.0}]).write_parquet(tmp_path / "p.parquet")
    rated = load(BENCHMARKS["pick-a-pic"], tmp_path / "p.parquet")
    (one,) = judged(rated, {"u.jpg": 2.0, "v.jpg": 1.0}).evaluators
    assert (one.pairs, one.accuracy.value) == (1, 1), "one image's score serves all of its groups, ties count in none"
    assert [pair.file_name for pair in rated_images(BENCHMARKS["pick-a-pic"], tmp_path / "p.parquet")] == [
        "u.jpg",
        "v.jpg",
    ]


def test_strengths_follow_wins_and_stay_finite():
    strong, weak = bradley_terry(np.array([[0, 30], [10, 0]]))
    assert strong - weak == pytest.approx(math.log(3), abs=0.1) and strong + weak == pytest.approx(0)
    first, _, last = bradley_terry(np.array([[0, 5, 5], [0, 0, 5], [0, 0, 0]]))
    assert math.isfinite(first) and first > last


def test_the_door_shows_preferences(tmp_path):
    duels = [
        {"prompt": f"p{n}", "path1": f"{n}a.jpg", "path2": f"{n}b.jpg", "model1": "flux", "model2": "sd"}
        for n in range(4)
    ]
    write(tmp_path / "test.json", duels)
    lines = [f"{n}a.jpg,{5 - n}\n{n}b.jpg,2" for n in range(4)]
    (tmp_path / "mine.csv").write_text("image,score\n" + "\n".join(lines) + "\n")
    (tmp_path / "flat.csv").write_text("image,score\n" + "".join(f"{n}{x}.jpg,1\n" for n in range(4) for x in "ab"))
    command = ["-m", "dyneval.cli", "benchmark", "--benchmark", "hpdv3", "--annotations", tmp_path / "test.json"]
    more = ["--scores", tmp_path / "mine.csv", tmp_path / "flat.csv", "--output", tmp_path / "out", "--resamples", "50"]
    done = processes.run([sys.executable, *command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert [one["accuracy"]["value"] for one in found["evaluators"]] == [0.875, 0.5]
    assert ".8750" in done.stdout and "flux" in done.stdout
    assert "accuracy" in (tmp_path / "out" / "agreement.csv").read_text()
    assert (tmp_path / "out" / "report.html").exists()
