"""The doors from end to end: real files in, tables, figures and report out; a real student; bad input in one line."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from dyneval.evaluation.benchmarks import BENCHMARKS
from dyneval.files.jsonl import read_jsonl
from tests import processes
from tests.rows import write_jsonl

from .scored_data import draw, make_scores, score_record

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SMALL_REPLIES = ["--max-questions", "2", "--max-text", "8", "--batch-size", "6"]


def door(name, *arguments):
    command = [sys.executable, str(ROOT / "inference" / f"{name}.py"), *map(str, arguments)]
    return processes.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def tifa(tmp_path):
    """Annotations in TIFA's layout for six images, the images, and DynEval's scores of five of them."""
    annotations, scores = {}, []
    for number in range(6):
        key = f"coco_{number // 2}_model_{number % 2}"
        annotations[key] = {
            "text_id": f"coco_{number // 2}",
            "image_path": f"{key}.jpg",
            "text": f"a photo of {number // 2} dogs",
            "human_scores": [1 + number % 5, 1 + number % 4],
        }
        draw(tmp_path / "images" / f"{key}.jpg", number)
        value = 1 + number % 5
        scores.append(score_record(key, annotations[key]["text"], f"{key}.jpg", [value] * 3, [value] * 2))
    (tmp_path / "human_annotations.json").write_text(json.dumps(annotations))
    write_jsonl(tmp_path / "scores.jsonl", scores[:5])
    rows = "".join(f"/x/{key}.jpg,0.{number}\n" for number, key in enumerate(annotations))
    (tmp_path / "clip.csv").write_text("image,score\n" + rows)
    return tmp_path


def test_the_benchmark_door_prints_and_writes_every_form(tifa):
    run = door(
        "benchmark",
        *("--benchmark", "tifa", "--annotations", tifa / "human_annotations.json"),
        *("--scores", f"DynEval-4B={tifa / 'scores.jsonl'}", "--compare", f"CLIPScore={tifa / 'clip.csv'}"),
        *(
            "--images",
            tifa / "images",
            "--output",
            tifa / "out",
            "--resamples",
            "50",
            "--pictures",
            "png",
            "svg",
            "pdf",
        ),
    )
    assert run.returncode == 0, run.stderr
    assert "DynEval-4B: no score for 1 of 6 rated images" in run.stderr
    for text in ("DynEval-4B", "CLIPScore", "published", ".8022", "SRCC difference"):
        assert text in run.stdout
    report = json.loads((tifa / "out" / "agreement.json").read_text())
    assert [row["name"] for row in report["evaluators"]] == ["DynEval-4B", "CLIPScore"]
    for name in ("agreement", "differences", "categories"):
        assert {path.suffix for path in (tifa / "out").glob(f"{name}.*")} >= {".csv", ".md", ".tex", ".html"}
    heads = {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}
    pictures = list((tifa / "out" / "pictures").iterdir())
    assert {path.stem for path in pictures} == {"coefficients", "scatter-1", "scatter-2", "categories"}
    assert all(path.read_bytes().startswith(heads[path.suffix]) for path in pictures)
    assert "CLIPScore" in (tifa / "out" / "pictures" / "coefficients.svg").read_text()
    assert (tifa / "out" / "report.html").stat().st_size > 500_000


def test_a_benchmark_is_scored_and_goes_on_where_it_stopped(tifa, student):
    command = [
        *("benchmark", "--benchmark", "tifa", "--annotations", tifa / "human_annotations.json"),
        *("--images", tifa / "images", "--checkpoint", student, "--output", tifa / "out", "--template", "readme"),
        *("--reply-form", "readme", "--device", "cpu", "--resamples", "20", "--no-report", *SMALL_REPLIES),
    ]
    (tifa / "images" / "coco_2_model_1.jpg").write_bytes(b"broken")
    run = door(*command)
    assert run.returncode == 1
    assert run.stderr.endswith("student: no score for 1 of 6 rated images\n")
    scores = [row["pair_id"] for row in read_jsonl(tifa / "out" / "scores.jsonl")]
    assert len(scores) == 5
    (reject,) = read_jsonl(tifa / "out" / "scores.rejects.jsonl")
    assert reject["pair_id"] == "coco_2_model_1"
    draw(tifa / "images" / "coco_2_model_1.jpg", 9)
    run = door(*command)
    assert run.returncode == 0, run.stderr
    again = [row["pair_id"] for row in read_jsonl(tifa / "out" / "scores.jsonl")]
    assert again == [*scores, "coco_2_model_1"]


def test_a_board_straight_from_images_with_a_prompt_list(tmp_path, student):
    prompts = [
        {"prompt": f"{n} red dogs", "subcategory": "count_exact", "gid": n, "filename": f"{n:04d}.png"}
        for n in range(2)
    ]
    (tmp_path / "dyneval_1k.json").write_text(json.dumps({"prompts": prompts}))
    for number, name in enumerate(("sana/0000.png", "sana/0001.jpg", "sdxl/0000.png", "llamagen/0001.png")):
        draw(tmp_path / "images" / name, number)
    command = [
        "leaderboard",
        *("--checkpoint", student, "--prompts", tmp_path / "dyneval_1k.json", "--images", tmp_path / "images"),
        *("--output", tmp_path / "board", "--resamples", "20", *SMALL_REPLIES),
    ]
    run = door(*command)
    assert run.returncode == 0, run.stderr
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    assert {(row["model"], row["images"], row["missing"]) for row in board["models"]} == {
        ("Sana", 2, 0),
        ("Stable Diffusion XL", 1, 1),
        ("LlamaGen", 1, 1),
    }
    assert board["dimensions"] == {"Counting": ["count_exact"]}
    assert "Stable Diffusion XL: no score for 1 images" in run.stderr
    assert (tmp_path / "board" / "report.html").exists()

    shutil.rmtree(tmp_path / "images" / "llamagen")  # what is there no more is ranked no more, and not lost
    run = door(*command, "--no-report")
    assert run.returncode == 0 and "1 scores of images that are not asked for moved to" in run.stderr, run.stderr
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    assert {row["model"] for row in board["models"]} == {"Sana", "Stable Diffusion XL"}
    assert len((tmp_path / "board" / "scores.jsonl.superseded").read_text().splitlines()) == 1


def test_the_leaderboard_door_ranks_and_proposes_tiers(tmp_path):
    scores, metadata = make_scores(tmp_path, {"sana": (2, 0.7), "sdxl": (3, 0.5), "llamagen": (3, 0.2)}, prompts=8)
    options = ("--metadata", metadata, "--output", tmp_path / "out", "--no-report", "--resamples", "50")
    run = door("leaderboard", scores, *options)
    assert run.returncode == 0, run.stderr
    for text in ("Sana", "Tier 3", "proposed tier", "[", "1–1"):
        assert text in run.stdout
    names = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert names == {"leaderboard", "tiers", "dimensions", "sub_categories", "head_to_head", "proposed_tiers"}


@pytest.mark.skipif(not SHARED.exists(), reason="the table of published scores is not here")
def test_the_published_table_gives_the_published_board(tmp_path):
    table = SHARED / "published_leaderboard_dyneval_1k.csv"
    run = door("leaderboard", table, "--output", tmp_path, "--pictures", "svg")
    assert run.returncode == 0, run.stderr
    for text in ("0.8723 ± 0.0405", "0.7389 ± 0.0394", "0.5284 ± 0.1229"):
        assert text in run.stdout
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {"heat-map", "tiers", "hardest", "years"}
    assert "GPT-Image-1.5" in (tmp_path / "pictures" / "heat-map.svg").read_text()


@pytest.mark.skipif(not (SHARED / "real_pairs").exists(), reason="the pairs with human scores are not here")
def test_real_pairs_with_published_scores(tmp_path):
    pairs = list(read_jsonl(SHARED / "real_pairs" / "metadata.jsonl"))
    rows = [
        {"image": pair["file_name"], "rating": pair["human_score"], "score": pair["published_dyneval_4b"]}
        for pair in pairs
    ]
    rated = scores = write_jsonl(tmp_path / "rated.jsonl", rows)
    run = door(
        "benchmark",
        *("--benchmark", "generic", "--annotations", rated, "--scale", "0", "1", "--scores", scores),
        *("--images", SHARED / "real_pairs", "--output", tmp_path / "out", "--resamples", "50"),
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "out" / "agreement.json").read_text())["evaluators"][0]
    assert found["items"] == len(pairs)
    expected = spearmanr([row["rating"] for row in rows], [row["score"] for row in rows]).statistic
    assert found["srcc"]["value"] == pytest.approx(expected)


RATED = ("benchmark", "--benchmark", "generic", "--annotations", "{rated}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("benchmark", "--benchmark", "tifa", "--annotations", "x", "--scores", "y"), "not the layout of TIFA v1.0"),
        ((*RATED, "--scores", "nowhere.csv"), "nowhere.csv: cannot be read"),
        ((*RATED, "--scores", "{rated}", "--scale", "4", "5"), "rating 3 lies off the scale"),
        ((*RATED, "--checkpoint", "x"), "--checkpoint needs --images and --output"),
        (("leaderboard", "a.jsonl", "b.csv"), "a table of published scores stands alone"),
        (("leaderboard", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
        (("leaderboard", "--checkpoint", "x"), "--checkpoint needs --prompts, --images and --output"),
    ],
)
def test_bad_input_is_one_clear_message(tmp_path, command, message):
    rated = tmp_path / "rated.csv"
    rated.write_text("image,rating,prompt\na.png,1,p\nb.png,3,q\n")
    run = door(*(text.replace("{rated}", str(rated)) for text in command))
    assert run.returncode == 1
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def rated_by(tmp_path, ratings, scores, *options):
    """`dyneval benchmark` on two tables, given as lines; with the report of agreement.json, if it got there."""
    (tmp_path / "rated.csv").write_text("\n".join(["image,rating", *ratings]))
    (tmp_path / "scores.csv").write_text("\n".join(scores))
    where = ("--annotations", tmp_path / "rated.csv", "--scores", tmp_path / "scores.csv", "--output", tmp_path / "out")
    run = door("benchmark", "--benchmark", "generic", *where, "--no-report", "--resamples", "0", *options)
    report = tmp_path / "out" / "agreement.json"
    return run, json.loads(report.read_text()) if report.exists() else None


def test_bad_rows_of_ratings_and_scores_are_counted_named_and_written(tmp_path):
    good = [f"{number}.png,{1 + number % 5}" for number in range(10)]
    ratings = [*good, "10.png,9", "11.png,good", "12.png,inf", "13.png,1", "13.png,2", good[0]]
    scores = ["image,score", *good[:8], "8.png,high", "9.png,1", "9.png,2", good[1], good[1]]
    run, report = rated_by(tmp_path, ratings, scores, "--scale", "1", "5")
    assert run.returncode == 0, run.stderr
    assert report["evaluators"][0]["items"] == 8 and report["evaluators"][0]["srcc"]["value"] == pytest.approx(1)
    assert (report["images"], report["rejected"], report["repeated"]) == (10, 8, 3)
    assert (
        "rated.csv: 5 rows left out: 10.png, row 11: rating 9 lies off the scale of own ratings, 1-5; 11." in run.stderr
    )
    assert "; and 2 more\n" in run.stderr
    assert "scores.csv: 3 rows left out: 8.png, row 9: score: expected a number, found 'high'; 9.png, row" in run.stderr
    assert "3 rows repeat one before them and count once" in run.stderr
    rejects = list(read_jsonl(tmp_path / "out" / "agreement.rejects.jsonl"))
    assert {row["kind"] for row in rejects} == {"row"}
    assert [(row["file"], row["item_id"], row["row"]) for row in rejects] == [
        *(("rated.csv", f"{name}.png", row) for name, row in [(10, 11), (11, 12), (12, 13), (13, 14), (13, 15)]),
        *(("scores.csv", f"{name}.png", row) for name, row in [(8, 9), (9, 10), (9, 11)]),
    ]
    assert "different contents" in rejects[-1]["reason"]
    run, report = rated_by(tmp_path, good, ["image,score", *good])
    assert report["rejected"] == 0 and not (tmp_path / "out" / "agreement.rejects.jsonl").exists(), "of the last run"


@pytest.mark.parametrize("header", ["image,score,mine", "image,mine,score"])
def test_the_column_that_was_asked_for_wins_over_one_called_score(tmp_path, header):
    mine = header.split(",").index("mine")
    rows = [f"{n}.png,{n},{5 - n}" if mine == 1 else f"{n}.png,{5 - n},{n}" for n in range(5)]
    ratings = [f"{n}.png,{n}" for n in range(5)]
    for column, srcc in (("mine", 1), ("score", -1), ("overall", -1)):
        run, report = rated_by(tmp_path, ratings, [header, *rows], "--score", column)
        assert run.returncode == 0, run.stderr
        assert report["evaluators"][0]["srcc"]["value"] == pytest.approx(srcc)


def test_bad_rows_of_the_ratings_of_a_board_are_told(tmp_path):
    scores, metadata = make_scores(tmp_path, {"sana": (2, 0.7), "sdxl": (3, 0.5), "llamagen": (3, 0.2)}, prompts=8)
    rows = [{"pair_id": row["pair_id"], "rating": row["overall"]} for row in read_jsonl(scores)]
    rows[3]["rating"] = "?"
    ratings = write_jsonl(tmp_path / "ratings.jsonl", [*rows, rows[0]])
    options = ("--metadata", metadata, "--ratings", ratings, "--output", tmp_path / "out", "--no-report")
    run = door("leaderboard", scores, *options, "--resamples", "0")
    assert run.returncode == 0, run.stderr
    assert f"ratings.jsonl: 1 rows left out: {rows[3]['pair_id']}, row 4: rating: expected a number" in run.stderr
    assert "1 rows repeat one before them" in run.stderr
    (reject,) = read_jsonl(tmp_path / "out" / "agreement.rejects.jsonl")
    assert reject["item_id"] == rows[3]["pair_id"]


def test_a_board_is_made_of_scores_that_were_made_alike(tmp_path):
    def scored(name, **settings):
        rows = [score_record(f"{n}-{name}", f"prompt {n}", f"{name}/{n}.png", [3, 4], [n, 5]) for n in range(1, 5)]
        return write_jsonl(tmp_path / f"{name}.jsonl", [row | {"settings": settings} for row in rows])

    alike = {"mode": "full", "mean": "arithmetic", "alpha": 0.5, "beta": 0.5, "reply_form": "readme"}
    alike |= {"max_pixels": 602112, "dtype": "bfloat16", "limits": {}}
    changes = [{"alpha": 0.9, "beta": 0.1}, {"mean": "geometric"}, {"mode": "fast"}, {"reply_form": "release"}]
    changes += [{"max_pixels": 50176}, {"dtype": "float16"}, {"limits": {"questions": 8}}]
    first = scored("sana", **alike)
    for change in changes:
        run = door("leaderboard", first, scored("sdxl", **alike | change))
        said = f"sdxl.jsonl: its scores were made with other settings than those before ({next(iter(change))} "
        assert run.returncode == 1 and said in run.stderr
    run = door("leaderboard", first, scored("sdxl", alpha=0.5), scored("llamagen"), "--resamples", "10")
    assert run.returncode == 0, run.stderr


def test_tables_are_not_written_over_what_they_are_made_of(tmp_path):
    scores, metadata = make_scores(tmp_path, {"sana": (2, 0.7), "sdxl": (3, 0.5)}, prompts=4)
    out = tmp_path / "out"
    out.mkdir()
    table = shutil.copy(scores, out / "leaderboard.json")
    run = door("leaderboard", table, "--metadata", metadata, "--output", out, "--no-report", "--resamples", "0")
    assert run.returncode == 1 and "leaderboard.json: is an input and would be overwritten" in run.stderr
    assert (out / "leaderboard.json").read_bytes() == scores.read_bytes()
    rated = out / "agreement.csv"
    rated.write_text("image,rating,score\na.png,1,1\nb.png,2,2\nc.png,3,3\n")
    command = ("benchmark", "--benchmark", "generic", "--annotations", rated, "--scores", rated, "--output", out)
    run = door(*command, "--no-report", "--resamples", "0")
    assert run.returncode == 1 and "agreement.csv: is an input and would be overwritten" in run.stderr
    assert rated.read_text().startswith("image,rating,score")


def test_scoring_needs_prompts_that_the_annotations_hold(tmp_path):
    (tmp_path / "rated.csv").write_text("image,rating\na.png,1\n")
    where = ("--annotations", tmp_path / "rated.csv", "--images", tmp_path, "--output", tmp_path / "out")
    run = door("benchmark", "--benchmark", "generic", *where, "--checkpoint", tmp_path / "no-student")
    assert run.returncode == 1
    assert "1 images come without their prompt, which scoring needs" in run.stderr, "and nothing is loaded"


def test_the_list_names_every_benchmark_with_its_source():
    run = door("benchmark", "--list")
    assert run.returncode == 0
    for benchmark in BENCHMARKS.values():
        assert benchmark.source in run.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--compare", "scores.jsonl"], "two evaluators are called 'scores'"),
        (["--level", "5"], "--level 5: expected a number between 0 and 1"),
    ],
)
def test_what_would_be_dropped_or_promised_wrongly_is_refused(tifa, more, said):
    more = [str(tifa / word) if word.endswith(".jsonl") else word for word in more]
    annotations = ["--annotations", tifa / "human_annotations.json"]
    run = door("benchmark", "--benchmark", "tifa", *annotations, "--scores", tifa / "scores.jsonl", *more)
    assert run.returncode == 1 and said in run.stderr and "Traceback" not in run.stderr


def test_half_a_character_is_told(tifa):
    path = tifa / "human_annotations.json"
    path.write_text(path.read_text().replace('"text": "', '"text": "\\ud83d', 1))
    run = door("benchmark", "--benchmark", "tifa", "--annotations", path, "--scores", tifa / "scores.jsonl")
    assert run.returncode == 1 and "is not JSON" in run.stderr and "Traceback" not in run.stderr
