"""The best of several images of one prompt, and how sure it is that one of two is better, from their score records.

Soft scores decide: whole ones have few levels, and images tie in them. Only scores of one judge, with one set of
settings, and of one prompt are compared; everything else is refused, since the result would be a number that says
nothing. The module imports nothing heavy: clients and command lines choose without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, geometric_mean
from typing import NamedTuple

from dyneval.errors import DataFileError, UserError
from dyneval.files.jsonl import read_records
from dyneval.records import PARTS, Part, ScoreName, ScoreRecord
from dyneval.replies import as_in_key

RESAMPLES = 1000
"""Resamples of the bootstrap; about 25 of them lie beyond each end of an interval."""
_LOW, _HIGH = 0.025, 0.975
"""Shares of the resamples below the ends of the interval, which is one of 95 %."""


class ChoiceError(UserError, ValueError):
    """Images cannot be compared; the message says why."""


class DecidingQuestion(NamedTuple):
    """A question, and what it adds to a difference between two images."""

    part: Part
    question: str
    a: float | None
    """Soft score of the first image, 1-5; None: only the second image was asked."""
    b: float | None
    """The same of the second image."""
    effect: float
    """Points that it adds to the difference: above 0 it speaks for the first image. Where scores are arithmetic means
    of questions, all effects add up to the difference."""

    @property
    def in_words(self) -> str:
        """The question with its scores, as a part of a sentence."""
        if self.a is None or self.b is None:
            return (
                f"{self.question!r} ({self.a or self.b:.1f}, asked of {'it' if self.b is None else 'the other'} alone)"
            )
        return f"{self.question!r} ({self.a:.1f} against {self.b:.1f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two images of one prompt; differences are those of the first less those of the second, in points of 1-5."""

    a: str
    b: str
    """The images, as their records call them."""
    score: ScoreName
    difference: float
    low: float | None
    high: float | None
    """What the difference would be with other questions like these, in 95 of 100 cases: a bootstrap over the questions.
    None where there are too few of them, or where a part's score is no mean of questions (reply form release)."""
    decided: tuple[DecidingQuestion, ...]
    """The questions, the one that decides most first."""

    @property
    def is_sure(self) -> bool:
        """True where there is an interval and it does not hold 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Best:
    """The best of several images."""

    number: int
    """Its place among them, from 0; of images that tie the first."""
    record: ScoreRecord
    order: tuple[int, ...]
    """The places of all, the best first."""
    lead: Comparison | None
    """Against the next; None of one image alone."""
    reason: str
    """In one sentence."""


def best_of(records: Sequence[ScoreRecord], score: ScoreName = "overall") -> Best:
    """Choose the best of several images of one prompt.

    Args:
        records: of one prompt, by one judge.
        score: which soft score decides.

    Raises:
        ChoiceError: there is no record, one of another prompt or judge, or one without that soft score.
    """
    if not records:
        raise ChoiceError("there is no scored image to choose from")
    _refuse_others(records)
    scores = [soft_score(record, score) for record in records]
    order = sorted(range(len(records)), key=lambda number: -scores[number])
    first = records[order[0]]
    if len(records) == 1:
        return Best(0, first, (0,), None, f"{first.image} is the only scored image ({scores[0]:.2f}).")
    lead, top = compare(first, records[order[1]], score), scores[order[0]]
    if lead.difference == 0:
        reason = f"{lead.a} is the first of two or more that score the same ({top:.2f})."
    else:
        sure = "" if lead.low is None else f" (95 %: {lead.low:.2f} to {lead.high:.2f})"
        questions = [one.in_words for one in lead.decided if one.effect > 0][:2]
        through = f", above all through {' and '.join(questions)}" if questions else ""
        reason = (
            f"{lead.a} is the best of {len(records)} ({score} {top:.2f}), {lead.difference:.2f} above {lead.b}{sure}"
            f"{through}."
        )
    return Best(order[0], first, tuple(order), lead, reason)


def compare(a: ScoreRecord, b: ScoreRecord, score: ScoreName = "overall", resamples: int = RESAMPLES) -> Comparison:
    """Compare two images of one prompt.

    Args:
        a: record of the first.
        b: record of the second, by the same judge.
        score: which soft score is compared.
        resamples: of the interval.

    Raises:
        ChoiceError: the records are of two prompts or judges, or one has no such soft score.
    """
    _refuse_others([a, b])
    difference = soft_score(a, score) - soft_score(b, score)
    weights: dict[Part, float]
    if score == "overall":
        # Its weights stand in the record's settings; those of the published score where the record has none.
        weights = {"t2ia": float(a.settings.get("beta", 0.5)), "iqa": float(a.settings.get("alpha", 0.5))}
    else:
        weights = {score: 1.0}
    decided = [one for part in weights for one in _decided(part, a, b, weights[part])]
    decided.sort(key=lambda one: -abs(one.effect))
    low, high = _interval(a, b, weights, resamples)
    return Comparison(a.image, b.image, score, difference, low, high, tuple(decided))


def soft_score(record: ScoreRecord, score: ScoreName) -> float:
    """Return a soft score of a record, 1-5. Raises ChoiceError where it has none: a whole one does not compare."""
    found = (record.soft or {}).get(score)
    if found is None:
        raise ChoiceError(f"{record.pair_id}: has no soft {score} score, which decides")
    return found


class Candidate(NamedTuple):
    """A scored image, with what choosing needs to know about it."""

    pair_id: str
    image: str
    score: float


def read_candidates(
    path: Path, score: ScoreName = "overall", order: Mapping[str, int] | None = None
) -> dict[str, list[Candidate]]:
    """Read the scored images of a file by prompt; of several rows of one pair the last counts.

    Args:
        path: JSONL of ScoreRecords.
        score: which soft score they are compared by.
        order: places of the pairs that count, by pair_id; default: all, in the order of the file.

    Returns:
        By prompt its candidates; prompts and candidates stand in that order.

    Raises:
        DataFileError: the file cannot be read, or holds scores of more than one judge.
        SchemaError: a row is no score.
        ChoiceError: a row has no such soft score.
    """
    found: dict[str, dict[str, Candidate]] = {}
    prompts: dict[str, str] = {}
    judge = None
    for record in read_records(path, ScoreRecord):
        if order is not None and record.pair_id not in order:
            continue
        if judge is not None and judge != _judge(record):
            raise DataFileError(f"{path}: {record.pair_id} was scored by another judge or with other settings than the "
                                "rows before it, which do not compare")  # fmt: skip
        judge = _judge(record)
        # The earlier row may stand under another prompt.
        if record.pair_id in prompts:
            del found[prompts[record.pair_id]][record.pair_id]
        prompts[record.pair_id] = record.prompt
        candidate = Candidate(record.pair_id, record.image, soft_score(record, score))
        found.setdefault(record.prompt, {})[record.pair_id] = candidate
    groups = {prompt: list(candidates.values()) for prompt, candidates in found.items() if candidates}
    if order is None:
        return groups
    for candidates in groups.values():
        candidates.sort(key=lambda one: order[one.pair_id])
    return dict(sorted(groups.items(), key=lambda group: order[group[1][0].pair_id]))


def _judge(record: ScoreRecord) -> tuple[object, ...]:
    """Return what two records have in common if they compare: weights, template, and settings that change scores."""
    return record.revision or record.model, record.template, as_in_key(record.settings)


def _refuse_others(records: Sequence[ScoreRecord]) -> None:
    """Raise ChoiceError if not all records are of one prompt and one judge."""
    first = records[0]
    for record in records[1:]:
        if record.prompt != first.prompt:
            raise ChoiceError(f"{record.image} and {first.image} were made from two prompts, so they do not compare")
        if _judge(record) != _judge(first):
            raise ChoiceError(f"{record.image} and {first.image} were scored by two judges or with two settings")


def _scored_questions(record: ScoreRecord, part: Part) -> tuple[list[str], list[float]]:
    """Return the questions whose mean a part's soft score is, and their soft scores; none where it is no such mean."""
    # A student of the form `release` rates the image quality of the whole image, beside its answers to questions.
    if part == "iqa" and "iqa" in (record.holistic or {}):
        return [], []
    questions = (record.t2ia_questions if part == "t2ia" else record.iqa_questions) or ()
    scores = [one.soft_score for one in questions if one.soft_score is not None]
    return ([one.question for one in questions], scores) if len(scores) == len(questions) else ([], [])


def _decided(part: Part, a: ScoreRecord, b: ScoreRecord, weight: float) -> list[DecidingQuestion]:
    """Return the questions of a part with their effects on the difference, which is `weight` times that of the part."""
    (asked_a, scores_a), (asked_b, scores_b) = _scored_questions(a, part), _scored_questions(b, part)
    if not (scores_a and scores_b):
        return []
    # T2IA questions come from the prompt, so both images have the same ones. They are compared one by one.
    if asked_a == asked_b:
        share = weight / len(asked_a)
        rows = zip(asked_a, scores_a, scores_b, strict=True)
        return [DecidingQuestion(part, question, of_a, of_b, share * (of_a - of_b)) for question, of_a, of_b in rows]
    # IQA questions come from the image. Each is compared with the middle of both images' means: so the effects of a
    # part still add up to its difference, and a question about one image alone can speak for or against it.
    middle = (fmean(scores_a) + fmean(scores_b)) / 2
    of_first = [
        DecidingQuestion(part, text, one, None, weight / len(scores_a) * (one - middle))
        for text, one in zip(asked_a, scores_a, strict=True)
    ]
    of_second = [
        DecidingQuestion(part, text, None, one, weight / len(scores_b) * (middle - one))
        for text, one in zip(asked_b, scores_b, strict=True)
    ]
    return of_first + of_second


def _interval(
    a: ScoreRecord, b: ScoreRecord, weights: dict[Part, float], resamples: int
) -> tuple[float | None, float | None]:
    """Return the ends of a 95 % bootstrap interval of the difference, or None twice where there is too little."""
    parts = {part: (_scored_questions(a, part), _scored_questions(b, part)) for part in PARTS if weights.get(part)}
    if resamples < 1 or any(len(scores) < 2 for both in parts.values() for _, scores in both):
        return None, None
    same = {part: asked_a == asked_b for part, ((asked_a, _), (asked_b, _)) in parts.items()}
    mean = geometric_mean if a.settings.get("mean") == "geometric" else fmean
    rng = Random(0)  # the same records, the same interval
    drawn = []
    for _ in range(resamples):
        difference = 0.0
        for part, ((_, scores_a), (_, scores_b)) in parts.items():
            chosen = rng.choices(range(len(scores_a)), k=len(scores_a))
            # The same questions are drawn for both images: some are harder than others, which would widen the interval.
            others = chosen if same[part] else rng.choices(range(len(scores_b)), k=len(scores_b))
            difference += weights[part] * (mean([scores_a[n] for n in chosen]) - mean([scores_b[n] for n in others]))
        drawn.append(difference)
    drawn.sort()
    return drawn[int(_LOW * resamples)], drawn[int(_HIGH * resamples)]
