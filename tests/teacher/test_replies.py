import json
import random

import pytest
from jsonschema import Draft202012Validator

from dyneval.llm.chat import UnusableReply
from dyneval.records import Question
from dyneval.teacher.replies import (
    BOUNDS,
    answers_schema,
    parse_iqa_answers,
    parse_questions,
    parse_scene,
    parse_t2ia_answers,
    questions_schema,
    same_question,
    scene_schema,
)

QUESTIONS = [Question(question=f"Is cup {i} red?", answer="yes" if i % 2 else "no") for i in range(4)]
ROWS = [{"question": question.question, "answer": question.answer} for question in QUESTIONS]
PARSE = {"t2ia": parse_t2ia_answers, "iqa": parse_iqa_answers}
SCENE = {
    "scene_graph": {
        "nodes": [{"id": "a", "label": "cat", "attributes": ["red"]}, {"id": 2, "label": "mat", "attributes": []}],
        "edges": [{"source": "a", "target": 2, "relationship": "on"}],
    },
    "questions": ROWS,
}


def answers(kind="t2ia", **changes):
    rows = [{"question": q.question, "reasoning": "Because.", "score": 1 + i} for i, q in enumerate(QUESTIONS)]
    if kind == "iqa":
        rows = [{**row, "answer": "yes"} for row in rows]
    rows[0].update(changes)
    return rows


def parse(rows, kind="t2ia"):
    return PARSE[kind](json.dumps({"answers": rows}), QUESTIONS)


def walk(schema):
    yield schema
    for value in schema.values():
        if isinstance(value, dict):
            yield from walk(value)


@pytest.mark.parametrize(
    "schema", [questions_schema(9), scene_schema(), answers_schema("t2ia", 3), answers_schema("iqa", 3)]
)
def test_schemas_bound_every_list_and_string(schema):
    Draft202012Validator.check_schema(schema)
    for part in walk(schema):
        assert part.get("type") != "array" or part["maxItems"] >= part.get("minItems", 0)
        assert part.get("type") != "string" or part["maxLength"]
        assert part.get("type") != "object" or part["additionalProperties"] is False


def test_bounds_do_not_cut_what_is_published():
    """66.6 quality questions on average for 16-20 objects, and their answers must fit in what is read and stored."""
    many = [{"question": f"Is part {i} of object {i % 20} whole?", "answer": "yes"} for i in range(140)]
    assert len(parse_scene(json.dumps({**SCENE, "questions": many}))[1]) == 140
    rows = [{"question": q["question"], "reasoning": "word " * 50, "score": 5} for q in many]
    asked = [Question(**question) for question in many]
    assert len(parse_t2ia_answers(json.dumps({"answers": rows}), asked)) == 140


def test_answers_are_matched_by_text_not_by_place():
    rows = answers()
    random.Random(1).shuffle(rows)
    assert [row.score for row in parse(rows)] == [1, 2, 3, 4]
    for row in rows:
        row["question"] = f"3. [yes] {row['question'].upper().replace('?', ' ?')}"
    found = parse(rows)
    assert [row.score for row in found] == [1, 2, 3, 4]
    assert [row.question for row in found] == [q.question for q in QUESTIONS]
    assert [row.target_answer for row in found] == ["no", "yes", "no", "yes"]


@pytest.mark.parametrize(
    ("asked", "copied"),
    [
        ("Is the dog's ear whole?", "Is the dog’s ear whole?"),
        ('Does the sign read "OPEN - 24h"?', "Does the sign read “Open – 24h” ?"),
        ('Does the sign read "OPEN"?', "Does the sign read OPEN?"),
        ("Is the blue-green vase whole?", "Is the blue‑green vase\u00a0whole?"),
        ("Is the café's door red?", "Is the cafe\u0301`s door red?"),
        ("Is a pause -- a long one -- seen?", "Is a pause—a long one—seen?"),
        ("Is it red, round and big?", "Is it red, round, and big?"),
        ("Is the text 5′ 3″ legible?", "Is the text 5' 3\" legible?"),
    ],
)
def test_marks_that_a_teacher_sets_otherwise_lose_no_answer(asked, copied):
    questions = [*QUESTIONS, Question(question=asked, answer="yes")]
    rows = [*answers(), {"question": copied, "reasoning": "Seen.", "score": 2}]
    found = parse_t2ia_answers(json.dumps({"answers": rows}), questions)
    assert (found[-1].question, found[-1].score) == (asked, 2)


def test_questions_that_look_alike_are_matched_one_to_one():
    texts = ["Is 'US' written there?", 'Is "us" written there?', "Is us written there?"]
    questions = [Question(question=text, answer="yes") for text in texts]
    rows = [{"question": text, "reasoning": "Seen.", "score": 1 + i} for i, text in enumerate(texts)]
    found = parse_t2ia_answers(json.dumps({"answers": rows[::-1]}), questions)
    assert [(row.question, row.score) for row in found] == [(text, 1 + i) for i, text in enumerate(texts)]
    for row in rows[:2]:
        row["question"] = "IS 'US' WRITTEN THERE"
    with pytest.raises(UnusableReply, match="answered twice"):
        parse_t2ia_answers(json.dumps({"answers": rows}), questions)


def test_iqa_answers_say_whether_they_meet_the_target():
    assert [row.correct for row in parse(answers("iqa"), "iqa")] == [False, True, False, True]


@pytest.mark.parametrize(("given", "score"), [(3, 3), (3.0, 3), ("3", 3)])
def test_whole_scores(given, score):
    assert parse(answers(score=given))[0].score == score


@pytest.mark.parametrize("score", [0, 6, 2.5, None, True, "good", "4/5", [3], -1, 10**400])
def test_no_score_is_made_up(score):
    with pytest.raises(UnusableReply, match="whole number from 1 to 5"):
        parse(answers(score=score))


@pytest.mark.parametrize("word", ["Yes", "yes.", " YES ", True])
def test_yes_and_no_are_normalised(word):
    assert parse(answers("iqa", answer=word), "iqa")[0].answer == "yes"


@pytest.mark.parametrize("word", ["maybe", "", None, 1, "yes and no"])
def test_other_answers_are_refused(word):
    with pytest.raises(UnusableReply, match="expected yes or no"):
        parse(answers("iqa", answer=word), "iqa")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (answers()[1:], "1 of 4 questions have no answer"),
        ([*answers(), answers()[0]], "answered twice"),
        ([*answers(), {"question": "Is it nice?", "reasoning": "x", "score": 1}], "was not asked"),
        (answers(reasoning=""), "'reasoning' is missing"),
        (answers(reasoning="a <|IQA|> b"), "reserved token"),
        (answers(reasoning="a \ud800 b"), "half a character"),
        (answers(reasoning="x" * (BOUNDS.reasoning + 1)), "at most"),
        (["yes", "no"], "expected an object"),
        ("yes", "expected"),
    ],
)
def test_answers_that_do_not_fit(rows, reason):
    with pytest.raises(UnusableReply, match=reason):
        parse(rows)


def test_questions_asked_twice_are_kept_once():
    text = json.dumps([*ROWS, {"question": " 1. is  CUP 0 red", "answer": "yes"}])
    assert parse_questions(text, 4) == QUESTIONS
    with pytest.raises(UnusableReply, match="at most 3"):
        parse_questions(text, 3)
    with pytest.raises(UnusableReply, match="no question"):
        parse_questions('{"questions": []}', 3)


def test_scene_graph_ids_may_be_numbers():
    graph, questions = parse_scene(json.dumps(SCENE))
    assert [node.id for node in graph.nodes] == ["a", "2"] and graph.edges[0].target == "2"
    assert questions == QUESTIONS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nodes": []}, "at least one node"),
        ({"nodes": [SCENE["scene_graph"]["nodes"][0]] * 2, "edges": []}, "id of its own"),
        ({"edges": [{"source": "a", "target": "z", "relationship": "on"}]}, "not both are nodes"),
        ({"nodes": [{"id": "a", "label": "", "attributes": []}]}, "'label' is missing"),
        ({"nodes": [{"id": "a", "label": "x", "attributes": [1]}]}, "attribute of node 'a'"),
        ({"edges": None}, "scene_graph.edges"),
    ],
)
def test_scene_graphs_that_do_not_fit(change, reason):
    with pytest.raises(UnusableReply, match=reason):
        parse_scene(json.dumps({**SCENE, "scene_graph": {**SCENE["scene_graph"], **change}}))


def test_same_question_forgives_form_only():
    assert same_question('2) "Is the  Cat red?"') == same_question("is the cat red")
    assert same_question("Is the cat red?") != same_question("Is the cap red?")
    assert same_question("3 cats are there?") != same_question("cats are there?")
