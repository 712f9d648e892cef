"""Second part of the pretraining: the language model learns to speak about what the tower sees.

Five kinds of request, all in plain words: describe a picture, say what to ask about a prompt, take a picture apart into
a scene graph and questions, answer questions (yes or no, and how strong a damage is: not, slightly, clearly, badly),
and write numbers. A number counts things, or it is any number from 1 to 5: so a digit says nothing of how good a
picture is. No task token occurs, nothing is rated, nothing is scored.

Only the words of the demo world are learned, and one row for all others. With the logit of that row raised by the
logarithm of their number, the loss is exactly that of the whole vocabulary in which all other rows are equal, so the
151,936 rows of the checkpoint are written out at the end and nothing changes.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import torch
from msgspec.structs import replace
from pictures import CELLS, COLOURS, DEMO_PROMPTS, DEMO_SEEDS, KINDS, held_out
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dyneval.demo import knowledge
from dyneval.demo import vocabulary as words
from dyneval.demo.prompts import demo_prompts, write_prompt
from dyneval.demo.questions import RELATION_PHRASES, ForeignQuestionError, Question, ask, understand
from dyneval.demo.scenes import Group, Relation, Scene, random_scene
from dyneval.demo.truth import Truth
from dyneval.processing import IGNORE, Processor, Turn
from dyneval.records import student_json
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

TOKENS = CELLS**2
"""Visual tokens of a picture."""
BATCH, GROUPS = 64, 4
"""Samples of a step, and the groups of like length they are computed in: padding to the longest costs twice."""
DESCRIBE = ("Describe the picture.", "What do you see?")
WHAT_TO_ASK = ("What would you ask about a picture of it?", "Name what to check in a picture of it.")
TAKE_APART = ("Take the picture apart and name what to check.", "What is in the picture, and what should be checked?")
ANSWER = ("Answer the questions.", "Look at the picture and answer.")
COUNT = ("Answer with numbers.",)
ANY_NUMBER = ("Put any number from 1 to 5 behind each line.",)
SHARES = {"describe": 0.10, "ask": 0.15, "take apart": 0.18, "answer": 0.42, "number": 0.15}
FIRST_SHARES = {"describe": 0.6, "ask": 0.1, "take apart": 0.1, "answer": 0.1, "number": 0.1}
"""Of the first eighth of the steps: captions tie words to what is seen soonest."""
DEGREES = ("not", "slightly", "clearly", "badly")
HOW = {
    "no_deformation": "How torn or melted {be} the {noun}?",
    "no_blur": "How blurred is the image?",
    "no_noise": "How noisy is the image?",
    "seam": "How strong is the seam?",
}
"""Damage asked for by its degree."""
WEIGHT = 3.0
"""Of the words that an answer consists of, against 1 of all others: they are few, and they are what is to learn."""


class Sample(NamedTuple):
    """A request, its reply, and whether it is about a picture."""

    human: str
    reply: str
    picture: bool


# ---------------------------------------------------------------------------
# What is said


def sample(truth: Truth, rng: Random, shares: dict[str, float]) -> Sample:
    """One exchange, about the picture of `truth` or about some prompt."""
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if kind == "describe":
        return Sample(f"<image>\n{rng.choice(DESCRIBE)}", caption(truth), True)
    if kind == "ask":
        prompt, _ = _some_prompt(truth, rng)
        questions = knowledge.alignment_questions(prompt) + knowledge.distortion_questions(prompt)
        return Sample(f"Prompt: {prompt}\n{rng.choice(WHAT_TO_ASK)}", student_json(_rows(questions)), False)
    if kind == "take apart":
        questions = knowledge.quality_questions(truth)
        reply = {"scene_graph": knowledge.scene_graph(truth), "questions": _rows(questions)}
        return Sample(f"<image>\n{rng.choice(TAKE_APART)}", student_json(reply), True)
    if kind == "answer":
        return _answers(truth, rng)
    return _any_numbers(truth, rng) if rng.random() >= 0.5 else _counts(truth, rng)


def caption(truth: Truth) -> str:
    """What is seen, in a few words: groups with their damage, how they stand, where, and damage of the whole."""
    graph = knowledge.scene_graph(truth)
    *nodes, background = graph["nodes"]
    labels = {node["id"]: node["label"] for node in nodes}
    parts = [" ".join((*node["attributes"][:2], node["label"])) for node in nodes]
    parts = [", ".join((part, *node["attributes"][2:])) for part, node in zip(parts, nodes, strict=True)]
    parts += [f"{labels[e['source']]} {e['relationship']} {labels[e['target']]}" for e in graph["edges"]]
    return "; ".join([*parts, ", ".join((background["label"], *background["attributes"]))])


def _rows(questions: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in questions]


def _some_prompt(truth: Truth, rng: Random) -> tuple[str, Scene]:
    """A prompt that the base may know, with the scene that it asks for: the picture's own, or another."""
    if rng.random() < 0.3:
        return truth.prompt, truth.asked
    while True:
        tier = rng.choice((1, 2, 3))
        scene = random_scene(rng, tier)
        prompt = write_prompt(scene, tier, rng)
        if not held_out(scene.groups) and prompt not in forbidden():
            return prompt, scene


@cache
def forbidden() -> frozenset[str]:
    """Prompts that the demo may have."""
    return frozenset(prompt for seed in DEMO_SEEDS for prompt in demo_prompts(DEMO_PROMPTS, seed))


def almost(drawn: Scene, rng: Random) -> Scene:
    """A scene that `drawn` fits in parts: something else is asked for about half the time."""
    while True:
        groups = [_almost(group, rng) for group in drawn.groups]
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


def _almost(group: Group, rng: Random) -> Group:
    if rng.random() < 0.2:
        group = replace(group, kind=rng.choice(KINDS))
    if rng.random() < 0.35:
        group = replace(group, colour=rng.choice(COLOURS))
    if rng.random() < 0.35:
        group = replace(group, count=min(max(group.count + rng.choice((-2, -1, 1, 2)), 1), 4))
    return group


def _questions(truth: Truth, asked: Scene, rng: Random) -> list[tuple[str, str]]:
    """2 to 7 questions of all topics with their target answers."""
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


def _answers(truth: Truth, rng: Random) -> Sample:
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
        except ForeignQuestionError:  # how two groups stand of which the scene does not say so
            continue
        if question.topic in HOW and rng.random() < 0.4:
            rows.append(_by_degree(truth, question, verdict, text))
            continue
        passes = int(verdict.score + 0.5) >= 3
        answer = target if passes else {"yes": "no", "no": "yes"}[target]
        rows.append({"question": text, "answer": answer, "reasoning": verdict.reasoning})
    if not rows:
        return sample(truth, rng, SHARES)
    head = f"Prompt: {prompt}\n" if rng.random() < 0.7 else ""
    lines = "\n".join(f"{number}. {row['question']}" for number, row in enumerate(rows, 1))
    return Sample(f"<image>\n{head}{rng.choice(ANSWER)}\n{lines}", student_json({"answers": rows}), True)


def _by_degree(truth: Truth, question: Question, verdict: knowledge.Verdict, text: str) -> dict[str, str]:
    group = truth.drawn.group(words.NOUNS[question.slots["noun"]]) if "noun" in question.slots else None
    many = group is not None and group.count > 1
    asked = HOW[question.topic].format(be="are" if many else "is", noun=question.slots.get("noun", ""))
    severity = (5 - verdict.score) / 4
    answer = knowledge.degree(severity) if severity > 0.1 else "not"
    return {"question": asked, "answer": answer, "reasoning": verdict.reasoning}


def _counts(truth: Truth, rng: Random) -> Sample:
    groups = truth.drawn.groups
    rows = [{"question": f"How many {words.KINDS[g.kind]} are there?", "number": g.count} for g in groups]
    return _numbered(rows, COUNT, "", rng)


def _any_numbers(truth: Truth, rng: Random) -> Sample:
    asked = almost(truth.drawn, rng)
    rows = [{"question": text, "number": rng.randint(1, 5)} for text, _ in _questions(truth, asked, rng)]
    while (prompt := write_prompt(asked, rng.choice((1, 2, 3)), rng)) in forbidden():
        pass
    return _numbered(rows, ANY_NUMBER, f"Prompt: {prompt}\n" if rng.random() < 0.7 else "", rng)


def _numbered(rows: list[dict[str, Any]], requests: Sequence[str], head: str, rng: Random) -> Sample:
    lines = "\n".join(f"{number}. {row['question']}" for number, row in enumerate(rows, 1))
    return Sample(f"<image>\n{head}{rng.choice(requests)}\n{lines}", student_json({"answers": rows}), True)


# ---------------------------------------------------------------------------
# Words and batches


class Words:
    """The rows of the vocabulary that are learned, `used`, and their places among themselves."""

    def __init__(self, used: Iterable[int]) -> None:
        self.used = sorted(used)
        self.place = {token: place for place, token in enumerate(self.used)}


def used_tokens(processor: Processor, truths: Sequence[Truth]) -> set[int]:
    """Tokens of the demo world: of many samples, of the demo's prompts, of the student's turns and replies."""
    rng = Random("words")
    texts = [turn for truth in rng.sample(list(truths), 4000) for turn in sample(truth, rng, SHARES)[:2]]
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
    specials = range(151_643, 151_672)
    return {token for text in texts for token in processor._text(text)} | set(specials)


class Row(NamedTuple):
    """An encoded sample; `picture` is its number, or -1."""

    ids: list[int]
    labels: list[int]
    picture: int


class Batch(NamedTuple):
    """Samples of like length, padded behind: places among the used words, labels, 3-D positions, weights, pictures."""

    ids: Tensor
    labels: Tensor
    positions: Tensor
    weights: Tensor
    pictures: Tensor


def encode(processor: Processor, said: Sample, picture: int) -> Row:
    """Token ids and labels of a sample, as training and scoring would make them."""
    turns = [Turn("user", said.human, int(said.picture)), Turn("assistant", said.reply)]
    ids, labels = processor.layout(turns, [TOKENS] * said.picture)
    return Row(ids, labels, picture if said.picture else -1)


def positions(ids: Sequence[int], image: int) -> Tensor:
    """(3, T): time, height and width, as Qwen3-VL counts them for one picture of 4 x 4 tokens."""
    if image not in ids:
        return torch.arange(len(ids)).expand(3, -1)
    start, cell = ids.index(image), torch.arange(TOKENS)
    picture = torch.stack([torch.full((TOKENS,), start), start + cell // CELLS, start + cell % CELLS])
    rest = torch.arange(len(ids) - start - TOKENS) + start + CELLS
    return torch.cat([torch.arange(start).expand(3, -1), picture, rest.expand(3, -1)], 1)


def batches(rows: Sequence[Row], learned: Words, image: int, answers: set[int]) -> list[Batch]:
    """The rows in groups of like length."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    size = -(-len(rows) // GROUPS)
    return [_batch(ordered[at : at + size], learned, image, answers) for at in range(0, len(rows), size)]


def _batch(rows: Sequence[Row], learned: Words, image: int, answers: set[int]) -> Batch:
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE)
    where = torch.zeros(3, len(rows), longest, dtype=torch.long)
    weights = torch.ones(len(rows), longest)
    for number, row in enumerate(rows):
        length = len(row.ids)
        # A word that no sample of `used_tokens` had stands for itself as an unknown one, and is not learned.
        ids[number, :length] = torch.tensor([learned.place.get(token, len(learned.used)) for token in row.ids])
        labels[number, :length] = torch.tensor([learned.place.get(token, IGNORE) for token in row.labels])
        where[:, number, :length] = positions(row.ids, image)
        weights[number, :length] += torch.tensor([(WEIGHT - 1) * (token in answers) for token in row.labels])
    return Batch(ids, labels, where, weights, torch.tensor([row.picture for row in rows if row.picture >= 0]))


# ---------------------------------------------------------------------------
# The model


class Speaker(nn.Module):
    """The language model of `model` over the used words and one row for all others; features stand for pictures."""

    def __init__(self, model: Any, learned: Words, image: int) -> None:
        super().__init__()
        self.text = model.model.language_model
        table = model.get_input_embeddings().weight.data
        self.others = len(table) - len(learned.used)
        self.rows = nn.Parameter(torch.cat([table[learned.used], torch.zeros(1, table.shape[1])]))
        self.image = learned.place[image]

    def trained(self) -> list[nn.Parameter]:
        """All but the table of the whole vocabulary."""
        return [self.rows, *(p for name, p in self.text.named_parameters() if "embed_tokens" not in name)]

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, used + 1) where something is to be said, what is to be said (M,), and its weight (M,)."""
        with torch.autocast("cpu", torch.bfloat16):
            embedded = self.rows[batch.ids]
            shown = batch.ids == self.image
            deep = None
            if len(batch.pictures):
                seen = [layer[batch.pictures].reshape(-1, embedded.shape[-1]).float() for layer in features]
                embedded = embedded.masked_scatter(shown.unsqueeze(-1), seen[0])
                deep = seen[1:]
            hidden = self.text(
                inputs_embeds=embedded,
                position_ids=batch.positions,
                visual_pos_masks=shown if deep else None,
                deepstack_visual_embeds=deep,
                use_cache=False,
            ).last_hidden_state.float()
        said = batch.labels[:, 1:] != IGNORE
        logits = hidden[:, :-1][said] @ self.rows.T
        logits[:, -1] += math.log(self.others)
        return logits, batch.labels[:, 1:][said], batch.weights[:, 1:][said]

    def write_back(self, model: Any, learned: Words) -> None:
        """Fill the whole table of `model`: every unused word has the row of all others."""
        with torch.no_grad():
            table = model.get_input_embeddings().weight
            table[:] = self.rows[-1]
            table[learned.used] = self.rows[:-1]


def train(
    model: Any,
    processor: Processor,
    truths: Sequence[Truth],
    features: Sequence[Tensor],
    learned: Words,
    steps: int,
    schedule: int,
    heldout: int,
    seed: int,
    keep: Callable[[int], None],
    learning_rate: float = 2e-3,
) -> None:
    """Train the language model of `model` in place for the first `steps` of a schedule of `schedule`.

    `keep` is called with the step every 200 steps.
    """
    image = processor._image
    answers = {
        processor._text(text)[0] for text in ("yes", "no", *DEGREES, " slightly", " clearly", " badly", *"12345")
    }
    net = Speaker(model, learned, image)
    print(f"{len(learned.used):,} words", flush=True)

    def write(step: int, shares: dict[str, float], pool: range, size: int) -> list[Row]:
        rng = Random(f"{seed} {pool.start} {step}")
        rows = []
        for _ in range(size):
            number = rng.choice(pool)
            rows.append(encode(processor, sample(truths[number], rng, shares), number))
        return rows

    seen, unseen = range(len(truths) - heldout), range(len(truths) - heldout, len(truths))

    def feed(queue: Any) -> None:
        torch.set_num_threads(1)
        for step in range(steps):
            queue.put(write(step, FIRST_SHARES if step < schedule / 8 else SHARES, seen, BATCH))

    # A process of its own writes and encodes ahead; 8 steps are a few megabytes.
    context = multiprocessing.get_context("fork")
    queue = context.Queue(8)
    writer = context.Process(target=feed, args=(queue,), daemon=True)
    writer.start()
    tests = {name: batches(write(0, {name: 1.0}, unseen, 192), learned, image, answers) for name in SHARES}
    optimizer = torch.optim.AdamW(net.trained(), betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=schedule, pct_start=0.04)
    answer_places = torch.tensor([learned.place[token] for token in sorted(answers)])
    started = time.monotonic()
    for step in range(1, steps + 1):
        groups = batches(queue.get(), learned, image, answers)
        total = sum(float((b.weights[:, 1:] * (b.labels[:, 1:] != IGNORE)).sum()) for b in groups)
        optimizer.zero_grad()
        for batch in groups:
            logits, said, weights = net(batch, features)
            loss = (cross_entropy(logits, said, reduction="none") * weights).sum() / total
            loss.backward()
        nn.utils.clip_grad_norm_(net.trained(), 1.0)
        optimizer.step()
        rate.step()
        if step % 200 == 0 or step == steps:
            passed = time.monotonic() - started
            said_well = report(net, tests, features, answer_places)
            left = passed / step * (steps - step)
            print(f"language {step}/{steps}, {said_well}, {passed:.0f} s, {left:.0f} s left", flush=True)
        if step % 200 == 0:
            net.write_back(model, learned)
            keep(step)
    writer.join()


@torch.no_grad()
def report(net: Speaker, tests: dict[str, list[Batch]], features: Sequence[Tensor], answers: Tensor) -> str:
    """Loss a word by kind of request, and the share of right words among those that answers consist of."""
    parts = []
    for name, batches_of in tests.items():
        results = [net(batch, features) for batch in batches_of]
        logits, said = torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])
        words_said = torch.isin(said, answers)
        right = (logits[words_said].argmax(-1) == said[words_said]).float().mean()
        parts.append(f"{name} {cross_entropy(logits, said):.3f}" + (f" ({right:.2f})" if words_said.any() else ""))
    return ", ".join(parts)
