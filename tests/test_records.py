import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Struct, structs

from dyneval import records
from dyneval.errors import SchemaError

PAIR = {
    "file_name": "demo/P0.png", "pair_id": "P0-demo", "prompt_id": "P0", "prompt": "a red ball", "tier": 1,
    "categories": [], "generation_model": "demo", "seed": 1, "width": 8, "height": 8, "settings": {},
    "sha256": "0" * 64,
}  # fmt: skip


FACTORS = dict.fromkeys(records.Factors.__struct_fields__, 0.5)
PROMPT = {
    "prompt_id": records.prompt_id("a red ball"), "prompt": "a red ball", "complexity": 1.5, "factors": FACTORS,
    "tier": 3, "categories": ["colour", "object"], "source": "DiffusionDB",
}  # fmt: skip
PROVENANCE = {
    "model": "m", "engine": "openai", "prompt_version": "v", "attempts": 1, "created": "2026-01-01T00:00:00+00:00",
    "usage": {"prompt_tokens": 3, "completion_tokens": 0},
}  # fmt: skip
QUESTIONS = [{"question": "Is there a ball?", "answer": "yes", "kind": "alignment"}]
ANSWERS = [{"question": "Is there a ball?", "target_answer": "yes", "reasoning": "Seen.", "score": 4}]
GRAPH = {
    "nodes": [{"id": "b", "label": "ball", "attributes": ["red"]}],
    "edges": [{"source": "b", "target": "b", "relationship": "is"}],
}
SCORED = [
    {
        "question": "Is it whole?",
        "answer": "yes",
        "score": 4,
        "soft_score": 3.9,
        "reasoning": "",
        "correct_probability": 1,
    }
]
ROWS = {
    records.PromptRecord: PROMPT,
    records.PairRecord: PAIR,
    records.T2IAQuestions: {"prompt_id": "P0", "prompt": "a", "questions": QUESTIONS, "provenance": PROVENANCE},
    records.T2IAAnswers: {
        "pair_id": "P0-m", "prompt": "a", "answers": ANSWERS, "provenance": PROVENANCE, "raw_response": "{}",
    },
    records.IQAQuestions: {
        "pair_id": "P0-m", "prompt": "a", "scene_graph": GRAPH, "questions": QUESTIONS, "provenance": PROVENANCE,
    },
    records.IQAAnswers: {
        "pair_id": "P0-m", "prompt": "a", "answers": [{**ANSWERS[0], "answer": "yes", "correct": True}], "score": 4.5,
        "provenance": PROVENANCE,
    },
    records.InstructSample: {
        "conversations": [{"from": "human", "value": "<|IQA|>"}, {"from": "gpt", "value": "{}"}], "image": "a.png",
        "id": "P0-m:iqa",
    },
    records.ScoreRecord: {
        "pair_id": "P0-m", "prompt": "a", "image": "a.png", "model": "m", "template": "readme",
        "normalised": {"t2ia": 0.5, "iqa": 0.75, "overall": 0.6}, "revision": "hub:1", "key": "0" * 64, "t2ia": 3.0,
        "iqa": 4, "overall": 3.5, "t2ia_questions": SCORED, "iqa_questions": SCORED, "scene_graph": GRAPH,
        "raw_scene_graph": [1.0], "holistic": {"iqa": 4}, "cut": ["iqa_scores"], "soft": {"iqa": 3.5},
        "settings": {"alpha": 1.0, "seed": None}, "seconds": 0.5,
    },
    records.RivalScore: {
        "pair_id": "P0-m", "prompt": "a", "image": "a.png", "score": -2.5, "t2ia": 3.0, "iqa": 4.5, "raw": 2.5,
        "truncated": True, "rival": "pyiqa", "model": "niqe", "settings": {"pyiqa": "0.1", "seed": None},
        "key": "0" * 64,
    },
}  # fmt: skip


@pytest.mark.parametrize("record", records.RECORDS)
def test_a_record_survives_its_own_row(record):
    made = record.from_dict(ROWS[record])
    assert record.decode(made.encode()).encode() == made.encode() and made.to_dict() == ROWS[record]
    assert made.encode() == json.dumps(json.loads(made.encode()), ensure_ascii=False).encode(), "as Python writes JSON"


@pytest.mark.parametrize("record", records.RECORDS)
def test_what_a_row_lacks_is_not_written(record):
    kept = {*records.json_schema(record)["required"], "t2ia", "t2ia_questions"}
    row = {name: value for name, value in ROWS[record].items() if name in kept}
    assert record.from_dict(row).to_dict() == row


@pytest.mark.parametrize("record", records.RECORDS)
def test_the_schema_that_is_shipped_is_that_of_the_type(record):
    assert json.loads(records.schema_file(record).read_text("utf-8")) == records.json_schema(record), (
        "python -m dyneval.records writes them"
    )
    Draft202012Validator.check_schema(records.json_schema(record))


VALUES = [None, True, False, 0, -1, 1, 3, 6, 2**70, 1.0, 2.5, "", "x", "yes", "Yes", "alignment", [], ["", "a"], {}]


def paths(value, so_far=()):
    """Where something can be changed: every key and place of a row."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [so_far, *(path for key, inner in items for path in paths(inner, (*so_far, key)))]


@pytest.mark.parametrize("record", records.RECORDS)
@given(data=st.data())
def test_a_row_is_read_where_it_fits_the_schema_and_refused_where_not(record, data):
    row = copy.deepcopy(ROWS[record])
    *parents, last = data.draw(st.sampled_from(paths(row)[1:]))
    place = row
    for key in parents:
        place = place[key]
    if data.draw(st.booleans()):
        place[last] = data.draw(st.sampled_from(VALUES))
    elif isinstance(place, dict):
        del place[last]
        place["more"] = 1
    else:
        place.append(data.draw(st.sampled_from(VALUES)))
    fits = Draft202012Validator(records.json_schema(record)).is_valid(row)
    try:
        made = record.decode(json.dumps(row).encode())
    except SchemaError as error:
        # Three things that schemas cannot say, or say otherwise: numbers beyond 64 bits, an answer that contradicts its
        # verdict, and what must be there where null stands.
        beyond = "2**70" if 2**70 in [value for path in paths(row) for value in [at(row, path)]] else ""
        assert (
            not fits or beyond or "correct is" in str(error) or "expected t2ia" in str(error) or "stands" in str(error)
        )
    else:
        assert fits and record.decode(made.encode()).encode() == made.encode()


def at(row, path):
    for key in path:
        row = row[key]
    return row if not isinstance(row, dict | list) else None


@pytest.mark.parametrize("record", records.RECORDS)
@pytest.mark.parametrize(
    "more",
    [
        b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\x01"', b'"\\x"', b"NaN", b"01", b"[1,]",
        b"[" * 3000 + b"]" * 3000,
    ],
)  # fmt: skip
def test_a_line_that_is_no_json_is_refused_even_where_nothing_is_kept_of_it(record, more):
    line = json.dumps(ROWS[record]).encode()[:-1]
    if record is not records.InstructSample:  # which takes no other keys
        assert record.decode(line + b', "more": 1}').to_dict() == ROWS[record]
    with pytest.raises(SchemaError, match=r"^row 3: "):
        record.decode(line + b', "more": ' + more + b"}", "row 3")


@pytest.mark.parametrize("record", list(ROWS))
def test_a_number_beyond_the_range_of_a_double_is_refused(record):
    line = json.dumps(ROWS[record] | {record.KEY: 0}).replace(f'"{record.KEY}": 0', f'"{record.KEY}": 1e999')
    with pytest.raises(SchemaError, match=r"^row 3: .*out of range"):
        record.decode(line.encode(), "row 3")


def test_whole_numbers_become_integers_and_the_rest_stays_as_it_is():
    answer = ROWS[records.IQAAnswers]["answers"][0] | {"score": 2.0, "question": 'Is "Café" \\ 猫 whole?'}
    row = ROWS[records.IQAAnswers] | {"answers": [answer]}
    made = records.IQAAnswers.decode(json.dumps(row, ensure_ascii=False).encode())
    assert repr(made.answers[0].score) == "2" and made.answers[0].question == 'Is "Café" \\ 猫 whole?'
    pair = records.PairRecord.from_dict(PAIR | {"width": 8.0, "settings": {"scale": 3.0}})
    assert repr(pair.width) == "8" and repr(pair.settings["scale"]) == "3.0", "settings are nobody's to change"


def test_an_error_names_the_place_what_was_found_and_what_was_expected():
    answer = ROWS[records.T2IAAnswers]["answers"][0]
    row = ROWS[records.T2IAAnswers] | {"answers": [answer, answer | {"score": 7}]}
    with pytest.raises(SchemaError) as caught:
        records.T2IAAnswers.from_dict(row, "t2ia_answers.jsonl:4")
    assert str(caught.value) == "t2ia_answers.jsonl:4: answers[1].score: Expected int <= 5, found 7"
    with pytest.raises(SchemaError) as caught:
        records.ScoreRecord.from_dict(ROWS[records.ScoreRecord] | {"normalised": {"alignment": 1}})
    assert str(caught.value) == "record: normalised: Invalid enum value 'alignment', found {'alignment': 1}"
    with pytest.raises(SchemaError) as caught:
        records.ScoreRecord.from_dict(ROWS[records.ScoreRecord] | {"normalised": {"iqa": 3}})
    assert str(caught.value) == "record: normalised[...]: Expected float <= 1.0, found {'iqa': 3}"
    for forged in ("a - at `$.b", "a - at `$.conversations.b", "a - at `$[7]"):
        with pytest.raises(SchemaError, match=r"Object contains unknown field a$"):
            records.InstructSample.from_dict(ROWS[records.InstructSample] | {forged: 1})
    with pytest.raises(SchemaError, match=r"^record: Expected object, got array$"):
        records.ScoreRecord.from_dict([])
    with pytest.raises(SchemaError) as caught:
        records.PairRecord.from_dict(PAIR | {"seed": "x" * 300})
    found = str(caught.value).partition("found ")[2]
    assert found == f"'{'x' * 79}...", "80 characters, and no double quote: rejects files hold messages"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": 4}, "tier"),
        ({"sha256": "x"}, "sha256"),
        ({"pair_id": "../../etc/passwd"}, "pair_id"),
        ({"seed": -1}, "seed"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_place(change, message):
    with pytest.raises(SchemaError, match=f"metadata.jsonl:3: {message}"):
        records.PairRecord.from_dict(PAIR | change, "metadata.jsonl:3")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_json_cannot_hold_is_never_written(number):
    made = records.ScoreRecord.from_dict(ROWS[records.ScoreRecord])
    for broken, place in (
        (structs.replace(made, seconds=number), "seconds"),
        (structs.replace(made, settings={"alpha": [1.0, number]}), "settings.alpha.1"),
        (structs.replace(made, t2ia_questions=(structs.replace(made.t2ia_questions[0], soft_score=number),)),
         "t2ia_questions.0.soft_score"),
    ):  # fmt: skip
        with pytest.raises(SchemaError, match=rf"^P0-m: {place}: found NaN or infinity, expected a number$"):
            broken.encode()


def test_a_row_that_cannot_be_read_has_a_key_for_messages():
    key_in = records.ScoreRecord.key_in
    assert key_in(b'{"pair_id": "P0-m", "t2ia": "high"}') == "P0-m"
    assert key_in(b'{"pair_id": 7}') == "7"
    assert len(key_in(b'{"pair_id": "' + b"x" * 10_000 + b'"}')) == 200
    assert [key_in(line) for line in (b"{", b"[1]", b"{}", b'{"pair_id": ""}')] == [None] * 4


def changed(record, **fields):
    return record.from_dict(ROWS[record] | fields)


def test_an_answer_without_a_score_is_rated_by_its_verdict():
    """As the published code rates the data set's answers, which have no scores."""
    (answer,) = ROWS[records.IQAAnswers]["answers"]
    unscored = {name: value for name, value in answer.items() if name != "score"}
    verdicts = {"yes": True, "no": False, "": None}
    answers = [answer, *(unscored | {"answer": said, "correct": correct} for said, correct in verdicts.items())]
    assert [one.rating for one in changed(records.IQAAnswers, answers=answers).answers] == [4, 5, 1, None]


def test_a_verdict_that_contradicts_its_answer_is_refused_where_both_are_known():
    (answer,) = ROWS[records.IQAAnswers]["answers"]
    for unknown in ({"answer": ""}, {"target_answer": ""}, {"correct": None}, {"answer": "no"}):
        changed(records.IQAAnswers, answers=[answer | {"correct": False} | unknown])
    with pytest.raises(SchemaError) as caught:
        changed(records.IQAAnswers, answers=[answer, answer | {"correct": False}])
    assert str(caught.value) == "record: answers[1]: correct is False, while the answer is yes and yes is right"


def test_a_scene_graph_of_any_shape_is_kept_and_its_nodes_are_counted():
    shapes = [([1, 2], 2), ({"nodes": [1, {}, "x"]}, 3), ({"things": {}}, 0), ({"nodes": 3}, 0)]
    for graph, nodes in [*shapes, ({"raw_response": "no", "nodes": []}, 0)]:
        made = changed(records.IQAQuestions, scene_graph=graph)
        assert (made.graph, made.nodes) == (graph, nodes)
    for graph in ({}, [], "cat", None, 7):
        with pytest.raises(SchemaError, match="the scene graph is no object or list, or empty"):
            changed(records.IQAQuestions, scene_graph=graph)
    with pytest.raises(SchemaError, match="a reply that could not be read stands in the place of the scene graph"):
        changed(records.IQAQuestions, scene_graph={"raw_response": "no"})


def test_a_score_stands_with_the_answers_behind_it():
    of_iqa, of_t2ia = ("iqa", "iqa_questions", "scene_graph"), ("t2ia", "t2ia_questions")
    for part in (of_iqa, of_t2ia):
        for name in part:
            with pytest.raises(SchemaError, match="expected t2ia with its questions, or iqa with its questions and"):
                changed(records.ScoreRecord, **dict.fromkeys({*of_iqa, *of_t2ia, "overall"} - {*part}), **{name: None})
            changed(records.ScoreRecord, overall=None, **{name: None})
    for name in ("t2ia", "iqa"):
        with pytest.raises(SchemaError, match=r"^record: overall stands without t2ia and iqa$"):
            changed(records.ScoreRecord, **{name: None})
    with pytest.raises(SchemaError, match=r"^record: raw_scene_graph is no object or list$"):
        changed(records.ScoreRecord, raw_scene_graph="cat")
    assert changed(records.ScoreRecord).scores == {"t2ia": 3, "iqa": 4, "overall": 3.5}
    assert changed(records.ScoreRecord, overall=None, t2ia=None).scores == {"iqa": 4}


def test_turns_stand_in_their_order():
    turns = ROWS[records.InstructSample]["conversations"]
    with pytest.raises(SchemaError, match=r"^record: conversations: expected a turn from human, then one from gpt$"):
        changed(records.InstructSample, conversations=turns[::-1])


def test_a_workflow_has_a_record_a_key_and_the_workflow_whose_rows_it_needs():
    assert {name: records.schema_name(records.ANNOTATIONS[name]) for name in records.WORKFLOWS} == {
        name: name for name in records.ANNOTATIONS
    }
    assert records.NEEDS == {"t2ia_answers": "t2ia_questions", "iqa_answers": "iqa_questions"}
    keys = [records.key_of(name, changed(records.PairRecord)) for name in records.WORKFLOWS]
    assert keys == ["P0", "P0-demo", "P0-demo", "P0-demo"], "images of a prompt share its T2IA questions"


KINDS = [
    "row", "image", "reply", "refused", "engine", "dependency", "failed",
    "bad_row", "not_annotated", "missing_annotation", "bad_annotation", "too_long",
]  # fmt: skip


def test_a_reject_is_read_as_it_was_written():
    for kind in KINDS:
        reject = records.Reject(key="P0-m", kind=kind, reason="no", detail={"image": "a.png"})
        row = reject.row("pair_id")
        assert row == {"pair_id": "P0-m", "kind": kind, "reason": "no", "image": "a.png"}
        assert records.Reject.of_row(row, "pair_id") == reject
    assert records.Reject.of_row({"id": 3, "reason": "no"}, "id") == records.Reject(key="3", kind="failed", reason="no")
    for row, said in [({"reason": "no"}, "a reject: is no reject"), ({"id": "a"}, "a: is no reject .*reason")]:
        with pytest.raises(SchemaError, match=f"^{said}"):
            records.Reject.of_row(row, "id")
    with pytest.raises(SchemaError, match="kind"):
        records.Reject.of_row({"id": "a", "reason": "no", "kind": "other"}, "id")


def test_a_summary_shows_what_did_not_happen_too():
    shown = {"made": 2, "there_before": 0, "rejected": 0, "seconds": None, "devices": []}
    assert json.loads(records.student_json(records.RunSummary(made=2))) == shown


def parts(value):
    """A record and all records within it."""
    if isinstance(value, Struct):
        inner = [getattr(value, name) for name in value.__struct_fields__]
        return [value, *(part for one in inner for part in parts(one))]
    return [part for one in value for part in parts(one)] if isinstance(value, tuple) else []


WHOLE = [
    *(record.from_dict(row) for record, row in ROWS.items()),
    records.Reject(key="P0-m", kind="reply", reason="no"),
    records.RunSummary(made=1),
]


@pytest.mark.parametrize("whole", WHOLE, ids=lambda whole: type(whole).__name__)
def test_a_record_cannot_be_changed_and_its_fields_are_given_by_name(whole):
    for part in parts(whole):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(part, part.__struct_fields__[0], None)
        with pytest.raises(TypeError, match="positional"):
            type(part)(*(getattr(part, name) for name in part.__struct_fields__))


def test_what_json_cannot_hold_makes_no_record():
    for value in (object(), math.nan, {1, 2}, "\ud800"):
        with pytest.raises(SchemaError, match=r"^row 3: cannot be written as JSON \("):
            records.PairRecord.from_dict(PAIR | {"settings": {"value": value}}, "row 3")
    made = structs.replace(records.PairRecord.from_dict(PAIR), settings={"value": object()})
    with pytest.raises(SchemaError, match=r"^P0-demo: cannot be written as JSON \("):
        made.encode()
    with pytest.raises(SchemaError, match=r"^P0-demo: width: Expected int >= 1, found 0$"):
        structs.replace(made, settings={}, width=0).encode()


def test_an_item_that_stands_twice_is_refused():
    with pytest.raises(SchemaError, match=r"^record: categories holds an item twice$"):
        changed(records.PromptRecord, categories=["colour", "colour"])


def test_a_float_is_a_whole_number_below_two_to_the_53():
    assert repr(changed(records.PairRecord, seed=2.0**53 - 1).seed) == "9007199254740991"
    with pytest.raises(SchemaError, match=r"^record: seed: Expected int"):
        changed(records.PairRecord, seed=2.0**53)


def test_a_missing_field_is_named():
    row = {key: value for key, value in PAIR.items() if key != "prompt"}
    with pytest.raises(SchemaError, match="required field prompt"):
        records.PairRecord.from_dict(row)


def test_ids_depend_on_the_text_alone_and_are_file_names():
    assert records.prompt_id("a red ball") == records.prompt_id("a red ball") != records.prompt_id("a red ball ")
    name = records.pair_id(records.prompt_id("../../etc"), "demo-painter")
    assert "/" not in name
    records.PairRecord.from_dict(PAIR | {"pair_id": name})


def test_scores_map_onto_zero_to_one():
    assert [records.normalised_score(score) for score in (1, 3, 5)] == [0, 0.5, 1]


TEXTS = st.text(st.characters(codec="utf-8"))
REPLIES = st.recursive(
    TEXTS | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(REPLIES)
def test_the_students_json_is_that_of_the_standard_library(value):
    assert records.student_json(value) == json.dumps(value, ensure_ascii=False)


def test_half_a_character_is_no_reply():
    with pytest.raises(ValueError, match="surrogates"):
        records.student_json([{"question": "a \ud800 cat"}])
