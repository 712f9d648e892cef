"""EvalMi by fold and RichHF's four scales beside both halves of a score, through `dyneval benchmark`."""

import csv
import json

import openpyxl
import pytest
from scipy.stats import pearsonr, spearmanr

from dyneval.cli import main
from dyneval.evaluation.benchmarks import BENCHMARKS, load
from dyneval.evaluation.folds import within
from dyneval.evaluation.paper import TABLES
from tests.rows import write_jsonl

from .scored_data import score_record

PROMPTS = [f"a photo of {number} red lanterns" for number in range(10)]
MOS = [48.1, 52.4, 31.0, 60.2, 44.4, 57.7, 39.3, 50.0, 62.8, 35.5]
RATED = [3, 4, 1, 5, 3, 4, 2, 2, 5, 1]


@pytest.fixture
def evalmi(tmp_path):
    """EvalMi-50K's files with ten images, their scores, and the test files of two folds."""
    book = openpyxl.Workbook()
    book.active.append(["ImageName", "MOS1", "MOS2", "Y/N"])
    for number, mos in enumerate(MOS):
        book.active.append([f"DALLE3/{number + 1:03d}.png", 100 - mos, mos, number % 2])
    (tmp_path / "MOS&QA").mkdir()
    book.save(tmp_path / "MOS&QA" / "AIGI2025_MOS_yn.xlsx")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "Englishall.txt").write_text("\r\n".join(PROMPTS))
    scores = [
        score_record(f"DALLE3/{n + 1:03d}.png", PROMPTS[n], f"DALLE3/{n + 1:03d}.png", [rating], [6 - rating])
        for n, rating in enumerate(RATED)
    ]
    write_jsonl(tmp_path / "scores.jsonl", scores)
    for fold, numbers in {1: range(5), 2: range(5, 9)}.items():
        rows = [
            {"id": place, "image": f"/data/images/DALLE3/{n + 1:03d}.png", "conversations": []}
            for place, n in enumerate(numbers)
        ]
        write_jsonl(tmp_path / "data" / f"test_AIGI_mos2_fold_{fold}.jsonl", rows)
    return tmp_path


def benchmark(name, folder, annotations, *flags):
    words = ["--benchmark", name, "--annotations", annotations, "--scores", f"DynEval={folder / 'scores.jsonl'}"]
    words += ["--output", folder / "out", "--resamples", "20", "--no-report", *flags]
    return main(["benchmark", *map(str, words)])


def table(folder, name):
    return list(csv.reader((folder / "out" / f"{name}.csv").open()))


def number(cell):
    return float(cell.split()[0].replace("\u2212", "-").lstrip("'"))


def test_evalmi_is_compared_fold_by_fold(evalmi, capsys):
    folds = sorted((evalmi / "data").iterdir())
    assert benchmark("evalmi", evalmi, evalmi, "--score", "t2ia", "--folds", *folds) == 0
    head, *rows = table(evalmi, "folds")
    assert head == ["fold", "images", "SRCC DynEval", "PLCC DynEval"]
    assert [row[:2] for row in rows] == [["1", "5"], ["2", "4"], ["mean ± sd", ""]]
    for row, (start, end) in zip(rows, ((0, 5), (5, 9)), strict=False):
        for cell, measure in zip(row[2:], (spearmanr, pearsonr), strict=True):
            assert number(cell) == pytest.approx(measure(RATED[start:end], MOS[start:end]).statistic, abs=6e-5)
    mean = (number(rows[0][2]) + number(rows[1][2])) / 2
    assert number(rows[2][2]) == pytest.approx(mean, abs=1.1e-4) and "±" in rows[2][2]
    assert "1 rated images are in no fold" in capsys.readouterr().err
    report = json.loads((evalmi / "out" / "agreement.json").read_text())
    assert set(report["evaluators"][0]["folds"]) == {"1", "2"}


def test_folds_that_contradict_each_other_or_were_trained_on_are_refused(evalmi, capsys):
    first = evalmi / "data" / "test_AIGI_mos2_fold_1.jsonl"
    again = write_jsonl(evalmi / "data" / "test_fold_3.jsonl", [{"image": "DALLE3/001.png"}])
    assert benchmark("evalmi", evalmi, evalmi, "--folds", first, again) == 1
    assert "DALLE3/001.png is in fold 3 and in fold 1" in capsys.readouterr().err
    trained = first.rename(evalmi / "data" / "train_AIGI_mos2_fold_1.jsonl")
    assert benchmark("evalmi", evalmi, evalmi, "--folds", trained) == 1
    assert "is what a metric was trained on" in capsys.readouterr().err
    foreign = write_jsonl(evalmi / "folds.jsonl", [{"image": "cat.png", "fold": 1}])
    assert benchmark("evalmi", evalmi, evalmi, "--folds", foreign) == 1
    assert "none of its rows is a rated image, such as DALLE3/001.png" in capsys.readouterr().err


def test_a_column_of_folds_in_ones_own_ratings_counts(evalmi):
    rows = [{"image": f"DALLE3/{n + 1:03d}.png", "rating": mos, "fold": f"part {n % 2}"} for n, mos in enumerate(MOS)]
    write_jsonl(evalmi / "mine.jsonl", rows)
    assert benchmark("generic", evalmi, evalmi / "mine.jsonl") == 0
    assert [row[:2] for row in table(evalmi, "folds")[1:]] == [["part 0", "5"], ["part 1", "5"], ["mean ± sd", ""]]


def test_an_image_with_an_empty_cell_for_a_fold_is_in_none(evalmi, capsys):
    cells = [f"DALLE3/{n + 1:03d}.png,{'' if n > 7 else n % 2}\n" for n in range(10)]
    (evalmi / "my_folds.csv").write_text("image,fold\n" + "".join(cells))
    assert benchmark("evalmi", evalmi, evalmi, "--folds", evalmi / "my_folds.csv") == 0
    assert [row[:2] for row in table(evalmi, "folds")[1:]] == [["0", "4"], ["1", "4"], ["mean ± sd", ""]]
    assert "2 rated images are in no fold" in capsys.readouterr().err


def test_both_ratings_of_evalmi_stand_beside_both_halves(evalmi):
    assert benchmark("evalmi", evalmi, evalmi, "--rating", "all") == 0
    head, *rows = table(evalmi, "scales")
    assert head[:6] == ["rating", "evaluator", "images", "SRCC T2IA", "SRCC IQA", "SRCC overall"]
    (perception,) = [row for row in rows if row[0] == "perception"]
    expected = spearmanr([6 - rating for rating in RATED], [100 - mos for mos in MOS]).statistic
    assert number(perception[4]) == pytest.approx(expected, abs=6e-5)
    assert number(perception[3]) == pytest.approx(-expected, abs=6e-5)


def test_a_column_of_ones_own_stands_under_overall(evalmi):
    cells = "".join(f"DALLE3/{n + 1:03d}.png,{rating}\n" for n, rating in enumerate(RATED))
    mine = evalmi / "mine.csv"
    mine.write_text(f"image,mine\n{cells}")
    words = ["--benchmark", "evalmi", "--annotations", evalmi, "--scores", mine, "--score", "mine", "--rating", "all"]
    assert main(["benchmark", *map(str, [*words, "--output", evalmi / "out", "--resamples", "0", "--no-report"])]) == 0
    (row,) = [row for row in table(evalmi, "scales") if row[0] == "correspondence"]
    assert row[3:5] == ["–", "–"] and number(row[5]) == pytest.approx(spearmanr(RATED, MOS).statistic, abs=6e-5)


def test_the_four_scales_of_richhf_stand_beside_both_halves_and_beside_rivals(tmp_path):
    meta, scores, rival = {}, [], []
    for n, rating in enumerate(RATED):
        aligned, artefacts = rating / 5, MOS[n] / 100
        meta[str(n)] = {
            "filename": f"test/{n}.png", "prompt": PROMPTS[n], "misalignment_score": aligned,
            "artifact_score": artefacts, "aesthetics_score": artefacts, "overall_score": (aligned + artefacts) / 2,
        }  # fmt: skip
        scores.append(score_record(str(n), PROMPTS[n], f"{n}.png", [rating], [1 + n % 5]))
        rival.append({"pair_id": str(n), "score": MOS[n]})
    (tmp_path / "test_meta_data.json").write_text(json.dumps(meta))
    write_jsonl(tmp_path / "scores.jsonl", scores)
    compared = write_jsonl(tmp_path / "musiq.jsonl", rival)
    assert benchmark("richhf", tmp_path, tmp_path, "--rating", "all", "--compare", f"MUSIQ={compared}") == 0
    rows = {(row[0], row[1]): row for row in table(tmp_path, "scales")[1:]}
    assert len(rows) == 8
    assert number(rows["misalignment_score", "DynEval"][3]) == 1
    iqa = spearmanr([1 + n % 5 for n in range(10)], MOS).statistic
    assert number(rows["artifact_score", "DynEval"][4]) == pytest.approx(iqa, abs=6e-5)
    assert rows["artifact_score", "MUSIQ"][3:6] == ["–", "–", "1.0000 [1.000, 1.000]"]


def test_a_table_of_the_paper_takes_the_fold_that_it_was_measured_on(evalmi):
    (part,) = [part for part in TABLES["agreement"].datasets if part.name == "evalmi"]
    assert part.fold_file(evalmi.parent) is None
    folder = evalmi.rename(evalmi.with_name("evalmi"))
    benchmark = within(BENCHMARKS["evalmi"], part.fold_file(folder.parent))
    images = [item.image for item in load(benchmark, folder).items]
    assert images == [f"DALLE3/{n:03d}.png" for n in range(1, 6)]
    assert len(load(BENCHMARKS["evalmi"], folder).items) == 10
