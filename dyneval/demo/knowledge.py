"""What an ideal teacher would say about a demo prompt or image, in natural English; no image is looked at.

The oracle teaches from here, and the truth that students are measured by is made here. Both use the same questions and
scores, so the teacher is right about every image.

The scores rest on severities (`dyneval.demo.faults`): an element that is missing scores 1; a wrong one, a fault of
severity s or a damage d scores 5 - 4 s. Several faults add up to the damage 1 - (1 - w1 s1)(1 - w2 s2)..., where the
weight w says how much a fault harms what the question is about (`HARM`).

The scores of a truth are the means of the exact scores over the questions that a teacher would ask: `truth_t2ia` over
`alignment_questions` and `distortion_questions`, `truth_iqa` over `quality_questions`. `answer` gives the same scores
rounded to whole ones, so the mean of its answers is within 0.5 of the truth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from dyneval.demo import vocabulary as words
from dyneval.demo.faults import IMAGE_FAULTS, Fault, colour_severity, count_severity
from dyneval.demo.prompts import scene_from_prompt
from dyneval.demo.questions import RELATION_PHRASES, DemoQuestion, ForeignQuestionError, ask, understand
from dyneval.demo.scenes import Group, Scene
from dyneval.demo.truth import Truth
from dyneval.structs import Row

MAX_QUESTIONS = 5
"""Most alignment questions, and most quality questions, that are asked about a pair."""

HARM: dict[str, dict[str, float]] = {
    "no_deformation": {"torn": 1.0, "melted": 1.0},
    "no_blur": {"blur": 1.0},
    "no_noise": {"noise": 1.0},
    "shape": {"torn": 1.0, "melted": 1.0, "cut_off": 0.7, "seam": 0.6, "blur": 0.3, "noise": 0.2},
    "texture": {"blur": 1.0, "noise": 1.0, "seam": 0.3},
    "seam": {"seam": 1.0},
    "spatial": {"torn": 0.6, "melted": 0.5, "cut_off": 1.0, "seam": 0.8, "blur": 0.2, "noise": 0.1},
    "distortion": {"torn": 1.0, "melted": 1.0, "cut_off": 0.4, "seam": 0.7},
}
"""Topic of a question -> fault -> weight 0-1."""

_LOOKS = {
    "torn": "torn apart",
    "melted": "melted",
    "cut_off": "cut off at the edge",
    "seam": "broken by a seam",
    "blur": "blurred",
    "noise": "noisy",
}

QuestionAnswer = tuple[str, str]
"""A question and its target answer, "yes" or "no"."""


class ExactScore(NamedTuple):
    """Exact score in [1, 5] and the reason for it, under 15 words."""

    score: float
    reasoning: str


def make_truth(*, prompt: str, model: str, seed: int, size: int, drawn: Scene, faults: Sequence[Fault]) -> Truth:
    """Return the truth about an image.

    Args:
        prompt: that it was drawn for.
        model: slug of the demo model.
        seed: that it was drawn from.
        size: pixels a side.
        drawn: the scene that it shows.
        faults: all of them, of alignment and of quality.

    Raises:
        ValueError: `prompt` is not a demo prompt.
    """
    scores = []
    for questions in (alignment_questions(prompt) + distortion_questions(prompt), quality_questions(drawn)):
        exact = [judge(understand(question), drawn, faults).score for question, _ in questions]
        scores.append(round(sum(exact) / len(exact), 4))
    return Truth(
        prompt=prompt,
        model=model,
        seed=seed,
        size=size,
        asked=scene_from_prompt(prompt),
        drawn=drawn,
        faults=tuple(faults),
        truth_t2ia=scores[0],
        truth_iqa=scores[1],
    )


# ---------------------------------------------------------------------------
# Questions


def alignment_questions(prompt: str) -> list[QuestionAnswer]:
    """Return questions about single elements of a demo prompt (3-5). Raises ValueError on a foreign prompt.

    The most telling ones come first: a question about a colour fails, too, where the thing is missing.
    """
    scene = scene_from_prompt(prompt)
    several = sorted(scene.groups, key=lambda group: group.count == 1)
    questions = [ask("colour", g.count > 1, noun=g.noun, colour=g.colour) for g in scene.groups]
    for relation in scene.relations:
        subject, other = scene.group(relation.subject), scene.group(relation.object)
        assert subject and other, "a relation joins two groups of its scene"
        shown = RELATION_PHRASES[relation.name]
        questions.append(ask("relation", subject.count > 1, noun=subject.noun, relation=shown, other=other.noun))
    questions += [ask("count", g.count > 1, number=words.COUNTS[g.count], noun=g.noun) for g in several]
    for g in scene.groups:
        questions.append(ask("presence", g.count > 1, some=words.with_article(g.noun) if g.count == 1 else g.noun))
    if scene.setting != words.STUDIO:
        questions.append(ask("setting", setting=words.SETTING_NAMES[scene.setting]))
    return [(question, "yes") for question in questions[:MAX_QUESTIONS]]


def distortion_questions(prompt: str) -> list[QuestionAnswer]:
    """Return three questions about damage to what a demo prompt names. Raises ValueError on a foreign prompt."""
    first = scene_from_prompt(prompt).groups[0]
    asked = (ask("no_deformation", first.count > 1, noun=first.noun), ask("no_blur"), ask("no_noise"))
    return [(question, "yes") for question in asked]


def quality_questions(drawn: Scene) -> list[QuestionAnswer]:
    """Return questions about shape, texture, seams, place and distortion of what was drawn (5; 2 of an empty scene)."""
    asked = [(ask("shape", g.count > 1, noun=g.noun), "yes") for g in drawn.groups]
    asked += [(ask("texture"), "yes"), (ask("seam"), "yes")]
    asked += [(ask("spatial", g.count > 1, noun=g.noun), "yes") for g in drawn.groups]
    # The only questions that a flawless image answers with no.
    asked += [(ask("distortion", g.count > 1, noun=g.noun), "no") for g in drawn.groups]
    return asked[:MAX_QUESTIONS]


# ---------------------------------------------------------------------------
# Answers


def answer(truth: Truth, question: str) -> tuple[int, str]:
    """Return the score 1-5 of a question that one of the three functions above worded, and a reason under 15 words.

    Raises:
        ForeignQuestionError: a LookupError; the question is not one of the demo world.
    """
    verdict = judge(understand(question), truth.drawn, truth.faults)
    return int(verdict.score + 0.5), verdict.reasoning


def judge(question: DemoQuestion, drawn: Scene, faults: Sequence[Fault]) -> ExactScore:
    """Return the exact score of an image that shows `drawn` with `faults`, and the reason for it.

    Args:
        question: taken apart by `understand`.
        drawn: what the image shows.
        faults: all of its faults; those of alignment show in `drawn` already and are passed over.

    Raises:
        ForeignQuestionError: it asks for the relation of two groups between which the scene has none.
    """
    topic, slots = question
    if topic == "setting":
        shown = words.SETTING_NAMES.get(drawn.setting, "a plain studio")
        return ExactScore(5.0 if shown == slots["setting"] else 1.0, f"It shows {shown}.")
    if "noun" not in slots and topic != "presence":
        return _damaged(topic, None, faults)
    noun = slots["some"].split()[-1] if topic == "presence" else slots["noun"]  # "an apple", "cats"
    kind = words.NOUNS[noun]
    group = drawn.group(kind)
    if group is None:
        return ExactScore(1.0, f"There is no {kind}.")
    if topic == "presence":
        return ExactScore(5.0, f"There {_be(group)} {words.COUNTS[group.count]} {group.noun}.")
    if topic == "colour":
        reason = f"The {group.noun} {_be(group)} {group.colour}."
        return _verdict(colour_severity(slots["colour"], group.colour), reason)
    if topic == "count":
        asked = next(count for count, word in words.COUNTS.items() if word == slots["number"])
        return _verdict(count_severity(asked, group.count), f"There {_be(group)} {words.COUNTS[group.count]}.")
    if topic == "relation":
        return _relation(group, slots, drawn)
    own = [fault for fault in faults if fault.target == group.kind or fault.kind in IMAGE_FAULTS]
    return _damaged(topic, group, own)


def degree(severity: float) -> str:
    """Return a severity or damage in (0, 1] in a word."""
    return "slightly" if severity < 0.35 else "clearly" if severity < 0.7 else "badly"


def _verdict(severity: float, reasoning: str) -> ExactScore:
    return ExactScore(5.0 - 4.0 * severity, reasoning)


def _relation(group: Group, slots: dict[str, str], drawn: Scene) -> ExactScore:
    """Judge a question about the relation of a group to another one."""
    kind = words.NOUNS[slots["other"]]
    other = drawn.group(kind)
    if other is None:
        return ExactScore(1.0, f"There is no {kind}.")
    found = drawn.relation(group.kind, kind)
    if found is None:
        raise ForeignQuestionError(f"the demo world does not say how the {group.noun} and the {other.noun} stand")
    shown = RELATION_PHRASES[found.name]
    severity = 0.0 if shown == slots["relation"] else 1.0
    return _verdict(severity, f"The {group.noun} {_be(group)} {shown} the {other.noun}.")


def _damaged(topic: str, group: Group | None, faults: Sequence[Fault]) -> ExactScore:
    """Judge a question about damage; where no group is asked about, to the whole image."""
    subject = f"The {group.noun} {_be(group)}" if group else "The image is"
    harms = [HARM[topic].get(fault.kind, 0.0) * fault.severity for fault in faults]
    # The fault that harms most is named, unless it hardly shows: a person would not name it either.
    most = max(harms, default=0.0)
    state = f"{degree(most)} {_LOOKS[faults[harms.index(most)].kind]}" if most > 0.1 else "fine"
    # What is left of a flawless picture, see the formula at the top of this file.
    whole = math.prod(1.0 - harm for harm in harms)
    return _verdict(1.0 - whole, f"{subject} {state}.")


def _be(group: Group) -> str:
    return "is" if group.count == 1 else "are"


# ---------------------------------------------------------------------------
# Scene graph


def scene_graph(truth: Truth) -> dict[str, list[Row]]:
    """Return the scene graph of the image as drawn.

    Returns:
        "nodes", one for every group and one for the background, with "id", "label" and "attributes" (number, colour and
        what is wrong); "edges", one for every relation, with "source", "target" and "relationship".
    """
    drawn = truth.drawn
    damages: dict[str | None, list[str]] = defaultdict(list)
    for fault in truth.faults:
        if fault.kind in _LOOKS:
            damages[fault.target].append(f"{degree(fault.severity)} {_LOOKS[fault.kind]}")
    nodes: list[Row] = []
    for g in drawn.groups:
        attributes = [words.COUNTS[g.count], g.colour, *damages[g.kind]]
        nodes.append({"id": g.kind, "label": g.noun, "attributes": attributes})
    setting = words.SETTING_NAMES.get(drawn.setting, "a plain studio").split(" ", 1)[1]
    # A fault without a target is one of the whole image.
    nodes.append({"id": "background", "label": setting, "attributes": damages[None]})
    edges = [
        {"source": r.subject, "target": r.object, "relationship": RELATION_PHRASES[r.name]} for r in drawn.relations
    ]
    return {"nodes": nodes, "edges": edges}
