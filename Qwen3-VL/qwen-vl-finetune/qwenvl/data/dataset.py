"""The training set: the annotation entries that fit, encoded when they are asked for.

No sample is cut and none is replaced by another: a cut reply would teach the student to stop in mid-sentence, and a
replaced one would be trained on twice. What is left out is counted in `DatasetStats` and named in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from dyneval.errors import ImageError
from dyneval.files.images import load_image
from dyneval.processing import Encoded
from dyneval.tokens import TASK_TOKENS
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import judge, parse_sample
from qwenvl.data.image_folder import check_image_folder
from qwenvl.data.lengths import describe, entry_samples, measure
from qwenvl.data.packing import pack
from qwenvl.errors import TrainingInputError

if TYPE_CHECKING:
    from dyneval.processing import Processor

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Example:
    """One encoded conversation; `task` is 1, 2 or 3 for T2IA, IQA and EVALUATION, and 0 without a task token."""

    encoded: Encoded
    task: int
    name: str = ""
    """File, number and id of its entry, for messages."""


@dataclass(frozen=True, slots=True)
class BadSample:
    """An entry that could not be read when it was asked for; `problem` names file, number and reason."""

    problem: str


@dataclass(slots=True)
class DatasetStats:
    """What became of the annotation entries."""

    entries: int = 0
    unsampled: int = 0
    """Left out by a `%N` sampling rate."""
    too_long: int = 0
    """Longer than model_max_length."""
    bad: int = 0
    used: int = 0
    tokens: int = 0

    def __str__(self) -> str:
        """A line for the log; counts of zero are left out."""
        left_out = {"left out by %": self.unsampled, "too long": self.too_long, "unreadable": self.bad}
        more = "".join(f", {count:,} {reason}" for reason, count in left_out.items() if count)
        return f"{self.used:,} of {self.entries:,} samples, {self.tokens:,} tokens{more}"


class InstructDataset(Dataset[list[Example | BadSample]]):
    """The samples of several annotation files. An item is a list: the samples of one entry, or of one bin if packed.

    Attributes:
        stats: what became of the entries.
        problems: one line for each unusable entry.
        lengths: tokens of each item.
    """

    def __init__(
        self,
        sources: list[DatasetSource],
        processor: Processor,
        *,
        model_max_length: int,
        packing: bool = False,
        seed: int = 0,
        workers: int = 0,
        cache: Path,
        max_bad_samples: int = 0,
    ) -> None:
        """Read the annotations, measure the entries and choose those that are trained on.

        Args:
            sources: datasets, in order.
            processor: encodes the samples.
            model_max_length: entries with more tokens are skipped and counted.
            packing: put entries together into bins of `model_max_length` tokens.
            seed: of sampling rates and bins.
            workers: processes that measure.
            cache: folder for token counts.
            max_bad_samples: entries that may be unusable before the run stops.

        Raises:
            TrainingInputError: too many bad entries, or none left to train on, or an image folder named too deep.
            DataFileError: an annotation file is not JSON.
        """
        self.processor = processor
        self.sources = sources
        self.annotations = [AnnotationFile(source.annotation) for source in sources]
        self.stats = DatasetStats()
        self.problems: list[str] = []
        chosen: list[tuple[int, int]] = []
        lengths: list[int] = []
        for number, source in enumerate(sources):
            check_image_folder(source, self.annotations[number])
            measured = measure(self.annotations[number], source, processor, workers, cache)
            indices: Sequence[int] = range(len(measured))
            if source.rate < 1:
                # Sorted, and drawn by the seed alone: a run that goes on finds the same samples at the same places.
                kept = max(1, round(len(measured) * source.rate))
                drawn = np.random.default_rng(seed).choice(len(measured), kept, replace=False)
                indices = sorted(int(index) for index in drawn)
            for index in indices:
                if measured[index].problem:
                    self.problems.append(measured[index].problem)
                elif measured[index].tokens > model_max_length:
                    self.stats.too_long += 1
                else:
                    chosen.append((number, index))
                    lengths.append(measured[index].tokens)
            self.stats.entries += len(measured)
            self.stats.unsampled += len(measured) - len(indices)
        self._count(lengths, max_bad_samples, model_max_length)
        bins = pack(lengths, model_max_length, seed) if packing else [[index] for index in range(len(chosen))]
        # Flat arrays, not lists: forked workers copy each page of a list that they touch, since reading an object
        # changes its reference count.
        self._entries = np.array(chosen, dtype=np.int64)
        self._order = np.concatenate([np.array(members, dtype=np.int64) for members in bins])
        self._ends = np.cumsum([len(members) for members in bins])
        self.lengths = np.add.reduceat(np.array(lengths)[self._order], np.concatenate([[0], self._ends[:-1]]))
        """Tokens of each item."""

    def _count(self, lengths: list[int], max_bad_samples: int, model_max_length: int) -> None:
        self.stats.used, self.stats.tokens, self.stats.bad = len(lengths), sum(lengths), len(self.problems)
        for problem in self.problems[:20]:
            logger.warning("skipped: %s", problem)
        if self.stats.too_long:
            logger.warning("skipped: %d samples over %d tokens", self.stats.too_long, model_max_length)
        if len(self.problems) > max_bad_samples:
            raise TrainingInputError(
                f"{len(self.problems)} bad sample(s), {max_bad_samples} allowed by --max_bad_samples; "
                f"first: {self.problems[0]}"
            )
        if not lengths:
            raise TrainingInputError(f"no sample of at most {model_max_length} tokens to train on")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, item: int) -> list[Example | BadSample]:
        start = self._ends[item - 1] if item else 0
        return [one for index in self._order[start : self._ends[item]] for one in self._entry(int(index))]

    def samples(self) -> Iterator[tuple[DatasetSource, object]]:
        """Yield the stored samples that are used, in order, each with its dataset."""
        for source, index in self._entries.tolist():
            for sample in entry_samples(self.annotations[source][index]):
                yield self.sources[source], sample

    def exchanges(self, most: int = 500) -> Iterator[tuple[str, str]]:
        """Yield human turns with their answers as they are stored, from about `most` entries spread evenly over all."""
        step = max(1, len(self._entries) // most)
        for source, index in self._entries[::step].tolist():
            for sample in entry_samples(self.annotations[source][index]):
                turns = [turn for turn in parse_sample(sample).turns if turn.role != "system"]
                yield from ((human.text, answer.text) for human, answer in zip(turns[::2], turns[1::2], strict=True))

    def _entry(self, number: int) -> list[Example | BadSample]:
        source, index = (int(value) for value in self._entries[number])
        entry = self.annotations[source][index]
        name = describe(entry, index, self.sources[source].annotation)
        examples: list[Example | BadSample] = []
        try:
            for sample in entry_samples(entry):
                conversation = judge(sample, self.sources[source].tasks)
                images = [load_image(image, root=self.sources[source].data) for image in conversation.images]
                task = TASK_TOKENS.index(conversation.task) + 1 if conversation.task else 0
                examples.append(Example(self.processor.encode(conversation.turns, images), task, name))
        # Returned, not raised: an error in a worker ends the run, and --max_bad_samples may allow this one.
        except (TrainingInputError, ImageError, ValueError) as error:
            return [BadSample(f"{name}: {error}")]
        return examples


class RankShare(Dataset[list[Example | BadSample]]):
    """Every `ranks`-th item of a dataset, from `rank` on, and equally many for each rank: the last may be empty.

    Ranks that shared a padded dataset would count some samples twice; ranks with fewer items would leave the others
    waiting, since each forward pass gathers the weights of all ranks under ZeRO-3.
    """

    def __init__(self, dataset: InstructDataset, rank: int, ranks: int) -> None:
        self.dataset, self.rank, self.ranks = dataset, rank, ranks

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.ranks)

    def __getitem__(self, item: int) -> list[Example | BadSample]:
        index = item * self.ranks + self.rank
        return self.dataset[index] if index < len(self.dataset) else []
