"""Scores from files meet rated images; evaluators are compared, printed and written; published rows stay apart."""

import csv
import io
import json
import math
import shutil
import subprocess
import tomllib
from importlib.resources import files

import numpy as np
import pytest

from dyneval.errors import DataFileError
from dyneval.evaluation import published, tables
from dyneval.evaluation.benchmarks import BENCHMARKS, RatedImage, RatedSet, RatingError, generic, load
from dyneval.evaluation.comparison import compare
from dyneval.evaluation.scores import ScoreTable, align, read_scores
from dyneval.evaluation.spelling import alike_id
from dyneval.records import ScoreRecord


def record(pair_id, overall=3.0, image=None, **changes):
    question = {"question": "Is it there?", "answer": "yes", "score": 3, "reasoning": "It is."}
    row = {
        "pair_id": pair_id,
        "prompt": "a cat",
        "image": image or f"{pair_id}.png",
        "t2ia": 4.0,
        "iqa": 2.0,
        "overall": overall,
        "normalised": {"t2ia": 0.75, "iqa": 0.25, "overall": (overall - 1) / 4},
        "t2ia_questions": [question],
        "iqa_questions": [question],
        "scene_graph": {"nodes": [], "edges": []},
        "model": "DynEval-4B",
        "template": "readme",
    } | changes
    return ScoreRecord.from_dict(row).to_dict()


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def rated_set(size=60, seed=0):
    generator = np.random.default_rng(seed)
    items = [
        RatedImage(
            item_id=f"m{i % 4}/{i:03d}",
            image=f"m{i % 4}/{i:03d}.png",
            prompt=f"prompt {i // 4}",
            ratings=(float(rating),),
            model=f"m{i % 4}",
            categories=("text",) if i % 2 else ("count",),
        )
        for i, rating in enumerate(generator.integers(1, 6, size))
    ]
    return RatedSet(BENCHMARKS["tifa"], "faithfulness", items)


def table(rated, name, noise, seed):
    generator = np.random.default_rng(seed)
    return ScoreTable(name, {i.item_id: i.rating + generator.normal(0, noise) for i in rated.items})


def test_scores_of_records_by_field_and_of_tables_by_column(tmp_path):
    path = jsonl(tmp_path / "dyneval.files.jsonl", [record("a"), record("b", 4.5)])
    assert read_scores(path).by_id == {"a": 3.0, "b": 4.5}
    assert read_scores(path, "t2ia").by_id == {"a": 4.0, "b": 4.0}
    with pytest.raises(DataFileError, match=r"dyneval\.files\.jsonl: .*a, row 1: has no soft\.overall; choose"):
        read_scores(path, "soft.overall")
    soft = record("a", soft={"t2ia": 1.5, "iqa": 2.5, "overall": 2.0})
    assert read_scores(jsonl(tmp_path / "soft.jsonl", [soft]), "soft.t2ia").by_id == {"a": 1.5}
    (tmp_path / "clip.csv").write_text("image,score\nm0/1.png,0.31\nm0/2.png,\n")
    found = read_scores(tmp_path / "clip.csv", name="CLIPScore")
    assert (found.name, found.by_image["m0/1.png"]) == ("CLIPScore", 0.31)
    assert math.isnan(found.by_image["m0/2.png"]), "no score is no zero"
    (tmp_path / "vqa.csv").write_text("id,vqascore\nx,0.5\n")
    assert read_scores(tmp_path / "vqa.csv", "vqascore").by_id == {"x": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no scores"),
        ("id,value\nx,1\n", "x, row 1: has no column 'score' or 'overall', only id, value"),
        ("name,score\nx,1\n", "row 1: names no image; expected one of the columns pair_id, item_id"),
        ("id,score\nx,high\n", "x, row 1: score: expected a number, found 'high'"),
    ],
)
def test_tables_that_cannot_be_used_say_what_is_missing(tmp_path, content, message):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataFileError, match=message):
        read_scores(tmp_path / "x.csv")


def test_scores_that_differ_for_one_id_do_not_count_and_equal_ones_count_once(tmp_path):
    records = [record("p1"), record("p2"), record("p1"), record("p3"), record("p4", 4.0), record("p4", 2.0)]
    found = read_scores(jsonl(tmp_path / "a.jsonl", records))
    assert (found.by_id, found.repeated) == ({"p1": 3.0, "p2": 3.0, "p3": 3.0}, 1)
    assert [(reject.key, reject.row) for reject in found.rejects] == [("p4", 5), ("p4", 6)]
    found = scores_of(tmp_path, "image,score\na.png,1\nb.png,2\na.png,3\nc.png,2\nc.png,2.0\n")
    assert (found.by_image, found.repeated, [reject.row for reject in found.rejects]) == (
        {"b.png": 2, "c.png": 2},
        1,
        [1, 3],
    )


@pytest.mark.parametrize(
    ("bad", "key", "said"),
    [
        ("b.png,high", "b.png", "score: expected a number, found 'high'"),
        ("b.png,inf", "b.png", "score: inf is no number that can be compared"),
        ("b.png,-1e999", "b.png", "score: -inf is no number that can be compared"),
        (",3", "", "names no image; expected one of the columns pair_id"),
    ],
)
def test_a_row_that_is_no_score_is_left_out_and_told(tmp_path, bad, key, said):
    found = scores_of(tmp_path, f"image,score\na.png,1\n{bad}\nc.png,nan\nd.png,\n")
    assert found.by_image["a.png"] == 1 and all(math.isnan(found.by_image[name]) for name in ("c.png", "d.png"))
    ((file, name, row, reason),) = found.rejects
    assert (file, name, row) == ("s.csv", key, 2) and reason.startswith(said)


def test_a_record_off_the_scale_is_left_out_and_told(tmp_path):
    wrong = record("p2") | {"overall": 7.0}
    found = read_scores(jsonl(tmp_path / "a.jsonl", [record("p1"), wrong, {"id": "p3", "scores": 2}, record("p4")]))
    assert found.by_id == {"p1": 3.0, "p4": 3.0}
    assert [(reject.key, reject.row) for reject in found.rejects] == [("p2", 2), ("p3", 3)]
    assert "overall" in found.rejects[0].reason and "has no column" in found.rejects[1].reason


def test_mixed_evaluators_are_refused(tmp_path):
    with pytest.raises(DataFileError, match="mixes scores of model DynEval-4B and DynEval-2B"):
        read_scores(jsonl(tmp_path / "b.jsonl", [record("p1"), record("p2", model="DynEval-2B")]))
    with pytest.raises(DataFileError, match="mixes scores of template readme and release"):
        read_scores(jsonl(tmp_path / "c.jsonl", [record("p1"), record("p2", template="release")]))
    half, most = ({"mean": "arithmetic", "alpha": alpha, "beta": 1 - alpha} for alpha in (0.5, 0.75))
    with pytest.raises(DataFileError, match=r"mixes scores of alpha 0\.5 and 0\.75, which do not compare"):
        read_scores(jsonl(tmp_path / "d.jsonl", [record("p1", settings=half), record("p2", settings=most)]))
    rows = [
        {"pair_id": f"p{n}", "image": f"{n}.png", "score": n, "rival": "chat", "settings": {"instruction": str(n // 2)}}
        for n in range(3)
    ]
    with pytest.raises(DataFileError, match=r"mixes scores made with .*'0'.* and .*'1'"):
        read_scores(jsonl(tmp_path / "e.jsonl", rows))


def test_scores_meet_images_by_id_or_by_the_end_of_a_path():
    items = rated_set(4).items
    by_path = ScoreTable("x", by_image={f"/data/{item.image}": float(n) for n, item in enumerate(items)})
    assert align(items, by_path) == [0, 1, 2, 3]
    by_id = ScoreTable("x", by_id={items[1].item_id: 5.0, "unknown": 9.0})
    assert [math.isnan(value) for value in align(items, by_id)] == [True, False, True, True]
    doubled = ScoreTable("x", by_image={f"/a/{items[0].image}": 1.0, f"/b/{items[0].image}": 2.0})
    with pytest.raises(RatingError, match=r"two scores belong to the image m0/000.png"):
        align(items, doubled)


def own_ratings(tmp_path, rows, header="id,image,model,rating"):
    (tmp_path / "ann.csv").write_text("\n".join([header, *rows]))
    return load(generic.benchmark(), tmp_path / "ann.csv").items


def scores_of(tmp_path, content, name="s.csv"):
    (tmp_path / name).write_text(content)
    return read_scores(tmp_path / name)


def test_an_image_name_is_no_id_of_another_image(tmp_path):
    items = own_ratings(tmp_path, [f"{n},{n}.png,m,{n}" for n in range(1, 5)])
    backwards = "item_id,image,score\n1,4.png,4\n2,3.png,3\n3,2.png,2\n4,1.png,1\n"
    with pytest.raises(RatingError, match=r"s: the id '1' belongs to the image 1\.png, the path 4\.png to 4\.png"):
        align(items, scores_of(tmp_path, backwards))
    agreeing = scores_of(tmp_path, "item_id,image,score\n1,1.png,1\n2,/run/2.png,2\n99,3.png,3\n4,elsewhere.jpg,4\n")
    assert align(items, agreeing) == [1, 2, 3, 4]


def test_one_image_under_two_ids_is_refused(tmp_path):
    items = own_ratings(tmp_path, ["a.png,1", "b.png,2"], "image,rating")
    with pytest.raises(RatingError, match=r"s: two scores belong to the image a\.png"):
        align(items, scores_of(tmp_path, "id,image,score\n1,a.png,1\n2,b.png,2\n3,a.png,9\n"))
    with pytest.raises(DataFileError, match=r"s\.csv: 2 of 2 rows cannot be used: a\.png, row 1: occurs 2 times"):
        scores_of(tmp_path, "image,score\na.png,1\na.png,9\n")


def test_a_name_that_two_images_share_needs_ids(tmp_path):
    items = own_ratings(tmp_path, [f"{m}{n},{n}.png,{m},{n}" for m in "AB" for n in range(2)])
    with pytest.raises(RatingError, match=r"s: A/0\.png may be A0 and B0; give the scores the ids of the benchmark"):
        align(items, scores_of(tmp_path, "image,score\nA/0.png,1\n"))
    assert align(items, scores_of(tmp_path, "id,image,score\nB0,B/0.png,1\n"))[2] == 1


def test_ids_begin_at_0_and_names_may_have_backslashes(tmp_path):
    items = own_ratings(tmp_path, ["0,imgs\\a.png,m,1", "1,imgs\\b.png,m,2"])
    rows = [{"id": number, "score": number} for number in range(2)]
    assert [item.item_id for item in items] == ["0", "1"]
    assert align(items, scores_of(tmp_path, json.dumps(rows), "s.json")) == [0, 1]
    windows = "image,score\nC:\\run 1\\imgs\\a.png,5\n/home/imgs/b.png,6\n"
    assert align(items, scores_of(tmp_path, windows)) == [5, 6]


def test_the_column_asked_for_is_taken_where_there_is_one_called_score(tmp_path):
    (tmp_path / "s.csv").write_text("image,score,mine\na.png,1,2\n")
    assert read_scores(tmp_path / "s.csv", "mine").by_image == {"a.png": 2}
    assert read_scores(tmp_path / "s.csv").by_image == {"a.png": 1}
    with pytest.raises(DataFileError, match=r"a\.png, row 1: has no column 'score' or 'other'"):
        read_scores(tmp_path / "s.csv", "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,score,score\na.png,1,4\n", r"more than one column is called 'score'"),
        ("image,score\na.png,1,oops\n", r"s\.csv:2: row 1 has 3 cells, expected 2 \(image, score\)"),
        ('image,score\na.png,1\n"b.png,2\n', r"s\.csv:3: row 2: a quotation mark opens a cell"),
    ],
)
def test_tables_of_scores_that_can_be_read_two_ways_are_refused(tmp_path, content, message):
    with pytest.raises(DataFileError, match=message):
        scores_of(tmp_path, content)


def test_lines_joined_without_a_last_newline_are_all_read(tmp_path):
    rows = [{"image": f"{n}.png", "score": n} for n in range(3)]
    joined = "\n".join(map(json.dumps, rows))
    assert scores_of(tmp_path, joined, "s.jsonl").by_image == {"0.png": 0, "1.png": 1, "2.png": 2}


def test_evaluators_are_compared_and_published_figures_stay_apart(tmp_path):
    rated = rated_set()
    rated.unrated.append("m0/999")
    good, bad = table(rated, "good", 0.5, 1), table(rated, "bad", 3, 2)
    bad.by_id.popitem()
    found = compare(rated, [good, bad], resamples=200)
    assert found.evaluators[0].agreement.srcc.value > found.evaluators[1].agreement.srcc.value
    assert found.differences[0].difference.low > 0
    assert list(found.evaluators[0].categories) == ["count", "text"]
    shown = tables.agreement_table(found)
    assert [row[:3] for row in shown.rows] == [
        ["good", "measured", "60"],
        ["bad", "measured", "59"],
        ["DynEval-2B", "published", "800"],
        ["DynEval-4B", "published", "800"],
        ["FGA-BLIP2", "published", "800"],
    ]
    assert shown.rows[3][3] == ".8022"
    assert shown.notes == (
        "bad: no score for 1 of 60 rated images",
        "1 images of the benchmark have no rating",
    )
    written = shown.write(tmp_path, "agreement")
    assert [file.suffix for file in written] == [".csv", ".md", ".tex", ".html"]
    assert "| good" in (tmp_path / "agreement.md").read_text()
    assert r"\toprule" in (tmp_path / "agreement.tex").read_text()
    report = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert report["evaluators"][1]["missing"] == 1
    assert report["published"][1]["source"] == "DynEval, arXiv 2607.11199"
    assert len(tables.difference_table(found).rows) == 1
    assert len(tables.category_table(found).rows) == 2


def test_names_in_tables_cannot_leave_their_cells():
    rated = rated_set(8)
    hostile = table(rated, "<script>alert(1)</script> & 50_%", 1, 0)
    shown = tables.agreement_table(compare(rated, [hostile], resamples=0))
    assert "<script>" not in shown.render("html")
    assert r"\& 50\_\%" in shown.render("latex_booktabs")
    steering = tables.Table(["a\ue000b|c", "x"], [["one|two\nthree <b>\x1b[31m\u202e", "1"]], best=(1,))
    lines = steering.render("github").splitlines()
    assert len(lines) == 3 and r"one\|two three &lt;b>" in lines[2] and r"b\|c" in lines[0]
    for text in (*map(steering.render, ("simple", "github", "html")), steering.to_latex()):
        assert not {"\x1b", "\u202e", "\ue000"} & set(text)
    assert steering.to_latex().count(r"\textbf{") == 1


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "＝"])
def test_a_spreadsheet_runs_no_cell_of_a_table(start):
    text = f"{start}HYPERLINK(1)"
    written = tables.Table(["model", text], [[text, "-0.5"], ["a-b", "−.05"]]).to_csv()
    heading, (first, number), (name, minus) = csv.reader(io.StringIO(written, newline=""))
    assert heading == ["model", "'" + text] and first == "'" + text
    assert (number, name, minus) == ("-0.5", "a-b", "−.05")
    assert tables.Table(["model"], [["a\r=b"], ["\n=b"]]).to_csv() == "model\na =b\n' =b\n", "a row is a line"


def test_an_evaluator_without_any_of_the_images_is_refused():
    rated = rated_set(4)
    with pytest.raises(ValueError, match=r"x: none of its scores belongs .* ids such as 'm0/000' .* such as 'other'"):
        compare(rated, [ScoreTable("x", {"other": 1.0})])
    with pytest.raises(ValueError, match="two evaluators are called 'x'"):
        compare(rated, [ScoreTable("x"), ScoreTable("x")])


def test_a_constant_evaluator_is_explained_in_the_table():
    rated = rated_set(8)
    constant = ScoreTable("flat", {item.item_id: 3.0 for item in rated.items})
    shown = tables.agreement_table(compare(rated, [constant], resamples=0))
    assert shown.rows[0][3:] == ["–", "–", "–", "–", "–"]
    assert shown.notes == ("flat: the evaluator gives every image the same score, 3",)


ALIASES = ("Stable Diffusion 3.5 Large", "FIBO")


def test_published_figures_cover_eleven_benchmarks_and_36_models():
    assert len({row.benchmark for row in published.agreements()} & set(BENCHMARKS)) == 11
    models = published.models()
    assert (len(models), [sum(m.tier == tier for m in models) for tier in (1, 2, 3)]) == (36, [7, 19, 10])
    assert len(published.dimensions()) == 9
    assert sum(map(len, published.dimensions().values())) == 42
    for name in (
        "FLUX.2 [klein]",
        "flux2-klein",
        "PixArt-α",
        "pixart_sigma",
        "sd2-1",
        "Stable Diffusion v2.1",
        *ALIASES,
    ):
        assert published.find_model(name), name
    assert published.find_model("my-own-model") is None


def test_numbers_are_written_as_in_papers():
    assert [tables.number(value) for value in (0.79321, -0.05, 1.0, -0.00001)] == [".7932", "−.0500", "1.0000", ".0000"]
    assert [tables.number(0.3, 0), tables.number(14.2, 0)] == ["0", "14"]
    assert [tables.p_value(value) for value in (None, 0.0004, 0.0461)] == ["–", "< .001", ".046"]


def test_the_skills_of_a_board_are_those_that_step_1_assigns():
    text = files("dyneval.prompts").joinpath("data", "categories.toml").read_text("utf-8")
    assigned = {dimension: set(entries) for dimension, entries in tomllib.loads(text)["dimensions"].items()}
    assert {dimension: set(names) for dimension, names in published.dimensions().items()} == assigned


def test_latex_names_booktabs_sets_the_best_in_bold_and_compiles(tmp_path):
    hostile = r"a_b & 50% {x} \input{/etc/passwd} $ # ~ ^ σ α Λ"
    rows = [[hostile, "−.5000 [−.6, −.4]", "2.00 ± 0.10"], ["sana", ".2500", "–"], ["flux", ".2500 [.1, .3]", "1.00"]]
    tables.Table(["model", "SRCC", "mean ± sd"], rows, best=(1, 2)).write(tmp_path, "board")
    text = (tmp_path / "board.tex").read_text("utf-8")
    assert text.startswith("% \\usepackage{booktabs}\n") and not set("−±–σ") & set(text)
    assert [line.count(r"\textbf{") for line in text.splitlines() if "&" in line] == [0, 1, 1, 1]
    assert r"\input" not in text.replace(r"\textbackslash{}input", "")
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: apt-get install texlive-latex-recommended)")
    (tmp_path / "page.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{board.tex}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (tmp_path / "page.pdf").exists(), done.stdout[-2000:]


NFC, NFD = "é{}.png", "e\u0301{}.png"


@pytest.mark.parametrize(
    ("rated", "scored"),
    [
        (NFC, NFD),
        ("{}.PNG", "{}.png"),
        ("Imgs/{}.png", "imgs/{}.PNG"),
        ("my imgs/{}.png", "https://host/my%20imgs/{}.png?size=1#top"),
        ("/data/imgs/{}.png", "imgs/{}.png"),
        ("imgs/{}.png", "/data/imgs/{}.png"),
        ("D:\\imgs\\{}.png", "imgs/{}.png"),
        ("imgs/{}.png", "imgs/{}"),
        ("imgs/{}", "{}.png"),
        (" {}.png ", "{}.png\t"),
    ],
)
def test_image_names_as_other_programs_write_them(tmp_path, rated, scored):
    items = own_ratings(tmp_path, [f"{rated.format(n)},{n}" for n in range(1, 5)], "image,rating")
    assert align(
        items, scores_of(tmp_path, "image,score\n" + "".join(f"{scored.format(n)},{n}\n" for n in range(1, 5)))
    ) == [1, 2, 3, 4]


def test_an_id_of_very_many_noughts_takes_no_time():
    assert alike_id("0" * 300_000 + "x") == "0" * 300_000 + "x" and alike_id("000") == alike_id("0.0") == "0"


@pytest.mark.parametrize("ids", ["007 008", "7 8", "7.0 8.0", " 7 8 "])
@pytest.mark.parametrize("own", ["007 008", "7 8"])
def test_ids_as_numbers_and_as_text(tmp_path, ids, own):
    items = own_ratings(tmp_path, [f"{key},{key}x.png,m,1" for key in own.split()])
    assert align(
        items, scores_of(tmp_path, "id,score\n" + "".join(f"{key},{n}\n" for n, key in enumerate(ids.split())))
    ) == [0, 1]


def test_a_name_to_the_letter_comes_first_and_an_unclear_one_is_refused(tmp_path):
    items = own_ratings(tmp_path, ["7,A.png,m,1", "007,a.png,m,2", f"é,{NFC.format(1)},m,3", f"f,{NFD.format(1)},m,4"])
    assert align(
        items, scores_of(tmp_path, f"image,score\nA.png,1\na.png,2\n{NFC.format(1)},3\n{NFD.format(1)},4\n")
    ) == [1, 2, 3, 4]
    assert align(items, scores_of(tmp_path, "id,score\n7,1\n007,2\n"))[:2] == [1, 2]
    with pytest.raises(RatingError, match=r"A.PNG may be 7 and 007"):
        align(items, scores_of(tmp_path, "image,score\nA.PNG,1\n"))
    with pytest.raises(RatingError, match="07 may be 7 and 007"):
        align(items, scores_of(tmp_path, "id,score\n07,1\n"))
    other = own_ratings(tmp_path, ["1,a.png,m,1"])
    assert math.isnan(align(other, scores_of(tmp_path, "image,score\na.jpg,1\n"))[0]), "another file"


def test_ids_that_say_nothing_are_none(tmp_path):
    items = own_ratings(tmp_path, [f"nan,{n}.png,m,{n}" for n in range(1, 4)])
    assert [item.item_id for item in items] == ["1.png", "2.png", "3.png"]
    for nothing in ("nan", "None", "<NA>", ""):
        rows = "".join(f"{nothing},{n}.png,{n}\n" for n in range(1, 4))
        assert align(items, scores_of(tmp_path, f"id,image,score\n{rows}")) == [1, 2, 3]


def test_row_numbers_never_beat_image_names(tmp_path):
    items = own_ratings(tmp_path, [f"{n},{n}.png,m,{n}" for n in range(1, 4)])
    more = "".join(f"{row},{n}.png,{n}\n" for row, n in enumerate((9, 1, 8, 2, 3), 1))
    with pytest.raises(
        RatingError, match=r"id '1' belongs to the image 1.png, but its row names 9.png, .* row numbers"
    ):
        align(items, scores_of(tmp_path, f"id,image,score\n{more}"))
    with pytest.raises(RatingError, match=r"but its row names x0.png"):
        align(items, scores_of(tmp_path, "id,image,score\n" + "".join(f"{n + 1},x{n}.png,{n}\n" for n in range(3))))
    named = "".join(f"{4 - n},renamed{n}.png,{n}\n" for n in range(1, 4))
    assert align(items, scores_of(tmp_path, f"id,image,score\n{named}")) == [3, 2, 1], "ids of the benchmark"


def test_columns_of_a_row_that_contradict_each_other_are_told(tmp_path):
    rows = [
        "p1,p2,a.png,a.png,1",
        "p2,p2,b.png,/x/B.PNG,2",
        "p3,p3,c.png,d.png,3",
        *(f"q{n},,{n}.png,,4" for n in range(4)),
    ]
    found = scores_of(tmp_path, "\n".join(["pair_id,item_id,image,img_path,score", *rows]))
    assert [reject.reason for reject in found.rejects] == [
        "pair_id p1 and item_id p2 contradict each other",
        "image c.png and img_path d.png contradict each other",
    ]


def test_scores_of_another_edition_are_told(tmp_path):
    rated = rated_set(12)
    rows = [
        {"pair_id": item.item_id, "image": item.image, "score": n, "prompt": f"{item.prompt if n < 9 else 'a dog'}  "}
        for n, item in enumerate(rated.items)
    ]
    found = compare(rated, [read_scores(jsonl(tmp_path / "x.jsonl", rows))], resamples=0)
    assert found.to_dict()["evaluators"][0]["of_other_prompts"] == 3
    said = "x: 3 images are scored for another prompt than they were rated for, such as m1/009"
    assert any(note.startswith(said) for note in tables.agreement_table(found).notes)


def test_a_prompt_that_pandas_had_none_for_is_none(tmp_path):
    items = own_ratings(
        tmp_path,
        [f"{n}.png,{word},{n}" for n, word in enumerate(("nan", "None", "a cat", "a  cat "))],
        "image,prompt,rating",
    )
    assert [item.cluster for item in items] == ["0.png", "1.png", "a cat", "a cat"]
