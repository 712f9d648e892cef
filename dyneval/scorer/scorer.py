"""The scorer: (prompt, image) pairs through the student's four passes, many pairs at once.

1. `<|T2IA|>`, without the image: alignment questions from the prompt, duplicates removed.
2. `<|EVALUATION|>`: each of them scored 1-5 on the image; T2IA is their mean.
3. `<|IQA|>`: the image's scene graph and quality questions.
4. `<|EVALUATION|>`: each of those scored; IQA is their mean, or, from a student of the release form, its score of the
   image as a whole. Overall = alpha * IQA + beta * T2IA.

Passes 2 and 3 do not need each other and run as one batch. All passes but the first share one reading of the image.

This file is the public class and its batches: which pairs are scored together, how a batch that does not fit into the
memory is halved, and how a pair's findings become a ScoreRecord. `four_passes` has the passes, `students` who replies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from dyneval import tokens
from dyneval.checkpoints.names import DEFAULT, DEMO, at_revision, named
from dyneval.choosing import Best, best_of
from dyneval.errors import SettingError
from dyneval.files.image_forms import each_image
from dyneval.hashing import fingerprint
from dyneval.loaded_pairs import Failure, LoadedPair, PassEnded, score_all
from dyneval.records import PARTS, ScoreName, ScoreRecord, normalised_score
from dyneval.replies import QuestionItem
from dyneval.scorer.four_passes import FourPasses, PairState, Question, merge_questions, part_scores
from dyneval.scorer.loading import hub_commit
from dyneval.scorer.probing import settle
from dyneval.scorer.settings import ScorerSettings, score_key
from dyneval.scorer.students.base import AnyStudent
from dyneval.scorer.students.registry import Checkpoint, make_student
from dyneval.work.batches import TooLarge, batch_size, in_halves

Numbered = tuple[int, LoadedPair]
"""A pair and its place in the order in which pairs came."""
Event = PassEnded | ScoreRecord | Failure

# Pairs of like length go into one batch, and within a window they can be sorted. A longer one sorts better, and results
# come later; its images are open all the while, at three bytes a pixel: 0.8 GB.
_WINDOW_BATCHES = 8
_WINDOW_PIXELS = 1 << 28


class Scorer:
    """A DynEval student, ready to score.

    Scores are 1-5, higher is better; normalised scores are 0-1. Soft scores stand beside them: take those to rank
    images or as a reward, and the others to compare with published figures. Decoding is greedy, so the same pair gets
    the same scores, whatever it is batched with (up to rounding of the arithmetic, which can matter to a tie in
    bfloat16).

    Attributes:
        name: how score records call the student.
        revision: which weights it has; None where that is not known.
        student: computes the replies.
        settings: how pairs are scored, with nothing left to the student.
        settled_by: where template and reply form come from, in words for people.
        device: where it computes: a torch device, or the engine that has devices of its own.
        is_demo: True for a judge of the demo, which knows procedural scenes alone; its other scores say nothing.
        asked_questions: T2IA questions that the student was asked for, and whether a limit cut them off, by prompt on
            one line. Those of another copy of the student may be put in.
    """

    def __init__(
        self,
        student: AnyStudent,
        name: str,
        settings: ScorerSettings | None = None,
        revision: str | None = None,
    ) -> None:
        """Get ready.

        Args:
            student: computes the replies.
            name: how score records call it.
            settings: how pairs are scored; what they leave to the student ("auto") is settled here.
            revision: which weights those are.
        """
        self.name = name
        self.revision = revision
        self.student = student
        self.device = str(student.device or student.name)
        self.is_demo = bool(student.processor.conventions.demo)
        self.settings, self.settled_by = settle(settings or ScorerSettings(), student)
        self._passes = FourPasses(student, self.settings)
        self.asked_questions = self._passes.asked
        self._batches = batch_size(self.settings.batch_size, student.device)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path = DEFAULT,
        subfolder: str | None = None,
        *,
        engine: str = "transformers",
        device: str | None = None,
        dtype: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        settings: ScorerSettings | None = None,
        **options: Any,
    ) -> Self:
        """Load a student: a published one by its name, one of yours by its folder or Hub repository.

        Args:
            checkpoint: "dyneval-2b", "dyneval-4b", "demo", a folder, or a Hub repository, USER/NAME or
                USER/NAME@REVISION.
            subfolder: folder of the student inside it.
            engine: "transformers", "vllm" (in this process), "openai" (a server that has the same checkpoint), or
                "module:Class" of your own, made of a `dyneval.scorer.students.registry.Checkpoint`.
            device: torch device; default: the first GPU, else the CPU. Of engine transformers.
            dtype: "bfloat16", "float16" or "float32"; default: bfloat16 on a GPU, float32 on the CPU.
            min_pixels: smallest image area; default: the checkpoint's.
            max_pixels: largest image area; default: the checkpoint's.
            settings: how pairs are scored; default: ScorerSettings().
            options: of the engine, see `dyneval.scorer.students.registry`: such as `tensor_parallel_size` of vllm, or
                `base_urls` and `served_model` (the server's name for it) of openai.

        Raises:
            CheckpointError: there is no DynEval student to load.
            SettingError: no such engine, or one that cannot be used here.
        """
        is_demo = checkpoint == DEMO  # a Path is a folder
        checkpoint, subfolder = named(checkpoint, subfolder)
        checkpoint, revision = at_revision(checkpoint)
        source = Checkpoint(
            path=checkpoint,
            subfolder=subfolder,
            commit=hub_commit(checkpoint, subfolder, revision),
            dtype=dtype,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )
        student = make_student(engine, source, **options, **({} if device is None else {"device": device}))
        # Not by its folder, which is a cache of this machine and says nothing to readers of the scores.
        return cls(student, DEMO if is_demo else source.name, settings, student.revision)

    def score_settings(self) -> dict[str, Any]:
        """Return all that scores depend on beside pair, model and template; it stands in every record."""
        processor = self.student.processor
        pixels = {"min_pixels": processor.min_pixels, "max_pixels": processor.max_pixels}
        return self.settings.score_settings() | pixels | {"engine": self.student.name, "dtype": self.student.dtype}

    def key(self, prompt: str, image_hash: str) -> str:
        """Return the name of a pair's result by what it is made from, see `score_key`.

        A record with this key need not be made again: it would come out the same.

        Args:
            prompt: as the user wrote it.
            image_hash: SHA-256 of the image's file, else of its pixels.
        """
        # Questions that were given are part of the result; those that the student asks follow from the rest.
        given, _ = self._passes.given.get(tokens.prompt_line(prompt), (None, False))
        weights = self.revision or self.name
        return score_key(prompt, image_hash, weights, self.settings.template, self.score_settings(), given)

    def score(
        self, images: Any, prompts: Sequence[str], value_range: tuple[float, float] | None = None
    ) -> list[ScoreRecord]:
        """Score images against the prompts they were made from.

        Args:
            images: a list of them, an array (N, H, W, 3) or a tensor (N, 3, H, W). An image is a path, a file's bytes,
                an open file or image, an array or a tensor, see `dyneval.files.image_forms.read_image`.
            prompts: as many, in the same order.
            value_range: what the values of arrays and tensors run between, such as (-1, 1); see there for the default.

        Returns:
            One record a pair, in order; `t2ia`, `iqa` and `overall` are 1-5, higher is better.

        Raises:
            ScoringError: an image cannot be used, or a pair could not be scored, such as one with an empty prompt.
            ValueError: images or prompts are no list, or their numbers differ.
        """
        return score_all(self.score_pairs, images, prompts, value_range)

    def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """Choose the best of several images of one prompt, by their soft scores, and say why.

        Args:
            images: as of `score`.
            prompt: what all of them were made from.
            score: "overall", "t2ia" or "iqa".

        Raises:
            ScoringError: as of `score`.
            ChoiceError: there is no image, or the mode gives no such score.
            ValueError: images is no list.
        """
        each = each_image(images)
        return best_of(self.score(each, [prompt] * len(each)), score)

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as they come, a batch at a time; yields one result a pair, in order.

        Pairs are read some batches ahead and put together by length, so results come in groups.

        Args:
            pairs: any number. Those that are read ahead are held with their images: 8 batches at most, and no more
                once they have 2**28 pixels together.

        Raises:
            EngineStopped, UnfitServer, Unreachable: an engine of its own cannot go on; no pair is at fault.
        """
        done: dict[int, ScoreRecord | Failure] = {}
        wanted = 0
        for number, event in self.score_stream(pairs):
            if isinstance(event, PassEnded):
                continue
            done[number] = event
            while wanted in done:
                yield done.pop(wanted)
                wanted += 1

    def score_unordered(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as `score_pairs` does, but yield each result as soon as it is there, in whatever order."""
        return (event for _, event in self.score_stream(pairs) if not isinstance(event, PassEnded))

    def score_stream(self, pairs: Iterable[LoadedPair]) -> Generator[tuple[int, Event], None, None]:
        """Score pairs and yield each pass as it ends, and each result, with the number of its pair (the first is 0).

        A batch that does not fit into the memory begins again as two halves, so a pass may come twice; results never
        do. Whoever closes the iterator ends the batch at work. Raises as `score_pairs`.
        """
        for batch in by_length(pairs, lambda: self._batches.size, self._passes.expected_length):
            for event in in_halves(self._score_together, batch, self._batches.failed):
                if isinstance(event, TooLarge):
                    number, pair = event.item
                    yield number, Failure(pair.pair_id, "the memory is too small for this pair (lower max_pixels)")
                else:
                    yield event

    @property
    def most_together(self) -> int:
        """Pairs that are scored in one batch at most; it falls when the memory turns out to be too small."""
        return self._batches.most

    def unused_questions(self, prompts: Iterable[str]) -> list[str]:
        """Return the prompts of `give_questions` that are not among `prompts`: they may be spelled in another way."""
        return sorted(self._passes.given.keys() - {tokens.prompt_line(prompt) for prompt in prompts})

    def give_questions(self, questions: Mapping[str, Sequence[Question]]) -> None:
        """Take T2IA questions that the student need not be asked for.

        Args:
            questions: by prompt, a list of {"question", "answer"}; duplicates are removed.

        Raises:
            SettingError: the questions of a prompt are not questions.
        """
        for prompt, asked in questions.items():
            try:
                merged = merge_questions(msgspec.convert(list(asked), list[QuestionItem]))
            except msgspec.ValidationError as error:
                raise SettingError(f"questions of {prompt[:60]!r}: {error}") from None
            if not merged:
                raise SettingError(f"questions of {prompt[:60]!r}: expected at least one")
            self._passes.given[tokens.prompt_line(prompt)] = merged, False

    @property
    def questions_digest(self) -> str | None:
        """Name of all questions that were given, by their content; None where none were."""
        return fingerprint(self._passes.given) if self._passes.given else None

    def _score_together(self, batch: Sequence[Numbered]) -> Iterator[tuple[int, Event]]:
        """Score one batch. Raises what torch raises where the memory is too small."""
        started = time.perf_counter()
        states: list[PairState[Any]] = [PairState(number, pair) for number, pair in batch]
        for state, ended in self._passes.run(states):
            yield state.number, ended
        seconds = round((time.perf_counter() - started) / len(states), 4)
        self._batches.fitted(len(states))
        # Only after all passes: a batch that runs out of memory in the last one is scored again in halves, and its
        # results would come twice.
        for state in states:
            yield state.number, self._result(state, seconds)

    def _result(self, state: PairState[Any], seconds: float) -> ScoreRecord | Failure:
        """Make the record of a pair that has been through the passes."""
        pair = state.pair
        if state.failure:
            return Failure(pair.pair_id, state.failure)
        found = {part: part_scores(evaluated, self.settings.mean) for part, evaluated in state.evaluated.items()}
        scores: dict[str, float] = {part: found[part][0] for part in PARTS if part in found}
        soft: dict[str, float] = {part: found[part][1] for part in PARTS if part in found}
        for each in (scores, soft):
            if len(each) == len(PARTS):  # modes with one part have no overall score
                each["overall"] = self.settings.alpha * each["iqa"] + self.settings.beta * each["t2ia"]
        holistic = {part: one.holistic for part, one in state.evaluated.items() if one.holistic is not None}
        row = {
            "pair_id": pair.pair_id,
            "prompt": pair.prompt,
            "image": pair.image_name,
            **scores,
            "normalised": {name: normalised_score(score) for name, score in scores.items()},
            **{f"{part}_questions": questions for part, questions in state.questions.items() if questions},
            **({"scene_graph": state.scene_graph} if "iqa" in state.questions else {}),
            **({"raw_scene_graph": state.raw_graph} if state.raw_graph is not None else {}),
            **({"holistic": holistic} if holistic else {}),
            **({"cut": state.cut} if state.cut else {}),
            "model": self.name,
            **({"revision": self.revision} if self.revision else {}),
            "key": self.key(pair.prompt, pair.image_hash),
            "template": self.settings.template,
            "soft": {name: round(score, 4) for name, score in soft.items()},
            "settings": self.score_settings(),
            "seconds": seconds,
        }
        return ScoreRecord.from_dict(row, pair.pair_id)


def by_length(
    pairs: Iterable[LoadedPair], size: Callable[[], int], length: Callable[[LoadedPair], int]
) -> Iterator[list[Numbered]]:
    """Put pairs of like length together, the longest of a window first.

    All pairs of a batch wait for its longest reply, so a long one among short ones would waste most of the batch.

    Args:
        pairs: any number; a window of them is held at a time.
        size: returns how many pairs the next batch may have; it may change from batch to batch.
        length: returns the expected tokens of a pair.

    Yields:
        Batches of at least one pair, each pair with its place among `pairs`, from 0.
    """
    numbered = enumerate(pairs)
    while True:
        window: list[Numbered] = []
        most, pixels = _WINDOW_BATCHES * size(), 0
        for one in numbered:
            window.append(one)
            pixels += one[1].image.width * one[1].image.height
            if len(window) >= most or pixels >= _WINDOW_PIXELS:
                break
        if not window:
            return
        window.sort(key=lambda one: -length(one[1]))
        while window:
            count = size()
            yield window[:count]
            del window[:count]
