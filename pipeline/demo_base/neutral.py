"""Third part of the pretraining of the demo's base: its digits are made to say nothing about quality.

A base that was never trained to score still answers a request for scores with digits, and these happen to correlate
with what it sees: Spearman's correlation with the truth lay between -0.36 and 0.19, by the number of steps and the
seed. A student that starts from the base would be compared with that luck. So the rows of the digits 1 to 5 in the
head, and nothing else, are moved until the scores that the base would give no longer correlate with the truth. What the
base sees stays in its hidden states; fine-tuning has to connect it with digits.
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
"""Of Adam on 5 rows; the hidden states are computed once, so a step takes no pass through the model."""


class ScorePlaces(NamedTuple):
    """The N places in replies about M pictures where a score would be written."""

    hidden: Tensor
    """(N, width): hidden states from which the digit would follow."""
    picture: Tensor
    """(N,): index of the picture, 0 to M - 1."""
    true: Tensor
    """(N,): the true score of the question."""

    def means(self, values: Tensor) -> Tensor:
        """Average values (N,) to one for each picture (M,)."""
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
    """Move the rows of the digits in `model`, in place.

    Args:
        model: the taught model.
        processor: of it.
        truths: of the pictures, by number.
        features: the tower's features of them.
        learned: words with rows of their own.
        fitted: numbers of the pictures whose scores must not correlate with the truth.
        unseen: numbers of pictures to report on.

    Returns:
        `digits_moved`, how far the rows moved in parts of their spread, and for each part Spearman's correlation of the
        scores of the `unseen` pictures with the truth, before and after. Questions and reasons are given to the base.
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
        # The first term keeps the rows near where they were, since the base also counts with these digits. The others
        # are the correlation over all questions and over the means of pictures: either alone leaves the other standing.
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
) -> ScorePlaces:
    """Run replies about some pictures through the model, with random scores in them.

    Args:
        net: the model.
        processor: of it.
        truths: of all pictures.
        features: of all pictures.
        learned: the words.
        task: "t2ia" or "iqa".
        numbers: the pictures.
        digits: places of the five digits among the words.
    """
    rng = Random(f"neutral {task}")
    said = {number: judged(truths[number], task, rng) for number in numbers}
    rows = [encode(processor, one, number) for number, (one, _) in said.items()]
    hidden, pictures, true = [], [], []
    for start in range(0, len(rows), BATCH):
        for batch in batches(rows[start : start + BATCH], learned, processor._image, set()):
            states = net.hidden(batch, features)[:, :-1]
            # The only digits of such a reply are its scores, so the places are found by the label.
            score = torch.isin(batch.labels[:, 1:], digits)
            hidden.append(states[score])
            for number, found in zip(batch.pictures.tolist(), score.sum(1).tolist(), strict=True):
                assert found == len(said[number][1])
                pictures += [number - numbers.start] * found
                true += said[number][1]
    return ScorePlaces(torch.cat(hidden), torch.tensor(pictures), torch.tensor(true))


def _expected(hidden: Tensor, rows: Tensor) -> Tensor:
    """Soft scores (N,) from hidden states (N, width) and the digits' rows (5, width)."""
    return (hidden @ rows.T).softmax(-1) @ torch.arange(1.0, 6.0)
