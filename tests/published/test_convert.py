"""The public data set comes in as it is, byte for byte and each of its annotations on its own, and goes out again."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from dyneval.errors import DataFileError
from dyneval.files.atomic import write_json
from dyneval.files.jsonl import read_jsonl
from dyneval.instruct.builder import build
from dyneval.instruct.chunks import BuildConfig
from dyneval.instruct.curation import Curation
from dyneval.published.convert import ImportConfig, export_published, import_published
from dyneval.published.mapping import PairMaker, add_pairs
from tests import processes
from tests.instruct.conftest import rows_of

from .conftest import IMAGES, published_samples

DOOR = Path(__file__).parents[2] / "Distill Annotations" / "convert.py"
WORKFLOWS = ("t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers")
ALL = Curation(delta=dict.fromkeys((1, 2, 3), 6.0), untiered=6.0, heldout=0.0)


def take(public, **options):
    """Import, and return the counts and the folder of annotations."""
    output = public.root / "ours"
    return import_published(ImportConfig(annotations_file=public.close(), output=output, **options)), output


def built(metadata, annotations, curation=ALL, **options):
    """Build in the published wording; samples as `published_samples` has them, and the summary."""
    output = annotations / "instruct"
    wording = {"template": "release", "reply_form": "release", **options}
    config = BuildConfig(metadata=metadata, annotations=annotations, output=output, curation=curation, **wording)
    summary = build(config)
    names = {"t2ia": "t2ia_evaluation", "iqa": "iqa_evaluation"}
    found = {}
    for stage in names:
        for sample in json.loads((output / f"dynevalinstruct_{stage}.json").read_text("utf-8")):
            key, _, task = sample["id"].rpartition(":")
            human, gpt = (turn["value"] for turn in sample["conversations"])
            name = names[stage] if task == "evaluation" else f"{task}_questions"
            found[f"{key.rpartition(':')[2]}_{name}"] = (human, gpt, sample.get("image"))
    return found, summary


def rejects(folder, name):
    path = folder / f"{name}.rejects.jsonl"
    return list(read_jsonl(path)) if path.exists() else []


def test_good_pairs_give_the_published_samples_byte_for_byte(public):
    public.add(1)
    public.add(
        2, graph=[{"label": "cat", "id": 7, "box": [0.5, 1e-7, 2.0, 10**17]}, "tree"], prompt=' a "quoted\\" cat '
    )
    public.add(
        3, graph={"edges": [], "nodes": [{"label": "a\tb", "id": 1, "attributes": {"colour": "red"}, "more": None}]}
    )
    public.add(4, scores=(5, 2, 3, 4), text_id="000", generation_model="unknown")
    counts, ours = take(public)
    assert counts["pairs"] == {"added": 4, "rejected": 0, "untiered": 4}
    assert counts["iqa_answers"] == {"added": 4, "rejected": 0, "without_scores": 4}
    samples, summary = built(public.root / "metadata.jsonl", ours)
    expected = published_samples(public.mapping)
    assert samples.pop("000_t2ia_questions") == expected.pop("D250K-000004_t2ia_questions")
    assert samples == expected and len(samples) == 15
    assert summary["rejected"] == dict.fromkeys(summary["rejected"], 0)
    assert {row["generation_model"] for row in read_jsonl(public.root / "metadata.jsonl")} == {"unknown"}
    assert not list(ours.glob("*.rejects.jsonl"))


@pytest.mark.parametrize(
    ("workflow", "change", "reason"),
    [
        ("iqa_questions", lambda value: {**value, "scene_graph": {}}, "holds no scene graph"),
        ("iqa_questions", lambda value: {**value, "scene_graph": {"raw_response": "oh"}}, "holds no scene graph"),
        ("iqa_questions", lambda value: {**value, "scene_graph": None}, "holds no scene graph"),
        ("iqa_questions", lambda value: {**value, "questions": []}, "questions: expected a list"),
        ("t2ia_questions", lambda value: {"questions": value}, "questions: expected a list"),
        ("t2ia_questions", lambda value: [{"question": "Is it?", "answer": "perhaps"}], "answer"),
        ("t2ia_answers", lambda value: {**value, "answers": []}, "answers: expected a list"),
        ("t2ia_answers", lambda value: {**value, "pair_id": "other"}, "belongs to 'other'"),
        ("t2ia_answers", lambda value: [], "expected a JSON object"),
        ("iqa_answers", lambda value: {**value, "score": 0}, "score: Expected float >= 1.0, found 0"),
        ("iqa_answers", lambda value: {**value, "item_scores": [5]}, "a whole score for each of the 3 answers"),
    ],
)
def test_a_bad_file_costs_its_own_annotation_alone(public, workflow, change, reason):
    name = public.add(1)
    public.change(workflow, name, change)
    counts, ours = take(public)
    (reject,) = rejects(ours, workflow)
    assert reject["pair_id"] == name and reject["workflow"] == workflow
    assert reason in reject["reason"] and f"{name}.json" in reject["reason"]
    assert {one: counts[one]["added"] for one in WORKFLOWS} == {one: int(one != workflow) for one in WORKFLOWS}
    samples, summary = built(public.root / "metadata.jsonl", ours)
    expected = published_samples(public.mapping) if workflow == "iqa_answers" else None
    stems = {"t2ia_answers": "t2ia_evaluation", "iqa_answers": "iqa_evaluation"}
    assert f"{name}_{stems.get(workflow, workflow)}" not in samples and len(samples) == 3
    assert expected is None or all(samples[key] == expected[key] for key in samples)
    assert summary["rejected"]["missing_annotation"] == 1 and summary["kept"] == 1
    assert summary["annotations"][workflow]["missing_annotation"] == 1


@pytest.mark.parametrize("workflow", ["t2ia_answers", "iqa_answers"])
@pytest.mark.parametrize(
    "spoilt",
    [
        {"score": 0, "reasoning": ""},
        {"reasoning": "Failed to parse JSON reasoning."},
        {"reasoning": "Failed to parse JSON answers.", "answer": "", "correct": None},
        {"score": 0},
    ],
)
def test_answers_that_the_teacher_spoilt_are_no_training_data(public, workflow, spoilt):
    name = public.add(1)
    public.change(
        workflow, name, lambda value: {**value, "answers": [*value["answers"][:-1], value["answers"][-1] | spoilt]}
    )
    counts, ours = take(public)
    assert counts[workflow] == {"added": 0, "rejected": 1} and len(rejects(ours, workflow)) == 1
    assert sum(counts[one]["added"] for one in WORKFLOWS) == 3


def test_images_of_one_prompt_keep_their_own_questions_and_stay_together(public):
    for number in range(1, 41):
        text = number % 10
        shared = number <= 10 or number > 30  # the fourth image of each prompt has the questions of the first
        public.add(number, prompt=f"a cat, number {text}", text_id=f"{text:03d}", text=f"p{text}" if shared else "")
    _, ours = take(public)
    pairs = {row["pair_id"]: row for row in read_jsonl(public.root / "metadata.jsonl")}
    assert len({row["prompt_id"] for row in pairs.values()}) == 30
    assert pairs["D250K-000031"]["prompt_id"] == pairs["D250K-000001"]["prompt_id"] == "001"
    samples, summary = built(public.root / "metadata.jsonl", ours)
    expected = published_samples(public.mapping)
    assert {key: value for key, value in samples.items() if value[2]} == {k: v for k, v in expected.items() if v[2]}
    questions = {value for value in samples.values() if value[2] is None}
    assert questions == {value for value in expected.values() if value[2] is None} and len(questions) == 30
    half = Curation(untiered=6.0, heldout=0.5)
    _, summary = built(public.root / "metadata.jsonl", ours, half)
    heldout = {row["prompt"] for row in read_jsonl(ours / "instruct" / "heldout.jsonl")}
    trained = {value for value in built(public.root / "metadata.jsonl", ours, half)[0] if value.startswith("D250K")}
    assert 0 < summary["heldout_pairs"] < 40
    assert not heldout & {pairs[name.split("_")[0]]["prompt"] for name in trained}


def test_an_import_that_kept_nothing_fails_and_blocks_nothing(public):
    name = public.add(1)
    (public.root / IMAGES).rename(public.root / "elsewhere")
    with pytest.raises(DataFileError, match=r"nothing could be imported.*no such image file"):
        take(public)
    assert not (public.root / "metadata.jsonl").exists()
    (public.root / "elsewhere").rename(public.root / IMAGES)
    counts, ours = take(public)
    assert counts["pairs"]["added"] == 1 and not (ours / "pairs.rejects.jsonl").exists()
    for workflow in WORKFLOWS:
        public.file(workflow, name).unlink()
    again, _ = take(public)
    assert sum(sum(found.values()) for found in again.values()) == 0, "what is there is passed over"


def test_a_pair_without_files_is_counted_with_what_the_teacher_script_said(public):
    name, other = public.add(1), public.add(2)
    for workflow in WORKFLOWS:
        public.file(workflow, other).unlink()
    public.file("iqa_answers", other).with_suffix(".error.txt").write_text("CUDA out of memory")
    counts, ours = take(public)
    assert all(
        counts[workflow] == {"added": 1, "rejected": 0, "missing": 1} | extra(workflow) for workflow in WORKFLOWS
    )
    assert "the teacher failed: CUDA out of memory" in rejects(ours, "iqa_answers")[0]["reason"]
    _, summary = built(public.root / "metadata.jsonl", ours)
    assert summary["rejected"]["not_annotated"] == 1 and summary["kept"] == 1 and name != other


def extra(workflow):
    return {"without_scores": 1} if workflow == "iqa_answers" else {}


def test_entries_that_are_no_pairs_are_rejected_by_name(public, tmp_path):
    public.add(1)
    public.add(2, questions_file="../secret.json", response_file="model-responses/answers/D250K-000002.json")
    public.rows += [
        {"pair_id": "D3", "prompt": " "},
        {"pair_id": "D250K-000001", "prompt": "again"},
        {"pair_id": "../D5", "prompt": "a cat", "image_path": "x.png"},
        {"pair_id": "D6", "prompt": "a cat", "image_path": "../../etc/passwd"},
        {"pair_id": "D7", "prompt": "a cat"},
        {"pair_id": "D8", "prompt": ["a cat"]},
        "no object",
    ]
    (tmp_path / "secret.json").write_text('[{"question": "Is it secret?", "answer": "yes"}]')
    counts, ours = take(public)
    reasons = {row["pair_id"]: row["reason"] for row in rejects(ours, "pairs")}
    assert counts["pairs"] == {"added": 2, "rejected": 7, "untiered": 2}
    for name, reason in {
        "D3": "prompt missing",
        "D250K-000001": "twice",
        "../D5": "expected letters",
        "D6": "leads out of",
        "D7": "image_path missing",
        "D8": "expected a text, found list",
        "entry 8": "expected an object",
    }.items():
        assert reason in reasons[name]
    assert "leads out of" in rejects(ours, "t2ia_questions")[0]["reason"]


def test_folders_are_flags_and_tiers_come_from_the_table(public, tmp_path):
    name = public.add(1, generation_model="Model One")
    public.close()
    (public.root / "iqa_outputs").rename(tmp_path / "graphs")
    (public.root / "iqa_answers").rename(tmp_path / "verdicts")
    (tmp_path / "mine.toml").write_text('[one]\nname = "Model One"\ntier = 2\n')
    (public.root / IMAGES).rename(tmp_path / IMAGES)
    flags = ["--annotations-file", public.mapping, "--output", tmp_path / "ours", "--models", tmp_path / "mine.toml"]
    flags += ["--iqa-outputs-dir", tmp_path / "graphs", "--iqa-answers-dir", tmp_path / "verdicts"]
    done = door("import", *flags, "--images", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iqa_questions"] == {"added": 1, "rejected": 0}
    (pair,) = read_jsonl(tmp_path / "metadata.jsonl")
    assert (pair["tier"], pair["pair_id"]) == (2, name)
    (tmp_path / "metadata.jsonl").unlink()
    deep = door("import", *flags, "--images", tmp_path / IMAGES)
    assert deep.returncode == 1 and f"the image folder is {tmp_path}" in deep.stderr
    wrong = door("import", *flags, "--t2ia-answers-dir", tmp_path / "none")
    assert wrong.returncode == 1 and "none: no such folder" in wrong.stderr


def door(*arguments):
    return processes.run([sys.executable, DOOR, *map(str, arguments)], capture_output=True, text=True)


def test_a_pair_known_under_a_shared_prompt_gets_its_own_when_its_questions_arrive(public):
    public.add(1, prompt="a cat", text_id="0")
    public.add(2, prompt="a cat", text_id="0")
    assert add_pairs(public.close(), PairMaker(public.root, {})) == (2, 0)
    _, ours = take(public)
    samples, summary = built(public.root / "metadata.jsonl", ours)
    assert len(samples) == 8 and summary["kept"] == 2
    assert [row["prompt_id"] for row in read_jsonl(public.root / "metadata.jsonl")] == ["0", "0:D250K-000002"]


@pytest.fixture
def ours(tmp_path):
    """Metadata with images and a folder of our own annotations: four prompts, two images each."""
    files = {}
    for number in range(4):
        for model, scores in (("flux1-dev", (2, 5, 4)), ("sana", (3, 3, 4))):
            for name, row in rows_of(f"a red cat, number {number}", model, 1, (4, 1 + number), scores).items():
                files.setdefault(name, {})[row.get("pair_id") or row["prompt_id"]] = row
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.values()))
    for row in files["metadata"].values():
        Image.new("RGB", (64, 64)).save(tmp_path / row["file_name"])
    return tmp_path


def test_what_goes_out_is_read_by_the_published_rules_to_the_same_samples(ours, tmp_path):
    counts = export_published(ours / "metadata.jsonl", ours, tmp_path / "out")
    assert counts["pairs"]["written"] == counts["iqa_answers"]["written"] == 8
    samples, _ = built(ours / "metadata.jsonl", ours)
    expected = published_samples(tmp_path / "out" / "DYNEVAL-250K-PROMPTS.json")
    own = {key: value for key, value in samples.items() if value[2]}
    assert own == {key: value for key, value in expected.items() if value[2]} and len(own) == 24
    assert {v for v in samples.values() if not v[2]} == {v for v in expected.values() if not v[2]}


def test_there_and_back_again(ours, tmp_path):
    export_published(ours / "metadata.jsonl", ours, tmp_path / "out")
    back = ImportConfig(
        annotations_file=tmp_path / "out" / "DYNEVAL-250K-PROMPTS.json", output=tmp_path / "back", images=ours
    )
    assert import_published(back)["pairs"] == {"added": 0, "rejected": 0}
    for name in WORKFLOWS:
        before, after = (list(read_jsonl(folder / f"{name}.jsonl")) for folder in (ours, tmp_path / "back"))
        for row in (*before, *after):
            row.pop("provenance")
            row.pop("raw_response", None)
            for question in row.get("questions", ()):
                question.pop("kind", None)
        assert before == after


def test_pairs_with_some_annotations_go_out_with_those(ours, tmp_path):
    first, second = [row["pair_id"] for row in read_jsonl(ours / "metadata.jsonl")][:2]
    for name, gone in (("iqa_answers", first), ("iqa_questions", second)):
        rows = [row for row in read_jsonl(ours / f"{name}.jsonl") if row["pair_id"] != gone]
        (ours / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = export_published(ours / "metadata.jsonl", ours, tmp_path / "out")
    assert counts["iqa_answers"] == {"written": 7, "rejected": 0, "missing": 1}
    assert (tmp_path / "out" / "iqa_outputs" / f"{first}.json").exists()
    assert (tmp_path / "out" / "iqa_answers" / f"{second}.json").exists()


def test_nothing_to_export_is_an_error(ours, tmp_path):
    for name in WORKFLOWS:
        (ours / f"{name}.jsonl").write_text("")
    done = door("export", "--metadata", ours / "metadata.jsonl", "--annotations", ours, "--output", tmp_path / "out")
    assert done.returncode == 1 and "nothing to export" in done.stderr and not (tmp_path / "out").exists()


def test_the_builder_names_the_import_where_it_meets_the_published_form(public):
    public.add(1)
    public.close()
    with pytest.raises(DataFileError, match=r"published form.*: dyneval published import --annotations-file .*250K"):
        built(public.root / "metadata.jsonl", public.root)


@pytest.mark.parametrize("value", [{"prompts": {}}, [], {"pairs": []}])
def test_a_file_that_is_no_mapping_says_what_one_is(tmp_path, value):
    write_json(tmp_path / "m.json", value)
    with pytest.raises(DataFileError, match="expected"):
        import_published(ImportConfig(annotations_file=tmp_path / "m.json", output=tmp_path / "ours"))


def test_the_readme_form_scores_published_quality_answers_by_whether_they_are_correct(public):
    good, unsure = public.add(1), public.add(2)
    public.change("iqa_answers", good, lambda value: {**value, "answers": value["answers"][:2]})
    public.change("iqa_questions", good, lambda value: {**value, "questions": value["questions"][:2]})
    _, ours = take(public)
    samples, summary = built(public.root / "metadata.jsonl", ours, reply_form="readme")
    scores = [answer["score"] for answer in json.loads(samples[f"{good}_iqa_evaluation"][1])["answers"]]
    assert scores == [5, 1]
    assert f"{unsure}_iqa_evaluation" not in samples and summary["annotations"]["iqa_answers"]["bad_annotation"] == 1
    (reason,) = [row["reason"] for row in read_jsonl(ours / "instruct" / "rejects.jsonl")]
    assert "--reply-form release can" in reason


def test_half_a_score_curates_the_pair(public):
    perfect, flawed = public.add(1, scores=(5, 5)), public.add(2, scores=(5, 4))
    for name in (perfect, flawed):
        public.file("iqa_answers", name).unlink()
    _, ours = take(public)
    samples, summary = built(public.root / "metadata.jsonl", ours, Curation(heldout=0.0))
    assert (summary["kept"], summary["dropped"]) == (1, {"score_not_below_delta": 1})
    assert summary["tiers"]["unknown"] == {"kept": 1, "score_not_below_delta": 1}
    assert {name.split("_")[0] for name in samples} == {flawed}
