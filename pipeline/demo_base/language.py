"""Second part of the pretraining of the demo's base: the language model learns to speak about what the tower sees.

Only the words of the demo world are learned, out of 151,936 rows of the vocabulary, and one row for all others. With
the logit of that row raised by the logarithm of their number, the loss is exactly that of the whole vocabulary in which
all other rows are equal. At the end the whole table is written out, and the model computes what it did in training.
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
from speech import DEGREES, FIRST_SHARES, SHARES, Exchange, sample
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dyneval.demo.truth import Truth
from dyneval.processing import IGNORE, Processor, Turn

TOKENS = CELLS**2
"""Visual tokens of a picture."""
BATCH, GROUPS = 64, 4
"""Samples of a step, and groups of like length that they are computed in: padding all to the longest costs twice."""
WEIGHT = 3.0
"""Weight in the loss of words that answers consist of, against 1 of all others: they are few, and they matter."""


# ---------------------------------------------------------------------------
# Words and batches


class Words:
    """The tokens that are learned: `used`, sorted, and `place`, which gives the index of a token in `used`."""

    def __init__(self, used: Iterable[int]) -> None:
        self.used = sorted(used)
        self.place = {token: place for place, token in enumerate(self.used)}


class EncodedSample(NamedTuple):
    """Token ids and labels of a sample, both of one length; `picture` is the number of its picture, or -1."""

    ids: list[int]
    labels: list[int]
    picture: int


class Batch(NamedTuple):
    """B samples of like length, padded at their ends to T tokens."""

    ids: Tensor
    """(B, T): places among the used words."""
    labels: Tensor
    """(B, T): the same, or IGNORE."""
    positions: Tensor
    """(3, B, T): time, height, width."""
    weights: Tensor
    """(B, T): of each token in the loss."""
    pictures: Tensor
    """Numbers of the pictures, of those samples that have one."""


def encode(processor: Processor, exchange: Exchange, picture: int) -> EncodedSample:
    """Token ids and labels of an exchange, by the same `Processor.layout` that training and scoring use."""
    turns = [Turn("user", exchange.human, int(exchange.picture)), Turn("assistant", exchange.reply)]
    ids, labels = processor.layout(turns, [TOKENS] * exchange.picture)
    return EncodedSample(ids, labels, picture if exchange.picture else -1)


def positions(ids: Sequence[int], image: int) -> Tensor:
    """Positions (3, T) of time, height and width, as Qwen3-VL counts them for one picture of 4 x 4 tokens."""
    # A picture takes one step of time. The text behind it goes on after the longer side, 4, not after 16 tokens.
    if image not in ids:
        return torch.arange(len(ids)).expand(3, -1)
    start, cell = ids.index(image), torch.arange(TOKENS)
    picture = torch.stack([torch.full((TOKENS,), start), start + cell // CELLS, start + cell % CELLS])
    rest = torch.arange(len(ids) - start - TOKENS) + start + CELLS
    return torch.cat([torch.arange(start).expand(3, -1), picture, rest.expand(3, -1)], 1)


def batches(samples: Sequence[EncodedSample], learned: Words, image: int, answers: set[int]) -> list[Batch]:
    """Samples as `GROUPS` batches of like length.

    Args:
        samples: of one step.
        learned: the words.
        image: id of the image token.
        answers: ids of the words that answers consist of, which weigh `WEIGHT`.
    """
    ordered = sorted(samples, key=lambda row: len(row.ids))
    size = -(-len(samples) // GROUPS)
    made = []
    for start in range(0, len(samples), size):
        rows = ordered[start : start + size]
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        labels = torch.full((len(rows), longest), IGNORE)
        where = torch.zeros(3, len(rows), longest, dtype=torch.long)
        weights = torch.ones(len(rows), longest)
        for number, row in enumerate(rows):
            length = len(row.ids)
            # A word that `used_tokens` did not meet is read as the one row of all others, and is not learned.
            ids[number, :length] = torch.tensor([learned.place.get(token, len(learned.used)) for token in row.ids])
            labels[number, :length] = torch.tensor([learned.place.get(token, IGNORE) for token in row.labels])
            where[:, number, :length] = positions(row.ids, image)
            weights[number, :length] += torch.tensor([(WEIGHT - 1) * (token in answers) for token in row.labels])
        pictures = torch.tensor([row.picture for row in rows if row.picture >= 0])
        made.append(Batch(ids, labels, where, weights, pictures))
    return made


# ---------------------------------------------------------------------------
# The model


class Speaker(nn.Module):
    """The language model of `model` over the used words and one row for all others.

    It takes the tower's features instead of pictures: the tower is finished, and runs once for each picture.
    """

    def __init__(self, model: Any, learned: Words, image: int) -> None:
        super().__init__()
        self.text = model.model.language_model
        table = model.get_input_embeddings().weight.data
        self.others = len(table) - len(learned.used)
        # The embedding and the head are one table (tied weights), so the same rows are read and written.
        self.rows = nn.Parameter(torch.cat([table[learned.used], torch.zeros(1, table.shape[1])]))
        self.image = learned.place[image]
        # All but the table of the whole vocabulary.
        self.trained = [self.rows, *(p for name, p in self.text.named_parameters() if "embed_tokens" not in name)]

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
        """Run one batch.

        Returns:
            For the M tokens that have labels: logits (M, used + 1), labels (M,), and weights (M,).
        """
        said = batch.labels[:, 1:] != IGNORE
        logits = self.hidden(batch, features)[:, :-1][said] @ self.rows.T
        logits[:, -1] += math.log(self.others)
        return logits, batch.labels[:, 1:][said], batch.weights[:, 1:][said]


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
    """Train the language model of `model` in place.

    Args:
        model: a Qwen3-VL whose tower is trained.
        processor: of it.
        truths: what is in each picture.
        features: what the tower sees of the pictures: (N, 16, width), of its end and of each deepstack layer.
        learned: the words.
        steps: of `BATCH` samples.
        heldout: the last so many pictures are kept for the figures of the log.
        seed: of the samples.
        learning_rate: the highest, after 4 % of the steps.
    """
    image = processor._image
    answers = {
        processor._text(text)[0] for text in ("yes", "no", *DEGREES, " slightly", " clearly", " badly", *"12345")
    }
    net = Speaker(model, learned, image)
    print(f"{len(learned.used):,} words", flush=True)

    def write(step: int, shares: dict[str, float], pool: range, size: int) -> list[EncodedSample]:
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
    optimizer = torch.optim.AdamW(net.trained, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.04)
    answer_places = torch.tensor([learned.place[token] for token in sorted(answers)])
    started = time.monotonic()
    for step in range(1, steps + 1):
        groups = batches(queue.get(), learned, image, answers)
        # Over all groups of the step, so that its gradient is that of one batch of 64.
        total = sum(float((b.weights[:, 1:] * (b.labels[:, 1:] != IGNORE)).sum()) for b in groups)
        optimizer.zero_grad()
        for batch in groups:
            logits, said, weights = net(batch, features)
            loss = (cross_entropy(logits, said, reduction="none") * weights).sum() / total
            loss.backward()
        nn.utils.clip_grad_norm_(net.trained, 1.0)
        optimizer.step()
        rate.step()
        if step % 200 == 0 or step == steps:
            passed = time.monotonic() - started
            said_well = report(net, tests, features, answer_places)
            left = passed / step * (steps - step)
            print(f"language {step}/{steps}, {said_well}, {passed:.0f} s, {left:.0f} s left", flush=True)
    # The whole table of `model`: every unused word gets the row of all others.
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[:] = net.rows[-1]
        table[learned.used] = net.rows[:-1]
    writer.join()


@torch.no_grad()
def report(net: Speaker, tests: dict[str, list[Batch]], features: Sequence[Tensor], answers: Tensor) -> str:
    """Loss a word by kind of request, and the share of right words among those that answers consist of.

    Args:
        net: the model.
        tests: batches of held-out pictures by kind of request.
        features: of all pictures.
        answers: places of the words that answers consist of.
    """
    parts = []
    for name, batches_of in tests.items():
        results = [net(batch, features) for batch in batches_of]
        logits, said = torch.cat([r[0] for r in results]), torch.cat([r[1] for r in results])
        words_said = torch.isin(said, answers)
        right = (logits[words_said].argmax(-1) == said[words_said]).float().mean()
        parts.append(f"{name} {cross_entropy(logits, said):.3f}" + (f" ({right:.2f})" if words_said.any() else ""))
    return ", ".join(parts)
