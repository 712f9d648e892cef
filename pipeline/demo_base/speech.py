"""Writes the exchanges on which the demo's base is pretrained: requests about pictures and prompts, and replies.

Five kinds of request, all in plain words: describe a picture, say what to ask about a prompt, take a picture apart into
a scene graph and questions, answer questions (yes or no, and how strong a damage is: not, slightly, clearly, badly),
and count. No task token occurs and nothing is rated or scored: that is left for the fine-tuning that the demo shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from msgspec.structs import replace
from pictures import COLOURS, KINDS, allowed_prompt, forbidden, held_out

from dyneval.demo import knowledge
from dyneval.demo import vocabulary as words
from dyneval.demo.prompts import demo_prompts, write_prompt
from dyneval.demo.questions import RELATION_PHRASES, ForeignQuestionError, ask, understand
from dyneval.demo.scenes import Relation, Scene
from dyneval.demo.truth import Truth
from dyneval.processing import Processor
from dyneval.records import student_json
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

DESCRIBE = ("Describe the picture.", "What do you see?")
WHAT_TO_ASK = ("What would you ask about a picture of it?", "Name what to check in a picture of it.")
TAKE_APART = ("Take the picture apart and name what to check.", "What is in the picture, and what should be checked?")
ANSWER = ("Answer the questions.", "Look at the picture and answer.")
COUNT = ("Answer with numbers.",)
# Answering alone taught a model of this size nothing in 950 steps (dev/LOG.md), so the other kinds come along.
SHARES = {"describe": 0.10, "ask": 0.14, "take apart": 0.18, "answer": 0.48, "count": 0.10}
FIRST_SHARES = {"describe": 0.6, "ask": 0.1, "take apart": 0.1, "answer": 0.1, "count": 0.1}
"""Shares in the first eighth of the steps: captions are the shortest way to tie words to what is seen."""
DEGREES = ("not", "slightly", "clearly", "badly")
HOW = {
    "no_deformation": "How torn or melted {be} the {noun}?",
    "no_blur": "How blurred is the image?",
    "no_noise": "How noisy is the image?",
    "seam": "How strong is the seam?",
}
"""Damage asked for by its degree."""


class Exchange(NamedTuple):
    """A request, its reply, and whether it is about a picture."""

    human: str
    reply: str
    picture: bool


def sample(truth: Truth, rng: Random, shares: dict[str, float]) -> Exchange:
    """Write one exchange about the picture of `truth` or about some prompt; `shares` are those of the kinds."""
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if kind == "describe":
        return Exchange(f"<image>\n{rng.choice(DESCRIBE)}", caption(truth), True)
    if kind == "ask":
        prompt = truth.prompt if rng.random() < 0.3 else allowed_prompt(rng)
        questions = knowledge.alignment_questions(prompt) + knowledge.distortion_questions(prompt)
        return Exchange(f"Prompt: {prompt}\n{rng.choice(WHAT_TO_ASK)}", student_json(_rows(questions)), False)
    if kind == "take apart":
        questions = knowledge.quality_questions(truth.drawn)
        reply = {"scene_graph": knowledge.scene_graph(truth), "questions": _rows(questions)}
        return Exchange(f"<image>\n{rng.choice(TAKE_APART)}", student_json(reply), True)
    if kind == "count" and truth.drawn.groups:
        how_many = [f"How many {words.KINDS[group.kind]} are there?" for group in truth.drawn.groups]
        counts = [group.count for group in truth.drawn.groups]
        rows = [{"question": text, "number": count} for text, count in zip(how_many, counts, strict=True)]
        human = f"<image>\n{rng.choice(COUNT)}\n{_numbered(how_many)}"
        return Exchange(human, student_json({"answers": rows}), True)
    return _answers(truth, rng)


def caption(truth: Truth) -> str:
    """Describe a picture in a few words.

    Groups come with their damage, then relations, then the setting with the damage of the whole picture.
    """
    graph = knowledge.scene_graph(truth)
    *nodes, background = graph["nodes"]
    labels = {node["id"]: node["label"] for node in nodes}
    parts = [" ".join((*node["attributes"][:2], node["label"])) for node in nodes]
    parts = [", ".join((part, *node["attributes"][2:])) for part, node in zip(parts, nodes, strict=True)]
    parts += [f"{labels[e['source']]} {e['relationship']} {labels[e['target']]}" for e in graph["edges"]]
    return "; ".join([*parts, ", ".join((background["label"], *background["attributes"]))])


def _rows(questions: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in questions]


def almost(drawn: Scene, rng: Random) -> Scene:
    """A scene that the picture fits in parts, as almost every prompt does."""
    while True:
        groups = []
        for group in drawn.groups:
            if rng.random() < 0.2:
                group = replace(group, kind=rng.choice(KINDS))
            if rng.random() < 0.35:
                group = replace(group, colour=rng.choice(COLOURS))
            if rng.random() < 0.35:
                group = replace(group, count=min(max(group.count + rng.choice((-2, -1, 1, 2)), 1), 4))
            groups.append(group)
        if len({group.kind for group in groups}) < len(groups) or held_out(tuple(groups)):
            continue
        renamed = {old.kind: new.kind for old, new in zip(drawn.groups, groups, strict=True)}
        relations = [
            Relation(subject=renamed[r.subject], name=r.name, object=renamed[r.object]) for r in drawn.relations
        ]
        relations = [relation.inverse() if rng.random() < 0.4 else relation for relation in relations]
        other = rng.random() < 0.3
        setting = rng.choice([words.STUDIO, *sorted(words.SETTINGS)]) if other else drawn.setting
        return Scene(groups=tuple(groups), relations=tuple(relations), setting=setting)


def _questions(truth: Truth, asked: Scene, rng: Random) -> list[tuple[str, str]]:
    """Choose 2 to 7 questions of all topics, with their target answers.

    `asked` is the scene of a prompt, which need not be what was drawn.
    """
    groups, drawn = asked.groups, truth.drawn.groups
    everything = [(ask("colour", g.count > 1, noun=g.noun, colour=g.colour), "yes") for g in groups]
    everything += [(ask("count", g.count > 1, number=words.COUNTS[g.count], noun=g.noun), "yes") for g in groups]
    everything += [
        (ask("presence", g.count > 1, some=words.with_article(g.noun) if g.count == 1 else g.noun), "yes")
        for g in groups
    ]
    for relation in asked.relations:
        subject, other = asked.group(relation.subject), asked.group(relation.object)
        assert subject and other
        slots = {"noun": subject.noun, "relation": RELATION_PHRASES[relation.name], "other": other.noun}
        everything.append((ask("relation", subject.count > 1, **slots), "yes"))
    if asked.setting != words.STUDIO:
        everything.append((ask("setting", setting=words.SETTING_NAMES[asked.setting]), "yes"))
    damage = [(ask(topic), "yes") for topic in ("no_blur", "no_noise", "texture", "seam")]
    for g in drawn:
        damage += [(ask(t, g.count > 1, noun=g.noun), "yes") for t in ("no_deformation", "shape", "spatial")]
        damage.append((ask("distortion", g.count > 1, noun=g.noun), "no"))
    number = rng.randint(2, 7)
    pictured = sum(rng.random() < 0.5 for _ in range(number))
    chosen = rng.sample(everything, min(number - pictured, len(everything)))
    chosen += rng.sample(damage, min(max(pictured, 1), len(damage)))
    rng.shuffle(chosen)
    return chosen


def _answers(truth: Truth, rng: Random) -> Exchange:
    if rng.random() < 0.35:
        prompt, asked = truth.prompt, truth.asked
    else:
        asked = almost(truth.drawn, rng)
        while (prompt := write_prompt(asked, rng.choice((1, 2, 3)), rng)) in forbidden():
            pass
    rows = []
    for text, target in _questions(truth, asked, rng):
        question = understand(text)
        try:
            verdict = knowledge.judge(question, truth.drawn, truth.faults)
        except ForeignQuestionError:  # a relation of two groups about which the scene says nothing
            continue
        if question.topic in HOW and rng.random() < 0.4:
            # Asked for by its degree: yes and no alone would not teach that damage has grades, which scores have.
            group = truth.drawn.group(words.NOUNS[question.slots["noun"]]) if "noun" in question.slots else None
            be = "are" if group is not None and group.count > 1 else "is"
            severity = (5 - verdict.score) / 4
            rows.append(
                {
                    "question": HOW[question.topic].format(be=be, noun=question.slots.get("noun", "")),
                    "answer": knowledge.degree(severity) if severity > 0.1 else "not",
                    "reasoning": verdict.reasoning,
                }
            )
            continue
        passes = int(verdict.score + 0.5) >= 3
        answer = target if passes else {"yes": "no", "no": "yes"}[target]
        rows.append({"question": text, "answer": answer, "reasoning": verdict.reasoning})
    if not rows:
        return sample(truth, rng, SHARES)
    head = f"Prompt: {prompt}\n" if rng.random() < 0.7 else ""
    lines = _numbered(row["question"] for row in rows)
    return Exchange(f"<image>\n{head}{rng.choice(ANSWER)}\n{lines}", student_json({"answers": rows}), True)


def _numbered(questions: Iterable[str]) -> str:
    return "\n".join(f"{number}. {question}" for number, question in enumerate(questions, 1))


def judged(truth: Truth, task: str, rng: Random) -> tuple[Exchange, list[float]]:
    """Write a judge's request and reply with random scores, and return the true scores (1-5) beside it.

    `neutral` measures with it what the base would say; the base is never trained on it.

    Args:
        truth: of the picture.
        task: "t2ia" or "iqa".
        rng: draws the random scores.
    """
    questions = knowledge.quality_questions(truth.drawn)
    if task == "t2ia":
        questions = knowledge.alignment_questions(truth.prompt) + knowledge.distortion_questions(truth.prompt)
    texts = [question for question, _ in questions]
    verdicts = [knowledge.judge(understand(text), truth.drawn, truth.faults) for text in texts]
    rows = [
        {"question": text, "score": rng.randint(1, 5), "reasoning": verdict.reasoning}
        for text, verdict in zip(texts, verdicts, strict=True)
    ]
    exchange = Exchange(evaluation_turn(truth.prompt, texts), student_json({"answers": rows}), True)
    return exchange, [verdict.score for verdict in verdicts]


def used_tokens(processor: Processor, truths: Sequence[Truth]) -> set[int]:
    """Return the tokens of the demo world: of many exchanges, the demo's prompts, the student's turns and replies."""
    # A token that is missing here shares one row with all others, and the base cannot tell it from them.
    rng = Random("words")
    texts = [
        turn for truth in rng.sample(list(truths), min(4000, len(truths))) for turn in sample(truth, rng, SHARES)[:2]
    ]
    prompts = demo_prompts(6000, 0)
    texts += [*prompts, t2ia_turn(prompts[0], "readme"), t2ia_turn(prompts[0], "release"), iqa_turn()]
    texts.append(evaluation_turn(prompts[0], ["Is it?"]))
    texts.append(student_json({"score": 1, "target_answer": "yes", "answer": "no", "correct": True, "reasoning": "x"}))
    texts += [f"{n}. {n}" for n in range(1, 21)] + ["user\n", "assistant\n", "true false null", "1.5"]
    for table in (
        words.KINDS,
        words.KINDS.values(),
        words.COLOURS,
        words.COUNTS.values(),
        words.SETTING_NAMES.values(),
    ):
        texts += [form for text in table for form in (text, f" {text}", f'"{text}"')]
    specials = range(151_643, 151_672)  # the added tokens of the base tokenizer, and the three task tokens
    return {token for text in texts for token in processor._text(text)} | set(specials)
