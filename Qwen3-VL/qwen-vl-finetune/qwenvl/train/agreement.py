"""Measures, during training, how far the student's scores agree with the teacher's: SRCC over held-out images.

The loss says how well the student imitates the teacher's words; a judge is wanted for its ranking, which may get worse
while the loss still falls. Here the student answers held-out EVALUATION turns as in `dyneval score --mode fast`: the
questions are given, the scores are its own, reasonings are left empty. If it were shown any of the teacher's scores, it
would copy them, and the figure would be worthless.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from scipy.stats import spearmanr

from dyneval.errors import ImageError
from dyneval.files.images import load_image
from dyneval.processing import Turn
from dyneval.replies import RATINGS, expectation, form_of
from dyneval.tokens import EVALUATION
from qwenvl.data.conversation import Conversation, judge
from qwenvl.data.dataset import InstructDataset
from qwenvl.errors import TrainingInputError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from dyneval.processing import Processor


@dataclass(frozen=True, slots=True)
class RatedTurn:
    """A held-out EVALUATION turn with the teacher's answers."""

    conversation: Conversation
    root: Path
    answers: list[dict[str, Any]]
    """Each with `question` and `score`; in the release form also `target_answer`."""

    @property
    def score(self) -> float:
        """The teacher's mean score, 1-5."""
        return sum(answer["score"] for answer in self.answers) / len(self.answers)


class ScoreAgreement:
    """Scores the same held-out samples at each evaluation."""

    def __init__(self, dataset: InstructDataset, processor: Processor, most: int) -> None:
        """Choose at most `most` EVALUATION samples, spread evenly over the dataset.

        Samples about quality in the release form are left out: they have one score for all, behind free text.

        Raises:
            TrainingInputError: there are fewer than three, or the teacher gave all the same score.
        """
        self.processor = processor
        rated = list(_rated_samples(dataset))
        chosen = min(most, len(rated))
        self.samples = [rated[index * len(rated) // chosen] for index in range(chosen)]
        if len({sample.score for sample in self.samples}) < 2 or chosen < 3:
            raise TrainingInputError(
                f"--eval_scores {most}: a rank correlation needs three held-out {EVALUATION} samples with different "
                f"scores at least; {chosen} with readable scores were found"
            )
        vocabulary = processor.tokenizer.get_vocab()
        self.ratings = [vocabulary[str(rating)] for rating in RATINGS]

    def measure(self, model: Any, rank: int, ranks: int) -> dict[str, float]:
        """Score the samples with the student as it is. Every rank must call it.

        Args:
            model: the student; it is in the mode, training or not, in which it was when this returns.
            rank: of this process, 0 to `ranks` - 1; it scores every `ranks`-th sample.
            ranks: processes.

        Returns:
            `scored`, the number of images, and `srcc`, Spearman's correlation of the student's expected scores with the
            teacher's, -1 to 1. `srcc` is left out where it is not defined: the student gives all images one score.
        """
        shares = [self.samples[one::ranks] for one in range(ranks)]
        passes = [sum(len(sample.answers) for sample in share) for share in shares]
        found, training = [], model.training
        model.eval()
        with torch.no_grad():
            for sample in shares[rank]:
                found.append((sample.score, self._score(model, sample)))
            # Under ZeRO-3 each forward pass gathers weights from all ranks, so all must make equally many: a rank with
            # fewer questions makes passes for nothing, or the others would wait for it forever.
            for _ in range(max(passes) - passes[rank]):
                self._rate(model, self.samples[0], [], "")
        model.train(training)
        if torch.distributed.is_initialized():
            parts: list[Any] = [None] * ranks
            # After all passes: a collective call in between would meet a forward pass of another rank.
            torch.distributed.all_gather_object(parts, found)
            found = [pair for part in parts for pair in part]
        teacher, student = zip(*found, strict=True)
        figures = {"scored": float(len(found))}
        if len({*student}) > 1:
            figures["srcc"] = round(float(spearmanr(teacher, student).statistic), 4)
        return figures

    def _score(self, model: Any, sample: RatedTurn) -> float:
        """Mean of the expected scores of all questions, each asked behind the student's own scores of those before."""
        images = _images(sample)
        written, soft = '{"answers": [', []
        for number, answer in enumerate(sample.answers):
            # The text around the score is that of the form the student is trained on: reasoning behind the score in the
            # readme form, and before it in the release form.
            given = {name: answer[name] for name in ("question", "target_answer") if name in answer}
            head = json.dumps(given, ensure_ascii=False).removesuffix("}")
            reasoned = ', "reasoning": ""'
            before, behind = ("", reasoned) if "target_answer" not in answer else (reasoned, "")
            written += f'{", " if number else ""}{head}{before}, "score": '
            weights = self._rate(model, sample, images, written)
            soft.append(expectation(weights))
            written += f"{RATINGS[weights.index(max(weights))]}{behind}}}"
        return sum(soft) / len(soft)

    def _rate(self, model: Any, sample: RatedTurn, images: list[Image], written: str) -> list[float]:
        """Probabilities of the scores 1 to 5 behind what is written of the reply."""
        turns = [*sample.conversation.turns[:-1], Turn("assistant", written)]
        encoded = self.processor.encode(turns, images or _images(sample))
        inputs = encoded.model_inputs()
        # The reply goes on: what closes the turn, `<|im_end|>` and a line feed, is taken off again.
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            inputs[name] = inputs[name][:, :-2]
        placed = {name: value.to(model.device) for name, value in inputs.items()}
        # One position of logits, not all: 151,936 floats each.
        logits = model(**placed, use_cache=False, logits_to_keep=1).logits[0, -1, self.ratings]
        weights: list[float] = logits.double().softmax(-1).tolist()
        return weights


def _images(sample: RatedTurn) -> list[Image]:
    return [load_image(name, root=sample.root) for name in sample.conversation.images]


def _rated_samples(dataset: InstructDataset) -> Iterator[RatedTurn]:
    for source, entry in dataset.samples():
        try:
            conversation = judge(entry, source.tasks)
            answer = conversation.turns[-1].text
            if conversation.task != EVALUATION or len(conversation.turns) != 2 or form_of(answer) is None:
                continue
            answers = json.loads(answer)["answers"]
            if not answers or any("score" not in one for one in answers):
                continue
            sample = RatedTurn(conversation, source.data, answers)
            _images(sample)  # one that cannot be read would stop a rank in the middle of an evaluation
        except (TrainingInputError, ImageError, ValueError):
            continue  # reported where the data is counted
        yield sample
