"""Third part of the pretraining: the five digits stop saying what they were never meant to say.

A base that can tell a torn bird from a whole one, and can count, answers a request for scores with digits that happen
to lean on what it sees: more steps or another seed turn the lean round (Spearman correlations with the truth from -0.36
to 0.19 were seen). A student would be compared with that luck. So the rows of the digits 1 to 5, and nothing else, are
moved until the scores that the base would give go with the truth no more. It is the same as taking a guess away: what
the base sees stays in its hidden states, and fine-tuning has to connect it with digits itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import torch
from language import BATCH, Speaker, Words, batches, encode
from speech import judged
from torch import Tensor
from vision import correlation

from dyneval.demo.truth import Truth
from dyneval.evaluation.correlation import spearman
from dyneval.processing import Processor, start_task_rows

DIGITS = "12345"
STEPS, LEARNING_RATE = 400, 1e-3


class Scores(NamedTuple):
    """What is known where N scores of M pictures would be written."""

    hidden: Tensor
    """(N, width): hidden states from which the digit would follow."""
    picture: Tensor
    """(N,): index of the picture, 0 to M - 1."""
    true: Tensor
    """(N,): the true score of the question."""

    def means(self, values: Tensor) -> Tensor:
        """(N,) values as means of pictures (M,)."""
        number = torch.bincount(self.picture).float()
        return torch.zeros(len(number)).index_add(0, self.picture, values) / number


def neutralise(
    model: Any,
    processor: Processor,
    truths: Sequence[Truth],
    features: Sequence[Tensor],
    learned: Words,
    fitted: range,
    unseen: range,
) -> dict[str, float]:
    """Move the digits' rows of `model`, in place.

    Args:
        model: the taught model.
        processor: of it.
        truths: of the pictures, by number.
        features: what the tower sees of them.
        learned: words with rows of their own.
        fitted: numbers of the pictures whose scores shall not go with the truth.
        unseen: numbers of pictures to report on.

    Returns:
        Facts: by how much of their length the rows moved, and Spearman's correlation of the scores of the `unseen`
        pictures with the truth, before and after. The questions and reasons are a teacher's, not the base's own.
    """
    tasks = ("t2ia", "iqa")
    digits = [processor._text(digit)[0] for digit in DIGITS]
    places = torch.tensor([learned.place[digit] for digit in digits])
    net = Speaker(model, learned, processor._image)
    # As the untrained student is asked: with rows for the task tokens.
    asked = model.get_input_embeddings().weight.data.clone()
    start_task_rows(asked, processor.tokenizer)
    net.rows.data[:-1] = asked[learned.used]
    look = {task: _scores(net, processor, truths, features, learned, task, fitted, places) for task in tasks}
    rows = net.rows.data[places].clone()
    spread = (rows - rows.mean(0)).norm()
    moved = rows.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=LEARNING_RATE)
    for _ in range(STEPS):
        # Both within pictures and between them; the first term keeps counting as it was.
        loss = ((moved - rows).norm() / spread) ** 2
        for scores in look.values():
            said = _expected(scores.hidden, moved)
            loss = loss + correlation(said, scores.true) ** 2
            loss = loss + correlation(scores.means(said), scores.means(scores.true)) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = moved.detach()
    facts = {"digits_moved": float((new - rows).norm() / spread)}
    for task in tasks:
        scores = _scores(net, processor, truths, features, learned, task, unseen, places)
        true = scores.means(scores.true).tolist()
        for name, table in (("before", rows), ("after", new)):
            said = scores.means(_expected(scores.hidden, table)).tolist()
            facts[f"{task}_{name}"] = float(spearman(said, true))
    model.get_input_embeddings().weight.data[digits] = new
    return {name: round(value, 3) for name, value in facts.items()}


@torch.no_grad()
def _scores(
    net: Speaker,
    processor: Processor,
    truths: Sequence[Truth],
    features: Sequence[Tensor],
    learned: Words,
    task: str,
    numbers: range,
    digits: Tensor,
) -> Scores:
    """Read through replies to the questions about pictures `numbers`, with dice for scores."""
    rng = Random(f"neutral {task}")
    said = {number: judged(truths[number], task, rng) for number in numbers}
    rows = [encode(processor, one, number) for number, (one, _) in said.items()]
    hidden, pictures, true = [], [], []
    for start in range(0, len(rows), BATCH):
        for batch in batches(rows[start : start + BATCH], learned, processor._image, set()):
            states = net.hidden(batch, features)[:, :-1]
            # The only digits of such a reply are its scores.
            score = torch.isin(batch.labels[:, 1:], digits)
            hidden.append(states[score])
            for number, found in zip(batch.pictures.tolist(), score.sum(1).tolist(), strict=True):
                assert found == len(said[number][1])
                pictures += [number - numbers.start] * found
                true += said[number][1]
    return Scores(torch.cat(hidden), torch.tensor(pictures), torch.tensor(true))


def _expected(hidden: Tensor, rows: Tensor) -> Tensor:
    """Soft scores (N,) from hidden states (N, width) and the digits' rows (5, width)."""
    return (hidden @ rows.T).softmax(-1) @ torch.arange(1.0, 6.0)
