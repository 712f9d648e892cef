"""Both forms of the student's replies: written as published, admitted by the schema, read again."""

import json
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given, strategies

from dyneval import replies
from dyneval.errors import SettingError
from dyneval.records import PARTS
from dyneval.replies import REPLY_FORMS, QuestionItem, ReplyError, ReplyLimits

FREE = ReplyLimits()
TEXT = strategies.text(strategies.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


def answer(question="Is it red?", target="yes", said="yes", correct=True, reasoning="It is.", score=5):
    return SimpleNamespace(
        question=question, target_answer=target, answer=said, correct=correct, reasoning=reasoning, score=score
    )


ANSWERS = strategies.lists(
    strategies.builds(
        answer,
        question=TEXT,
        target=strategies.sampled_from(["yes", "no", ""]),
        said=strategies.sampled_from(["yes", "no", ""]),
        correct=strategies.booleans(),
        reasoning=TEXT,
        score=strategies.integers(1, 5),
    ),
    min_size=1,
    max_size=4,
)


def weights(form, part, count):
    of_score = [[0, 0, 0.5, 0.5, 0]]
    if form == "readme":
        return of_score * count
    return ([[0.75, 0.25]] if part == "iqa" else of_score) * count + [[0, 0.25, 0.75, 0, 0]]


def test_the_forms_are_those_of_the_published_readme_and_builder():
    """Keys, their order, the separators, and Python's rounding of the mean: half to even."""
    two = [answer(score=2, reasoning='A "sign".\nAn é.'), answer("Is it big?", "no", "", False, "", 3)]
    first, second = '"question": "Is it red?"', '"question": "Is it big?"'
    said = '"reasoning": "A \\"sign\\".\\nAn é."'
    assert replies.write("readme", "t2ia", two) == (
        f'{{"answers": [{{{first}, "score": 2, {said}}}, {{{second}, "score": 3, "reasoning": ""}}]}}'
    )
    assert replies.write("readme", "iqa", two, 2.5) == replies.write("readme", "t2ia", two)
    assert replies.write("release", "t2ia", two) == (
        f'{{"answers": [{{{first}, "target_answer": "yes", {said}, "score": 2}}, '
        f'{{{second}, "target_answer": "no", "reasoning": "", "score": 3}}], "score": 2}}'
    )
    assert replies.write("release", "iqa", two, 3.5) == (
        f'{{"answers": [{{{first}, "answer": "yes", "target_answer": "yes", "correct": true, {said}}}, '
        f'{{{second}, "answer": "", "target_answer": "no", "correct": false, "reasoning": ""}}], "score": 4}}'
    )


@pytest.mark.parametrize("form", REPLY_FORMS)
@pytest.mark.parametrize("part", PARTS)
@given(answers=ANSWERS)
def test_what_is_written_fits_its_schema_and_is_read_again(form, part, answers):
    text = replies.write(form, part, answers, 4.2)
    assert text == json.dumps(json.loads(text), ensure_ascii=False)
    questions = [one.question for one in answers]
    for admitting in (form, "either"):
        schema = replies.evaluation_schema(admitting, part, questions, FREE)
        jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)
    found = replies.read_evaluation(text, questions, weights(form, part, len(answers)))
    assert found.form == form == replies.form_of(text)
    assert [one.reasoning for one in found.questions] == [one.reasoning for one in answers]
    if form == "release" and part == "iqa":
        assert [one.score for one in found.questions] == [5 if one.correct else 1 for one in answers]
        assert {(one.soft_score, one.correct_probability) for one in found.questions} == {(4.0, 0.75)}
        assert (found.holistic, found.soft_holistic, found.is_holistic) == (4, 2.75, True)
    else:
        assert [one.score for one in found.questions] == [one.score for one in answers]
        assert {one.soft_score for one in found.questions} == {3.5} and not found.is_holistic


def fits(schema, text):
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))


def with_more(value):
    """Copies of a JSON value, each with one more key in one of its objects."""
    if isinstance(value, dict):
        yield value | {"more": 1}
        for key, inner in value.items():
            yield from (value | {key: one} for one in with_more(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], one, *value[place + 1 :]] for one in with_more(inner))


@pytest.mark.parametrize("form", REPLY_FORMS)
@pytest.mark.parametrize("part", PARTS)
def test_an_evaluation_is_held_to_its_keys_its_questions_and_its_limits(form, part):
    asked = ["Is it red?", "Is it big?"]
    text = replies.write(form, part, [answer(one) for one in asked], 5)
    for admitting in (form, "either"):
        schema = replies.evaluation_schema(admitting, part, asked, ReplyLimits(reasoning_chars=6))
        assert fits(schema, text) and not fits(schema, text.replace("It is.", "It is. "))
        assert not fits(schema, text.replace('"It is."', "7")) and "description" not in json.dumps(schema)
        changed = [*with_more(json.loads(text)), json.loads(text) | {"answers": json.loads(text)["answers"][:1]}]
        assert not any(fits(schema, json.dumps(one)) for one in changed)
        assert not fits(schema, text.replace("big", "old")) and not fits(schema, json.dumps({"answers": {}}))
    for one in with_more(json.loads(text)):
        with pytest.raises(ReplyError, match="unknown field `more`"):
            replies.read_evaluation(json.dumps(one), asked, weights(form, part, 2))


def test_what_cannot_be_written_or_asked_is_refused():
    with pytest.raises(ValueError, match=r"^an evaluation needs at least one answer$"):
        replies.write("readme", "t2ia", [])
    with pytest.raises(ValueError, match=r"^IQA in the release form needs the score of the image$"):
        replies.write("release", "iqa", [answer()])
    with pytest.raises(ValueError, match=r"^an evaluation needs at least one question$"):
        replies.evaluation_schema("readme", "t2ia", [], FREE)


def test_the_expectation_is_a_mean_score_in_spite_of_rounding():
    for score in (1, 2, 3, 4, 5):
        assert replies.expectation([float(one == score) for one in (1, 2, 3, 4, 5)]) == score
    assert replies.expectation([0.25, 0, 0, 0.5, 0.25]) == 3.5
    assert replies.expectation([0, 0, 0, 0, 1.0000001]) == 5 and replies.expectation([0.9999999, 0, 0, 0, 0]) == 1


def test_a_reasoning_is_left_out_only_behind_the_score():
    for form, part, empty in [("readme", "iqa", True), ("release", "t2ia", False), ("release", "iqa", False)]:
        schema = replies.evaluation_schema(form, part, ["Is it red?"], FREE, reasoning=False)
        text = replies.write(form, part, [answer()], 5)
        assert fits(schema, text) == (not empty) and fits(schema, text.replace("It is.", ""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"answers": [{"question": "Q?", "score": 6, "reasoning": ""}]}', "answers"),
        ('{"answers": [{"question": "Q?", "score": 3}]}', "reasoning"),
        ('{"answers": [{"question": "Q?", "score": 3, "reasoning": ""}], "score": 3}', "unknown field"),
        ('{"answers": [{"question": "P?", "score": 3, "reasoning": ""}]}', "other questions"),
        ('{"answers": []}', "other questions"),
        ('{"answers": [{"question": "Q?", "target_answer": "yes", "reasoning": "", "score": 3}]}', "score"),
        ('{"answers": [{"question": "Q?", "score": 3, "reasoning": ""}', "form"),
        ('{"answers": [{"question": "Q?", "score": 3, "reasoning": "\\ud800"}]}', "form"),
        ("[" * 100_000, "form"),
        ("null", "form"),
    ],
)
def test_replies_are_not_trusted(text, said):
    with pytest.raises(ReplyError, match=said):
        replies.read_evaluation(text, ["Q?"], [[1, 0, 0, 0, 0]])


def test_every_verdict_needs_its_probabilities():
    text = replies.write("release", "t2ia", [answer()])
    with pytest.raises(ReplyError, match="1 of 2 verdicts have probabilities"):
        replies.read_evaluation(text, ["Is it red?"], [[0, 0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ({}, ([], [])),
        ([], ([], [])),
        ({"raw_response": "no graph"}, ([], [])),
        ({"nodes": [{"id": 3, "label": "cat", "size": "big"}]}, ([("3", "cat", [])], [])),
        ([{"label": "cat", "attributes": {"colour": "red", "count": 2, "parts": []}}], (
            [("object_1", "cat", ["colour: red", "count: 2"])], [])),
        ({"nodes": ["cat", None, {"attributes": ["lost"]}], "edges": None}, ([("object_1", "cat", [])], [])),
        ({"nodes": [], "edges": [{"source": 1, "target": "b", "relationship": "on"}, {"source": 1}, "x"]}, (
            [], [("1", "b", "on")])),
        ({"nodes": [{"id": "a", "label": "cat", "attributes": "grey"}]}, ([("a", "cat", ["grey"])], [])),
    ],
)  # fmt: skip
def test_a_scene_graph_of_any_shape_is_kept_and_normalised(raw, normal):
    text = replies.write_scene(raw, [QuestionItem("Is it sharp?", "yes")])
    jsonschema.validate(json.loads(text), replies.scene_schema(FREE), jsonschema.Draft202012Validator)
    scene = replies.read_scene(text)
    nodes, edges = normal
    assert [tuple(node.values()) for node in scene.graph["nodes"]] == nodes
    assert [tuple(edge.values()) for edge in scene.graph["edges"]] == edges
    assert scene.raw_graph == raw
    normal_text = replies.write_scene(scene.graph, scene.questions)
    assert replies.read_scene(normal_text) == scene._replace(raw_graph=None)


def test_limits_bound_lists_and_texts_and_tell_when_they_cut():
    limits = ReplyLimits().capped(2, 8)
    asked = [QuestionItem("Is it?", "yes"), QuestionItem("Is it so?", "yes")]
    validator = jsonschema.Draft202012Validator
    assert validator(replies.questions_schema(limits)).is_valid(json.loads(replies.write_questions(asked[:1])))
    assert not validator(replies.questions_schema(limits)).is_valid(json.loads(replies.write_questions(asked)))
    assert limits.reached_by_questions(asked) and not limits.reached_by_questions(asked[:1])
    free_graph = json.loads(replies.write_scene({"things": []}, asked[:1]))
    assert validator(replies.scene_schema(FREE)).is_valid(free_graph)
    assert not validator(replies.scene_schema(limits)).is_valid(free_graph)
    graph = {"nodes": [{"id": "a", "label": "cat", "attributes": []}], "edges": []}
    assert not limits.reached_by_graph(graph)
    assert limits.reached_by_graph({"nodes": graph["nodes"] * 2, "edges": []})
    assert limits.reached_by_graph({"nodes": [{"id": "a", "label": "elephant", "attributes": []}], "edges": []})
    for reasoning, reached in [("short", False), ("too long", True)]:
        text = replies.write("readme", "t2ia", [answer("Q?", reasoning=reasoning)])
        found = replies.read_evaluation(text, ["Q?"], [[0, 0, 0, 0, 1]])
        assert limits.reached_by_reasons(found) == reached


@pytest.mark.parametrize(
    ("limit", "most", "reached"),
    [
        ("nodes", 2, {"nodes": 2}),
        ("edges", 2, {"edges": 2}),
        ("attributes", 2, {"attributes": ["red", "old"]}),
        ("label_chars", 8, {"attributes": ["crimson!"]}),
        ("label_chars", 8, {"relationship": "far from"}),
        ("label_chars", 8, {"label": "elephant"}),
    ],
)
def test_each_limit_of_a_graph_is_told_and_enforced_alone(limit, most, reached):
    def graph(label="cat", attributes=("red",), relationship="on", nodes=1, edges=1):
        node = {"id": "a", "label": label, "attributes": list(attributes)}
        edge = {"source": "a", "target": "a", "relationship": relationship}
        return {"nodes": [node] * nodes, "edges": [edge] * edges}

    limits, tighter = ReplyLimits(**{limit: most}), ReplyLimits(**{limit: most - 1})
    assert limits.reached_by_graph(graph(**reached)) and not limits.reached_by_graph(graph())
    schema, text = replies.scene_schema(limits), replies.write_scene(graph(**reached), [QuestionItem("Is it?", "yes")])
    assert fits(schema, text) and "description" not in json.dumps(schema)
    assert not fits(replies.scene_schema(tighter), text)
    assert not any(fits(schema, json.dumps(one)) for one in with_more(json.loads(text)))


def test_a_scene_with_more_keys_than_asked_for_is_refused():
    for one in with_more({"scene_graph": [], "questions": [{"question": "Is it?", "answer": "yes"}]}):
        with pytest.raises(ReplyError, match="unknown field `more`"):
            replies.read_scene(json.dumps(one))


def test_questions_are_held_to_one_at_least_and_to_their_length():
    schema = replies.questions_schema(ReplyLimits(question_chars=6))
    for question, admitted in [("Is it?", True), ("Is it 1?", False), ("", False)]:
        assert fits(schema, replies.write_questions([QuestionItem(question, "no")])) == admitted
    assert not fits(schema, "[]") and not fits(replies.questions_schema(FREE), "{}")
    assert not fits(schema, '[{"question": 7, "answer": "no"}]')
    limits = ReplyLimits(question_chars=6)
    assert limits.reached_by_questions([QuestionItem("Is it?", "no")])
    assert not limits.reached_by_questions([QuestionItem("Is i?", "no")] * 9)


def test_limits_are_at_least_one_and_caps_keep_the_smaller():
    assert ReplyLimits(nodes=1).capped(1, 1) == ReplyLimits(
        questions=1, question_chars=1, reasoning_chars=1, nodes=1, edges=1, attributes=1, label_chars=1
    )
    assert ReplyLimits(questions=3, label_chars=9).capped(items=5) == ReplyLimits(
        questions=3, nodes=5, edges=5, attributes=5, label_chars=9
    )
    with pytest.raises(SettingError, match=r"^limit edges is 0, expected at least 1$"):
        ReplyLimits(edges=0)
    with pytest.raises(SettingError, match=r"^limit question_chars is 0, expected at least 1$"):
        ReplyLimits(questions=4).capped(chars=0)


def test_the_form_of_a_stored_reply_is_told_where_it_has_one():
    assert [replies.form_of(text) for text in ("{}", "no", '{"answers": 3}')] == [None] * 3
    assert replies.form_of('{"answers": []}') == "readme"


def test_questions_are_read_as_they_were_written():
    asked = [QuestionItem("Is it?", "yes"), QuestionItem('Is it "so", \\ 猫?', "no")]
    assert replies.read_questions(replies.write_questions(asked)) == asked
    with pytest.raises(ReplyError, match="form"):
        replies.read_questions('{"questions": []}')


def test_a_setting_that_older_versions_did_not_have_is_left_out_of_the_key_at_their_value():
    older = replies.as_in_key({"alpha": 1.0})
    assert older == replies.as_in_key({"alpha": 1.0, "reply_form": "readme", "limits": {"nodes": 64}})
    assert replies.as_in_key({"reply_form": "release"})["reply_form"] == "release"
    unlimited = replies.as_in_key({"limits": {"questions": None}})["limits"]
    assert unlimited == {
        "questions": None, "nodes": 64, "edges": 128, "attributes": 16,
        "question_chars": 300, "label_chars": 80, "reasoning_chars": 800,
    }  # fmt: skip
    assert older["limits"]["questions"] == 160


def test_a_bounded_graph_is_admitted_in_its_documented_shape_alone():
    schema = jsonschema.Draft202012Validator(replies.scene_schema(ReplyLimits().capped(2, 8)))
    node = {"id": "a", "label": "cat", "attributes": ["red"]}
    edge = {"source": "a", "target": "a", "relationship": "on"}

    def admitted(**changed):
        graph = {"nodes": [node], "edges": [edge]} | changed
        return schema.is_valid(json.loads(replies.write_scene(graph, [QuestionItem("Is it?", "yes")])))

    assert admitted() and admitted(nodes=[], edges=[])
    assert not admitted(more=[])
    assert not admitted(nodes=[node | {"more": 1}]) and not admitted(edges=[edge | {"more": 1}])
    assert not admitted(nodes=[node | {"label": ""}]) and not admitted(edges=[edge | {"relationship": "far behind"}])
    assert not admitted(nodes=[node | {"attributes": ["too long a word"]}]) and not admitted(edges=[edge] * 3)
