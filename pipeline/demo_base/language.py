"""Second part of the pretraining: the language model learns to speak about what the tower sees.

Only the words of the demo world are learned, and one row for all others. With the logit of that row raised by the
logarithm of their number, the loss is exactly that of the whole vocabulary in which all other rows are equal, so the
151,936 rows of the checkpoint are written out at the end and nothing changes.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

import torch
from pictures import CELLS
from speech import DEGREES, FIRST_SHARES, SHARES, Sample, sample
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dyneval.demo.truth import Truth
from dyneval.processing import IGNORE, ChatTurn, Processor

TOKENS = CELLS**2
"""Visual tokens of a picture."""
BATCH, GROUPS = 64, 4
"""Samples of a step, and the groups of like length they are computed in: padding to the longest costs twice."""
WEIGHT = 3.0
"""Of the words that an answer consists of, against 1 of all others: they are few, and they are what is to learn."""


# ---------------------------------------------------------------------------
# Words and batches


class Words:
    """The rows of the vocabulary that are learned, `used`, and their places among themselves."""

    def __init__(self, used: Iterable[int]) -> None:
        self.used = sorted(used)
        self.place = {token: place for place, token in enumerate(self.used)}


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
    turns = [ChatTurn("user", said.human, int(said.picture)), ChatTurn("assistant", said.reply)]
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

    def hidden(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Last hidden states (B, T, width), float32."""
        with torch.autocast("cpu", torch.bfloat16):
            embedded = self.rows[batch.ids]
            shown = batch.ids == self.image
            deep = None
            if len(batch.pictures):
                seen = [layer[batch.pictures].reshape(-1, embedded.shape[-1]).float() for layer in features]
                embedded = embedded.masked_scatter(shown.unsqueeze(-1), seen[0])
                deep = seen[1:]
            last = self.text(
                inputs_embeds=embedded,
                position_ids=batch.positions,
                visual_pos_masks=shown if deep else None,
                deepstack_visual_embeds=deep,
                use_cache=False,
            ).last_hidden_state
        return last.float()

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, used + 1) where something is to be said, what is to be said (M,), and its weight (M,)."""
        said = batch.labels[:, 1:] != IGNORE
        logits = self.hidden(batch, features)[:, :-1][said] @ self.rows.T
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
    heldout: int,
    seed: int,
    learning_rate: float = 2e-3,
) -> None:
    """Train the language model of `model` in place; the last `heldout` pictures are for the log's figures."""
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
            queue.put(write(step, FIRST_SHARES if step < steps / 8 else SHARES, seen, BATCH))

    # A process of its own writes and encodes ahead; 8 steps are a few megabytes.
    context = multiprocessing.get_context("fork")
    queue = context.Queue(8)
    writer = context.Process(target=feed, args=(queue,), daemon=True)
    writer.start()
    tests = {name: batches(write(0, {name: 1.0}, unseen, 192), learned, image, answers) for name in SHARES}
    optimizer = torch.optim.AdamW(net.trained(), betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.04)
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
    net.write_back(model, learned)
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
