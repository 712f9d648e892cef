"""`dyneval reproduce` from small files in the published layouts to the paper's tables, with the demo judge."""

import csv
import json
import shutil

import pytest
from scipy.stats import pearsonr, spearmanr

from dyneval.checkpoints.names import demo_judge
from dyneval.cli import main
from dyneval.demo.painters import draw
from dyneval.demo.prompts import demo_prompts
from dyneval.evaluation.paper import TABLES
from dyneval.evaluation.published import agreements, models
from dyneval.files.jsonl import read_jsonl

FEW = ("--resamples", "30", "--no-report", "--mode", "fast", "--max-questions", "2")
PROMPTS = sorted(set(demo_prompts(40, 0)), key=len)[2:6]
PAINTERS = ("demo-painter", "demo-doodler")
RATINGS = (5, 1, 4, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """TIFA with four images, RichHF with three, and DynEval-1K with one prompt drawn by two models."""
    folder = tmp_path_factory.mktemp("data")
    tifa, rich = {}, {}
    for number, (text, rating) in enumerate(zip(PROMPTS, RATINGS, strict=True)):
        name = f"coco_{number}_m{number % 2}"
        tifa[name] = {
            "text_id": f"coco_{number}",
            "image_path": f"{name}.jpg",
            "text": text,
            "human_scores": [rating, rating],
        }
        scores = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")
        rich[str(number)] = {
            "filename": f"test/{number}.png",
            "prompt": text,
            **dict.fromkeys(scores, rating / 5),
        }
        paint(folder / "tifa" / "images" / f"{name}.jpg", number % 2, text)
        paint(folder / "richhf" / "images" / f"{number}.png", number % 2, text)
    write(folder / "tifa" / "human_annotations.json", tifa)
    write(folder / "richhf" / "test_meta_data.json", {key: rich[key] for key in "012"})
    prompts = [{"id": n, "prompt": text, "subcategory": "count_exact"} for n, text in enumerate(PROMPTS[:1])]
    write(folder / "dyneval-1k" / "prompts.json", {"prompts": prompts})
    for place, model in enumerate(("GPT-Image-1.5", "sana")):
        paint(folder / "dyneval-1k" / "images" / model / "0000.png", place, PROMPTS[0])
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Where all tests write, so that an image is scored once."""
    return tmp_path_factory.mktemp("reproduced")


def paint(path, painter, prompt):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(PAINTERS[painter], prompt, seed=0, size=128)[0].save(path)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def reproduce(table, data, output, *flags):
    arguments = ["reproduce", table, "--data", data, "--output", output, "--checkpoint", "demo", *FEW, *flags]
    status = main([str(word) for word in arguments])
    made = output / f"{table}.csv"
    return status, list(csv.reader(made.open())) if made.exists() else []


def test_the_agreement_table_has_published_values_ours_and_the_difference(data, output, capsys, caplog):
    status, (head, *rows) = reproduce("agreement", data, output)
    said = capsys.readouterr()
    assert status == 1, "four benchmarks are not here"
    for name in ("evalmuse", "genai-bench", "geneval", "evalmi", "t2i-eval-bench"):
        assert f"not here: {name}: wants " in said.err and f"{data / name / 'images'}" in said.err
    assert "https://huggingface.co/datasets/DY-Evalab/EvalMuse" in said.err
    assert [row[0] for row in rows] == ["TIFA v1.0", "RichHF-18K"] and head[3:6] == [
        "SRCC published", "SRCC here", "difference",
    ]  # fmt: skip
    published = {one.benchmark: one for one in agreements() if one.evaluator == "DynEval-4B"}
    for row, (benchmark, images) in zip(rows, {"tifa": 4, "richhf": 3}.items(), strict=True):
        found = {row["pair_id"]: row["overall"] for row in read_jsonl(output / benchmark / "scores.jsonl")}
        scores = [found[key] for key in sorted(found)]  # they are written as they are made
        paper = published[benchmark]
        for start, measure, theirs in ((3, spearmanr, paper.srcc), (6, pearsonr, paper.plcc)):
            ours = measure(scores, RATINGS[:images]).statistic
            assert row[start] == f"{theirs:.4f}".removeprefix("0") and row[1:3] == [str(images), f"{paper.pairs:,}"]
            assert number(row[start + 1]) == pytest.approx(ours, abs=6e-5)
            assert number(row[start + 2]) == pytest.approx(ours - theirs, abs=1.1e-4)
            assert "[" in row[start + 1], "an interval"
    for suffix in ("md", "tex", "html"):
        assert "RichHF-18K" in (output / f"agreement.{suffix}").read_text()
    caplog.clear()
    status, again = reproduce("agreement", data, output, "--only", "tifa", "richhf", "--beside", "DynEval-2B")
    assert status == 0 and "0 pairs scored" in caplog.text and "4 were there before" in caplog.text
    assert [row[4] for row in again[1:]] == [row[4] for row in rows], "the same figures"
    assert again[1][3] == ".7827", "published for DynEval-2B"


def test_the_size_is_that_of_the_checkpoint_and_of_no_folder_above(data, tmp_path):
    checkpoint = tmp_path / "all-2b" / "dyneval_4b" / "ab2b3f"  # as snapshots in the cache of the Hub
    checkpoint.parent.mkdir(parents=True)
    checkpoint.symlink_to(demo_judge())
    status, rows = reproduce("agreement", data, tmp_path, "--only", "richhf", "--checkpoint", checkpoint)
    (published,) = (one for one in agreements() if (one.evaluator, one.benchmark) == ("DynEval-4B", "richhf"))
    assert status == 0 and rows[1][3] == f"{published.srcc:.4f}".removeprefix("0")


def number(cell):
    """The number that a cell begins with."""
    return float(cell.split()[0].replace("\u2212", "-").replace("'", ""))


def test_tables_of_the_thousand_prompts_share_their_scores(data, output, caplog):
    status, (head, *rows) = reproduce("leaderboard", data, output)
    assert status == 0 and head == ["T2I model", "images", "published", "here", "difference"]
    paper = {model.name: model.paper_score for model in models()}
    scores = list(read_jsonl(output / "dyneval-1k" / "scores.jsonl"))
    assert len(rows) == 2
    for name, images, published, here, difference in rows:
        folder = "sana" if name.lower().startswith("sana") else "GPT-Image-1.5"
        mine = [row["normalised"]["overall"] for row in scores if row["image"].startswith(folder)]
        assert images == "1" and published == f"{paper[name]:.3f}".removeprefix("0")
        assert number(here) == pytest.approx(mine[0], abs=6e-4)
        assert number(difference) == pytest.approx(mine[0] - paper[name], abs=1.1e-3)
    caplog.clear()
    status, (_, *tiers) = reproduce("tiers", data, output)
    assert status == 0 and "0 pairs scored" in caplog.text
    assert [row[:3] for row in tiers] == [["Tier 1", "1 of 7", ".872 ± .040"], ["Tier 2", "1 of 19", ".739 ± .039"]]
    status, (_, *questions) = reproduce("questions", data, output)
    graphs = [len(row["scene_graph"]["nodes"]) for row in scores]
    few = [len(row["iqa_questions"]) for row, objects in zip(scores, graphs, strict=True) if 1 <= objects <= 5]
    assert status == 0 and questions[0][:3] == ["1-5", str(len(few)), "14.2"] and questions[3][2] == "66.6"
    if few:
        assert number(questions[0][3]) == pytest.approx(sum(few) / len(few), abs=0.06)


def test_the_list_tells_what_is_wanted_and_what_is_here(data, capsys):
    assert main(["reproduce", "--list", "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}: {table.title}" in said for name, table in TABLES.items())
    here = [line for line in said.splitlines() if line.endswith("(here)")]
    assert len(here) == 5, "TIFA, RichHF, and DynEval-1K of three tables"
    assert "not from public data" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scaling"], "not from public data"),
        (["agreement", "--only", "tifo"], "--only tifo: agreement has evalmuse, genai-bench"),
        (["leaderboard", "--score", "t2ia"], "--score t2ia: the table leaderboard is of overall scores"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_is_scored(data, tmp_path, capsys, words, said):
    assert reproduce(words[0], data, tmp_path / "out", *words[1:])[0] == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_benchmark_in_another_layout_does_not_stop_the_others(data, output, tmp_path, capsys):
    shutil.copytree(output, tmp_path / "out")
    other = shutil.copytree(data, tmp_path / "data")
    write(other / "tifa" / "human_annotations.json", {"coco_1": {"text": "a cat"}})
    status, (_, *rows) = reproduce("agreement", other, tmp_path / "out", "--only", "tifa", "richhf")
    assert status == 1 and [row[0] for row in rows] == ["RichHF-18K"]
    assert "tifa: " in (said := capsys.readouterr().err) and "not the layout of TIFA v1.0" in said


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("data/tifa/human_annotations.json", {"human_scores": []}, "TIFA v1.0: no image has a rating"),
        ("out/tifa/scores.jsonl", {"name": "of another program"}, "scores.jsonl: holds no scores"),
    ],
)
def test_a_fault_in_the_contents_of_one_set_does_not_stop_the_others(
    data, output, tmp_path, capsys, name, change, reason
):
    shutil.copytree(output, tmp_path / "out")
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / name
    if path.suffix == ".json":
        write(path, {key: row | change for key, row in json.loads(path.read_text()).items()})
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(change) + "\n")
    status, (_, *rows) = reproduce("agreement", tmp_path / "data", tmp_path / "out", "--only", "tifa", "richhf")
    assert status == 1 and [row[0] for row in rows] == ["RichHF-18K"]
    said = capsys.readouterr().err
    assert "tifa: " in said and reason in said
