"""What an ideal teacher would say about a demo prompt or image, in natural English; no image is looked at.

The scores of a truth are the means of the exact scores (`dyneval.demo.verdicts`) over the questions that a teacher
would ask: `truth_t2ia` over `alignment_questions` and `distortion_questions`, `truth_iqa` over `quality_questions`.
`answer` gives the same scores rounded to whole ones, so the mean of its answers is within 0.5 of the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dyneval.demo import vocabulary as words
from dyneval.demo.faults import IMAGE_FAULTS, Fault
from dyneval.demo.grammar import scene_from_prompt
from dyneval.demo.questions import RELATION_PHRASES, ask, understand
from dyneval.demo.scenes import Group, Scene
from dyneval.demo.truth import Truth
from dyneval.demo.verdicts import judge
from dyneval.structs import Row

MAX_QUESTIONS = 10
"""Most questions of one kind that are asked about a pair."""

QuestionAnswer = tuple[str, str]
"""A question and its target answer, "yes" or "no"."""


def make_truth(*, prompt: str, model: str, seed: int, size: int, drawn: Scene, faults: Sequence[Fault]) -> Truth:
    """The truth about an image of `drawn` with `faults`, made for `prompt`. Raises ValueError on a foreign prompt."""
    asked = scene_from_prompt(prompt)
    alignment = _alignment_questions(asked) + _distortion_questions(asked)
    return Truth(
        prompt=prompt,
        model=model,
        seed=seed,
        size=size,
        asked=asked,
        drawn=drawn,
        faults=tuple(faults),
        truth_t2ia=_mean_score(alignment, drawn, faults),
        truth_iqa=_mean_score(_quality_questions(drawn), drawn, faults),
    )


def alignment_questions(prompt: str) -> list[QuestionAnswer]:
    """Atomic questions about the elements of a demo prompt (3-10). Raises ValueError on a foreign prompt."""
    return _alignment_questions(scene_from_prompt(prompt))


def distortion_questions(prompt: str) -> list[QuestionAnswer]:
    """Questions of the form "Are there no ...?" about what a demo prompt names (4-7). Raises ValueError as above."""
    return _distortion_questions(scene_from_prompt(prompt))


def quality_questions(truth: Truth) -> list[QuestionAnswer]:
    """Questions about shape, distortion, texture and place of the parts of what was drawn (3-10)."""
    return _quality_questions(truth.drawn)


def answer(truth: Truth, question: str) -> tuple[int, str]:
    """Score 1-5 and a reason under 15 words for a question worded by one of the three functions above.

    Raises:
        ForeignQuestionError: a LookupError; the question is not one of the demo world.
    """
    verdict = judge(understand(question), truth.drawn, truth.faults)
    return int(verdict.score + 0.5), verdict.reasoning


def _mean_score(asked: Iterable[QuestionAnswer], drawn: Scene, faults: Sequence[Fault]) -> float:
    scores = [judge(understand(question), drawn, faults).score for question, _ in asked]
    return round(sum(scores) / len(scores), 4)


# ---------------------------------------------------------------------------
# Questions


def _alignment_questions(scene: Scene) -> list[QuestionAnswer]:
    """The most telling questions first, so that the cut at `MAX_QUESTIONS` leaves out sizes and materials."""
    first = [ask("presence", g.count > 1, some=_some(g)) for g in scene.groups]
    first += [ask("colour", g.count > 1, noun=g.noun, colour=g.colour) for g in scene.groups]
    first += [ask("text", g.count > 1, noun=g.noun, label=g.label) for g in scene.groups if g.label]
    first += [_relation_question(scene, i) for i in range(len(scene.relations))]
    several = sorted(scene.groups, key=lambda group: group.count == 1)
    rest = [ask("count", g.count > 1, number=words.COUNTS[g.count], noun=g.noun) for g in several]
    if scene.setting != words.STUDIO:
        rest.append(ask("setting", setting=words.SETTING_NAMES[scene.setting]))
    for g in scene.groups:
        if g.material != words.PLAIN:
            rest.append(ask("material", g.count > 1, noun=g.noun, material=words.MATERIALS[g.material]))
        if g.size != words.MEDIUM:
            rest.append(ask("size", g.count > 1, noun=g.noun, size=g.size))
    return [(question, "yes") for question in (first + rest)[:MAX_QUESTIONS]]


def _some(group: Group) -> str:
    return words.with_article(group.noun) if group.count == 1 else group.noun


def _relation_question(scene: Scene, index: int) -> str:
    relation = scene.relations[index]
    subject, other = scene.group(relation.subject), scene.group(relation.object)
    assert subject and other, "a relation joins two groups of its scene"
    return ask(
        "relation", subject.count > 1, noun=subject.noun, relation=RELATION_PHRASES[relation.name], other=other.noun
    )


def _distortion_questions(scene: Scene) -> list[QuestionAnswer]:
    asked = [ask("no_deformation", noun=group.noun) for group in scene.groups]
    return [(question, "yes") for question in (*asked, ask("no_cut"), ask("no_blur"), ask("no_noise"))]


def _quality_questions(drawn: Scene) -> list[QuestionAnswer]:
    whole = [(ask(topic), "yes") for topic in ("blur", "noise", "seam")]
    if not drawn.groups:
        return whole
    asked: list[QuestionAnswer] = []
    turn = 0
    while len(asked) < min(MAX_QUESTIONS - len(whole), 6 * len(drawn.groups)):
        group = drawn.groups[turn % len(drawn.groups)]
        asked.append(_part_question(group, turn // len(drawn.groups) + turn % len(drawn.groups)))
        turn += 1
    return asked + whole


def _part_question(group: Group, turn: int) -> QuestionAnswer:
    """The `turn`-th of the six questions about a group; groups begin at different ones, so all topics come up."""
    main, side = group.parts
    many = group.count > 1
    topics = (
        ("shape", main),
        ("distortion", side),
        ("texture", main),
        ("spatial", ""),
        ("shape", side),
        ("distortion", main),
    )
    topic, part = topics[turn % len(topics)]
    if topic == "spatial":
        return ask(topic, many, noun=group.noun), "yes"
    return ask(topic, noun=group.noun, part=part), "no" if topic == "distortion" else "yes"


# ---------------------------------------------------------------------------
# Scene graph


def scene_graph(truth: Truth) -> dict[str, list[Row]]:
    """The scene graph of the image as drawn: a node for every group and the background, an edge for every relation.

    Nodes hold "id", "label" and "attributes" (colour, material, size, number, parts and what is wrong with them);
    edges hold "source", "target" and "relationship".
    """
    drawn = truth.drawn
    ids = {group.kind: f"{group.kind}_{i}" for i, group in enumerate(drawn.groups, 1)}
    nodes = [{"id": ids[g.kind], "label": g.noun, "attributes": _attributes(g, truth.faults)} for g in drawn.groups]
    setting = words.SETTING_NAMES.get(drawn.setting, "a plain studio")
    wide = [f.kind for f in truth.faults if f.kind in IMAGE_FAULTS]
    background = [setting.split(" ", 1)[1], *({"blur": "blurred", "noise": "noisy"}[kind] for kind in wide)]
    nodes.append({"id": "background", "label": "background", "attributes": background})
    edges = [
        {"source": ids[r.subject], "target": ids[r.object], "relationship": RELATION_PHRASES[r.name]}
        for r in drawn.relations
    ]
    if not edges and drawn.groups:
        edges = [{"source": node, "target": "background", "relationship": "in front of"} for node in ids.values()]
    return {"nodes": nodes, "edges": edges}


def _attributes(group: Group, faults: Iterable[Fault]) -> list[str]:
    attributes = [words.COUNTS[group.count], group.colour]
    attributes += [word for word in (group.material, group.size) if word not in (words.PLAIN, words.MEDIUM)]
    if group.label:
        attributes.append(f'text "{group.label}"')
    spoiled = {fault.kind for fault in faults if fault.target == group.kind}
    main, side = group.parts
    state = next((word for word in ("torn", "melted") if word in spoiled), "intact")
    attributes += [f"{state} {main}", f"{state} {side}"]
    if "cut_off" in spoiled:
        attributes.append("cut off at the edge")
    if "seam" in spoiled:
        attributes.append("crossed by a seam")
    return attributes
