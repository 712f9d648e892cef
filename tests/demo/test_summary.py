"""The demo's figures: right on scores of known agreement, undefined where they must be, and a page that shows them."""

from pathlib import Path

import pytest

from dyneval.demo import summary
from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts
from dyneval.demo.truth import truth_path
from dyneval.files.atomic import write_json
from dyneval.files.jsonl import read_jsonl, to_line
from dyneval.hashing import file_sha256
from dyneval.records import pair_id, prompt_id

PROMPTS = [text for text in demo_prompts(40, seed=3) if len(text) >= MIN_CHARACTERS][:16]


def score_row(pair, t2ia, iqa, reasoning="It shows one."):
    soft = {"t2ia": t2ia, "iqa": iqa, "overall": (t2ia + iqa) / 2}
    asked = {"question": "Is it?", "target_answer": "yes", "answer": "yes", "reasoning": reasoning}
    return {
        "pair_id": pair["pair_id"],
        "prompt": pair["prompt"],
        "image": pair["file_name"],
        "model": "student",
        "template": "readme",
        **{"t2ia": 4.0, "iqa": 4.0, "overall": 4.0},
        "normalised": dict.fromkeys(soft, 0.75),
        "soft": soft,
        "t2ia_questions": [asked | {"score": 4}],
        "iqa_questions": [asked | {"score": 2}],
        "scene_graph": {"nodes": [{"id": "a", "label": "a", "attributes": []}], "edges": []},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run whose student knows the truth, and whose base says the same of everything."""
    output = tmp_path_factory.mktemp("run")
    pairs, scores = [], {"trained": [], "baseline": [], "shuffled": []}
    for text in PROMPTS:
        for slug in PAINTERS:
            image, truth = draw(slug, text, 0, 64)
            name = pair_id(prompt_id(text), slug)
            path = output / "gendb" / slug / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            truth_path(path).write_bytes(truth.encode())
            pair = {
                "pair_id": name,
                "file_name": f"{slug}/{name}.png",
                "prompt_id": prompt_id(text),
                "prompt": text,
                "categories": [],
                "generation_model": slug,
                "width": 64,
                "height": 64,
                "settings": {},
                "sha256": file_sha256(path),
            }
            pairs.append(pair)
            scores["trained"].append(score_row(pair, truth.truth_t2ia, truth.truth_iqa, "<b>bold</b> & more"))
            scores["baseline"].append(score_row(pair, 3.0, 3.0))
            scores["shuffled"].append(score_row(pair, 6 - truth.truth_t2ia, 6 - truth.truth_iqa))
    for path, rows in {"instruct/heldout.jsonl": pairs, **{f"scores/{k}.jsonl": v for k, v in scores.items()}}.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(b"".join(map(to_line, rows)))
    files = {
        "prompts/summary.json": {"rows_read": 20, "kept": 16, "dropped": {"short": 4}},
        "gendb/summary.json": {"made": 48, "existing": 0, "rejected_prompts": 0},
        "annotations/annotate.summary.json": {"pairs_annotated": 48, "workflows": {"a": {"rejected": {"bad": 1}}}},
        "instruct/summary.json": {"dropped": {"delta": 3}, "samples": {"t2ia": 40, "iqa": 60}, "rejected": {}},
    }
    for stage in summary.STAGES.values():
        files[f"train/{stage}/training_log.json"] = {"steps": 2, "loss_first": 2.0, "loss_last": 1.0}
        rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "train_runtime": 3.0}]
        (output / "train" / stage).mkdir(parents=True)
        (output / "train" / stage / "train_log.jsonl").write_bytes(b"".join(map(to_line, rows)))
    for name, content in files.items():
        write_json(output / name, content)
    return output


def test_figures(run):
    found = summary.summarise(run, seconds=100)
    assert found["n"] == found["untrained"]["n"] == found["shuffled"]["n"] == 48
    assert set(found["srcc"].values()) == {1.0}
    assert set(found["shuffled"]["srcc"].values()) == {-1.0}
    assert set(found["untrained"]["srcc"].values()) == {None}, "of constant scores no correlation is defined"
    assert found["seconds"] == 100
    assert 0 < found["unseen"]["n"] < 48
    assert [row["model"] for row in found["models"]] == ["demo-painter", "demo-sketcher", "demo-doodler"]
    assert all(row["score"] == pytest.approx(row["truth"], abs=1e-3) for row in found["models"])
    assert found["same_prompt"]["pairs"] == found["same_prompt"]["right"] > 5


def test_check_wants_a_student_that_learned_more_than_the_base_knew(run):
    found = summary.summarise(run)
    assert summary.check(found) is None
    assert "only 39 held-out pairs" in summary.check(found | {"n": 39})
    poor = found | {"srcc": dict.fromkeys(summary.SCORES, 0.49)}
    assert "correlate 0.49 with the truth" in summary.check(poor)
    knew = {"srcc": dict.fromkeys(summary.SCORES, 0.8)}
    assert "0.25 more than the base's" in summary.check(found | {"untrained": knew})
    assert summary.check(found | {"srcc": dict.fromkeys(summary.SCORES)}) is not None


def test_the_control_shows_every_pair_the_picture_of_another_prompt(run):
    path = summary.shuffle(run)
    first = path.read_bytes()
    pairs = {row["pair_id"]: row for row in read_jsonl(run / "instruct" / "heldout.jsonl")}
    owner = {row["file_name"]: row["prompt_id"] for row in pairs.values()}
    shuffled = list(read_jsonl(path))
    assert [row["pair_id"] for row in shuffled] == list(pairs)
    assert sorted(row["file_name"] for row in shuffled) == sorted(owner)
    assert all(owner[row["file_name"]] != row["prompt_id"] for row in shuffled)
    true = {
        row["file_name"]: summary.true_scores(summary._truth(run, summary.PairRecord.from_dict(row)))
        for row in pairs.values()
    }
    for score in summary.SCORES:
        mine = [true[pairs[row["pair_id"]]["file_name"]][score] for row in shuffled]
        assert abs(summary.spearman(mine, [true[row["file_name"]][score] for row in shuffled])) < 0.1
    assert summary.shuffle(run).read_bytes() == first


def test_the_page_shows_it_all_and_runs_nothing(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["summary", "show", "--output", str(run), "--seconds", "9", "--check"])
    assert summary.main() == 0
    said = capsys.readouterr().out
    assert "1.00 (1.00 to 1.00)" in said and "dyneval serve --checkpoint" in said and str(run / "summary.html") in said
    page = (run / "summary.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in page and "<b>bold" not in page
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert page.count("<circle") == 48 and page.count("<polyline") == 2 and page.count("data:image/png;base64,") == 2
    assert (run / "summary.md").read_text().startswith("# DynEval demo\n")


def test_a_step_that_left_nothing_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["summary", "show", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"prompts/summary\.json.*did all five steps run"):
        summary.main()
    empty = Path(run / "scores" / "empty.jsonl")
    empty.write_text("")
    with pytest.raises(summary.DataFileError, match=r"empty\.jsonl: holds no score"):
        list(summary.read_scored(run, "empty"))
