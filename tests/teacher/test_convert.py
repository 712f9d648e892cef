import json

import pytest

from dyneval.instruct.builder import build
from dyneval.instruct.chunks import BuildConfig
from dyneval.instruct.curation import Curation
from dyneval.shards import Shard
from dyneval.storage import DataFileError, read_json, read_jsonl
from dyneval.teacher.convert import ImportConfig, export_published, import_published
from dyneval.teacher.merge import merge
from dyneval.teacher.prompts import WORKFLOWS
from dyneval.teacher.published import Entry, read_mapping

MODELS = "slug,name,tier\none,Model One,1\ntwo,Model Two,3\n"


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.csv").write_text(MODELS)
    return tmp_path / "models.csv"


@pytest.fixture
def annotated(run, gendb, chat_server, tmp_path):
    """Metadata and folder of pairs that a run has annotated."""
    metadata = gendb(prompts=4)
    run(metadata, tmp_path / "ours", chat_server())
    return metadata, tmp_path / "ours"


def content(folder):
    skipped = ("provenance", "kind")
    found = {}
    for name in WORKFLOWS:
        rows = [{k: v for k, v in row.items() if k not in skipped} for row in read_jsonl(folder / f"{name}.jsonl")]
        for question in (question for row in rows for question in row.get("questions", ())):
            question.pop("kind", None)
        found[name] = sorted(rows, key=json.dumps)
    return found


def test_there_and_back_again(annotated, models, tmp_path):
    metadata, ours = annotated
    assert export_published(metadata, ours, tmp_path / "published") == {"t2ia": 8, "iqa": 8, "incomplete": 0}
    config = ImportConfig(
        published=tmp_path / "published", images=metadata.parent, output=tmp_path / "back", models=models
    )
    counts = import_published(config)
    assert counts == {
        "t2ia_questions": 4,
        "t2ia_answers": 8,
        "iqa_questions": 8,
        "iqa_answers": 8,
        "iqa_scores_from_correct": 0,
    }
    assert content(tmp_path / "back") == content(ours)
    assert "t2ia_answers" not in import_published(config), "a second import adds nothing"


def test_published_files_have_every_published_field(annotated, tmp_path):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "published")
    for name in ("t2ia", "iqa"):
        mapping = read_json(tmp_path / "published" / f"{name}_mapping.json")["prompts"]
        assert len(mapping) == 8
        fields = "pair_id text_id prompt image_path questions_file response_file generation_model"
        assert list(mapping[0]) == fields.split()
        questions = read_json(tmp_path / "published" / mapping[0]["questions_file"])
        response = read_json(tmp_path / "published" / mapping[0]["response_file"])
        if name == "t2ia":
            assert list(questions[0]) == ["question", "answer"]
            assert list(response) == ["pair_id", "prompt", "answers", "raw_response"]
            assert list(response["answers"][0]) == ["question", "target_answer", "reasoning", "score"]
        else:
            assert list(questions) == ["pair_id", "prompt", "scene_graph", "questions"]
            assert list(response) == ["pair_id", "prompt", "answers", "score"]
            answer = ["question", "answer", "target_answer", "correct", "reasoning", "score"]
            assert list(response["answers"][0]) == answer


def test_metadata_is_made_from_mapping_images_and_models(annotated, models, tmp_path):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "published")
    before = {row["pair_id"]: row for row in read_jsonl(metadata)}
    metadata.unlink()
    next(metadata.parent.glob("*.png")).unlink()
    config = ImportConfig(
        published=tmp_path / "published", images=metadata.parent, output=tmp_path / "b", models=models
    )
    counts = import_published(config)
    rows = list(read_jsonl(metadata))
    assert counts["pairs"] == len(rows) == 7 and counts["rejected"] == 1
    for row in rows:
        assert row["tier"] == {"one": 1, "two": 3}[row["generation_model"]]
        assert all(row[name] == before[row["pair_id"]][name] for name in ("prompt", "prompt_id", "file_name", "width"))


def published_iqa(folder, change):
    """Change the first IQA response file and return its path."""
    entry = read_json(folder / "iqa_mapping.json")["prompts"][0]
    path = folder / entry["response_file"]
    value = read_json(path)
    path.write_text(json.dumps(change(value)))
    return entry["pair_id"]


def without_scores(value):
    for number, answer in enumerate(value["answers"]):
        del answer["score"]
        answer["correct"] = number != 1
    return value


def test_answers_with_correct_alone_count_as_five_and_one(annotated, models, tmp_path):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "p")
    name = published_iqa(tmp_path / "p", without_scores)
    counts = import_published(
        ImportConfig(published=tmp_path / "p", images=metadata.parent, output=tmp_path / "b", models=models)
    )
    assert counts["iqa_scores_from_correct"] == 1
    row = next(row for row in read_jsonl(tmp_path / "b" / "iqa_answers.jsonl") if row["pair_id"] == name)
    assert [answer["score"] for answer in row["answers"]] == [5, 1, 5, 5, 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: {**value, "score": 0}, "less than the minimum"),
        (lambda value: {**value, "answers": []}, "answers"),
        (lambda value: {**value, "pair_id": "other"}, "belongs to other"),
        (lambda value: {**value, "answers": [{**value["answers"][0], "score": None}]}, "score"),
        (lambda value: [], "expected a JSON object"),
    ],
)
def test_files_that_do_not_fit_are_rejected_by_name(annotated, models, tmp_path, change, reason):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "p")
    name = published_iqa(tmp_path / "p", change)
    counts = import_published(
        ImportConfig(published=tmp_path / "p", images=metadata.parent, output=tmp_path / "b", models=models)
    )
    (row,) = read_jsonl(tmp_path / "b" / "iqa_answers.rejects.jsonl")
    assert row["pair_id"] == name and reason in row["reason"] and f"{name}.json" in row["reason"]
    assert counts["rejected"] == 1 and counts["iqa_answers"] == 7


def test_the_builder_reads_both_forms_to_the_same_end(annotated, tmp_path):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "p")
    built = []
    for number, folder in enumerate((ours, tmp_path / "p")):
        config = BuildConfig(
            metadata=metadata,
            annotations=folder,
            output=tmp_path / f"built{number}",
            curation=Curation(delta=dict.fromkeys((1, 2, 3), 6.0), heldout=0.0),
        )
        assert build(config)["kept"] == 8
        built.append((tmp_path / f"built{number}" / "dynevalinstruct_iqa.json").read_bytes())
    assert built[0] == built[1]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{}], "pair_id, text_id.* missing"),
        ("x", "expected"),
        (
            [{**dict.fromkeys(Entry.__dataclass_fields__, "x")}] * 2,
            "twice",
        ),
    ],
)
def test_mappings_that_do_not_fit(tmp_path, rows, reason):
    (tmp_path / "m.json").write_text(json.dumps({"prompts": rows}))
    with pytest.raises(DataFileError, match=reason):
        read_mapping(tmp_path / "m.json")


def test_files_outside_the_folder_are_not_read(annotated, models, tmp_path):
    metadata, ours = annotated
    export_published(metadata, ours, tmp_path / "p")
    mapping = read_json(tmp_path / "p" / "t2ia_mapping.json")
    mapping["prompts"][0]["response_file"] = "../ours/t2ia_answers.jsonl"
    (tmp_path / "p" / "t2ia_mapping.json").write_text(json.dumps(mapping))
    import_published(
        ImportConfig(published=tmp_path / "p", images=metadata.parent, output=tmp_path / "b", models=models)
    )
    (row,) = read_jsonl(tmp_path / "b" / "t2ia_answers.rejects.jsonl")
    assert "leads out of" in row["reason"]


def test_shards_are_merged_once(run, gendb, chat_server, tmp_path):
    metadata, server = gendb(prompts=6), chat_server()
    for index in (1, 2):
        run(metadata, tmp_path / "parts", server, shard=Shard(index, 2))
    run(metadata, tmp_path / "whole", server)
    first = merge(tmp_path / "parts")
    assert first["iqa_answers"] == {"added": 12, "in_file": 12, "rejected": 0}
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert merge(tmp_path / "parts")["iqa_answers"] == {"added": 0, "in_file": 12, "rejected": 0}
    assert run(metadata, tmp_path / "parts", server)["requests"] == 0, "what is merged is finished"
    with pytest.raises(DataFileError, match="no shards"):
        merge(tmp_path / "whole")


def test_rejects_of_shards_are_taken_over(run, gendb, chat_server, tmp_path):
    metadata = gendb(prompts=2)
    for index, server in ((1, chat_server("--faults", "empty")), (2, chat_server())):
        run(metadata, tmp_path, server, shard=Shard(index, 2))
    merged = merge(tmp_path)["iqa_questions"]
    assert merged["in_file"] + merged["rejected"] == 4 and merged["rejected"] > 0
    rejected = list(read_jsonl(tmp_path / "iqa_questions.rejects.jsonl"))
    assert len(rejected) == merged["rejected"] and rejected[0]["raw"] == ""
