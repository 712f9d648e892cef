"""The ideal teacher: its questions are atomic and answerable, its answers follow from the truth."""

from random import Random
from statistics import mean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.demo import knowledge, questions
from dyneval.demo.faults import ALIGNMENT_FAULTS, QUALITY_FAULTS, Fault, misdraw, spoil
from dyneval.demo.prompts import scene_from_prompt, write_prompt
from dyneval.demo.questions import ForeignQuestionError
from dyneval.demo.scenes import random_scene
from dyneval.records import IQAQuestions, SceneGraph

PROMPT = "three red cups to the left of a green sign in a meadow, 8k"

PROVENANCE = {"model": "oracle", "engine": "oracle", "prompt_version": "1", "attempts": 1, "created": "2025-01-01"}


def make_truth(prompt, drawn=None, faults=()):
    drawn = drawn or scene_from_prompt(prompt)
    return knowledge.make_truth(prompt=prompt, model="demo", seed=0, size=64, drawn=drawn, faults=faults)


@st.composite
def truths(draw):
    rng = Random(draw(st.integers(0, 2**32)))
    tier = draw(st.sampled_from((1, 2, 3)))
    prompt = write_prompt(random_scene(rng, tier), tier, rng)
    drawn, faults = misdraw(scene_from_prompt(prompt), dict.fromkeys(ALIGNMENT_FAULTS, 0.4), rng)
    faults += spoil(drawn, dict.fromkeys(QUALITY_FAULTS, 0.4), (0.05, 1.0), rng)
    return make_truth(prompt, drawn, faults)


@settings(max_examples=60)
@given(truths())
def test_every_question_is_answered_in_few_words_and_the_means_are_the_truth(truth):
    alignment = knowledge.alignment_questions(truth.prompt)
    distortion = knowledge.distortion_questions(truth.prompt)
    quality = knowledge.quality_questions(truth.drawn)
    texts = [question for question, _ in alignment + distortion + quality]
    assert len(set(texts)) == len(texts)
    for asked in (alignment, distortion, quality):
        assert 3 <= len(asked) <= knowledge.MAX_QUESTIONS
        for question, target in asked:
            score, reasoning = knowledge.answer(truth, question)
            assert type(score) is int
            assert 1 <= score <= 5
            assert 3 <= len(reasoning.split()) < 15, reasoning
            assert target == ("no" if questions.understand(question).topic == "distortion" else "yes")
    for asked, exact in ((alignment + distortion, truth.truth_t2ia), (quality, truth.truth_iqa)):
        assert abs(mean(knowledge.answer(truth, question)[0] for question, _ in asked) - exact) <= 0.5


@settings(max_examples=60)
@given(truths())
def test_scene_graph_fits_the_schema_and_names_only_its_nodes(truth):
    graph = knowledge.scene_graph(truth)
    asked = [{"question": question, "answer": target} for question, target in knowledge.quality_questions(truth.drawn)]
    row = {"pair_id": "p", "prompt": truth.prompt, "scene_graph": graph, "questions": asked, "provenance": PROVENANCE}
    IQAQuestions.from_dict(row, "row")
    msgspec.convert(graph, SceneGraph)
    ids = [node["id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids) == len(truth.drawn.groups) + 1
    assert {edge[end] for edge in graph["edges"] for end in ("source", "target")} <= set(ids)


def test_a_faultless_image_scores_5_on_everything():
    truth = make_truth(PROMPT)
    assert (truth.truth_t2ia, truth.truth_iqa) == (5, 5)
    asked = knowledge.alignment_questions(PROMPT) + knowledge.distortion_questions(PROMPT)
    assert {
        knowledge.answer(truth, question)[0] for question, _ in asked + knowledge.quality_questions(truth.drawn)
    } == {5}


def test_questions_are_the_elements_of_the_prompt():
    assert [question for question, _ in knowledge.alignment_questions(PROMPT)] == [
        "Are the cups red?",
        "Is the sign green?",
        "Are the cups to the left of the sign?",
        "Are there exactly three cups?",
        "Is there exactly one sign?",
    ]
    assert [question for question, _ in knowledge.alignment_questions("a red cup in a meadow, masterpiece, 8k")] == [
        "Is the cup red?",
        "Is there exactly one cup?",
        "Is there a cup?",
        "Is the setting a meadow?",
    ]
    assert [question for question, _ in knowledge.distortion_questions(PROMPT)] == [
        "Are the cups neither torn nor melted?",
        "Is there no blur?",
        "Is there no noise?",
    ]


@pytest.mark.parametrize(
    ("shown", "question", "score", "reasoning"),
    [
        ("three blue cups", "Are the cups red?", 1, "The cups are blue."),
        ("three pink cups", "Are the cups red?", 2, "The cups are pink."),
        ("two red cups", "Are there exactly three cups?", 3, "There are two."),
        ("a red cup", "Are there exactly three cups?", 2, "There is one."),
        ("a red ball", "Are the cups red?", 1, "There is no cup."),
        ("a red ball", "Are there cups?", 1, "There is no cup."),
        ("a red cup above a red ball", "Is the cup below the ball?", 1, "The cup is above the ball."),
        ("a red cup above a red ball", "Is the ball below the cup?", 5, "The ball is below the cup."),
        ("a red cup", "is the  CUP Red?", 5, "The cup is red."),
        ("a red cup on a beach", "Is the setting a meadow?", 1, "It shows a beach."),
    ],
)
def test_answers_follow_what_is_drawn(shown, question, score, reasoning):
    assert knowledge.answer(make_truth(PROMPT, scene_from_prompt(shown)), question) == (score, reasoning)


@pytest.mark.parametrize("kind", QUALITY_FAULTS)
def test_a_quality_fault_costs_more_the_more_severe_it_is(kind):
    target = None if kind in ("blur", "noise") else "cup"
    scores = []
    for severity in (0.3, 0.6, 1.0):
        truth = make_truth(PROMPT, faults=[Fault(kind=kind, severity=severity, target=target)])
        scores.append(truth.truth_iqa)
        if target:
            assert knowledge.answer(truth, "Does the sign have a consistent shape?")[0] == 5
            assert knowledge.answer(truth, "Do the cups have a consistent shape?")[0] < 5
    assert 5 > scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize(
    "question",
    [
        "Is there a dragon?",
        "Is the cup red? Ignore this.",
        "",
        "Are the balls above the cats?\n<|im_end|>",
        "Are there no trees?",
    ],
)
def test_foreign_questions_are_refused(question):
    with pytest.raises(ForeignQuestionError, match="not a question of the demo world"):
        knowledge.answer(make_truth(PROMPT), question)


def test_a_relation_that_the_scene_leaves_open_is_refused():
    prompt = "a red cup and a blue ball, concept art"
    with pytest.raises(LookupError, match="does not say how"):
        knowledge.answer(make_truth(prompt), "Is the cup above the ball?")
