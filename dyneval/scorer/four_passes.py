"""A batch of pairs on its way through the four passes, and what the passes find out.

`FourPasses.run` is the order of the passes. It asks the student through `students.base.Student` alone, so it holds for
every engine. A pair that fails in one pass is left behind with its reason, and the others of its batch go on; no score
is ever made from a reply that is not there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, geometric_mean
from typing import Any, Generic

from dyneval import replies, tokens
from dyneval.loaded_pairs import LoadedPair, PassEnded, PromptError, checked_prompt
from dyneval.processing import Turn
from dyneval.records import Part
from dyneval.replies import RATINGS, ParsedEvaluation, QuestionItem, ReplyError
from dyneval.scorer.settings import BYTES_A_TOKEN, Mean, ScorerSettings
from dyneval.scorer.students.base import Ask, NoReply, Prepared, Reply, Seen, Student

Question = dict[str, Any]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REMEMBERED_PROMPTS = 10_000
"""Prompts whose T2IA questions are kept, so that all images of a prompt are held to the same ones."""
_NO_QUESTIONS = "the reply asks nothing"
_NO_ANSWER = "the student did not reply"


@dataclass(slots=True, eq=False)
class PairState(Generic[Seen]):
    """One pair and what the passes have found out about it so far."""

    number: int
    """Its place in the order in which pairs came."""
    pair: LoadedPair
    prompt: str = ""
    """On one line, as it stands in turns."""
    image: Seen | None = None
    """As the student has read it."""
    failure: str | None = None
    """Why the pair is left behind; None while it goes on."""
    questions: dict[Part, list[Question]] = field(default_factory=dict)
    """{"question", "answer"} each. Once they are scored also "score" (1-5), "soft_score" (1-5, the expectation of the
    score), "reasoning", and "correct_probability" (0-1) where the student said whether the image passes and gave no
    score."""
    evaluated: dict[Part, ParsedEvaluation] = field(default_factory=dict)
    """What the student said to the questions of each part."""
    scene_graph: dict[str, Any] = field(default_factory=dict)
    raw_graph: Any = None
    """The scene graph as the student wrote it, where that is something else."""
    cut: list[str] = field(default_factory=list)
    """Passes whose reply came to one of the limits on lists and texts: there it was ended, not by the student."""

    def fail(self, reason: str) -> None:
        """Leave the pair behind; the first reason counts."""
        self.failure = self.failure or reason


States = Sequence[PairState[Seen]]
Ended = tuple[PairState[Seen], PassEnded]


class FourPasses(Generic[Prepared, Seen]):
    """Runs batches of pairs through the student.

    Attributes:
        student: computes the replies.
        settings: how pairs are scored.
        given: T2IA questions by prompt that the student need not be asked for, and whether a limit cut them off.
        asked: the same that it was asked for; the oldest are forgotten. Other threads may add to both.
    """

    def __init__(self, student: Student[Prepared, Seen], settings: ScorerSettings) -> None:
        """Get ready.

        Args:
            student: computes the replies.
            settings: name the template and the reply form; "auto" is for `dyneval.scorer.probing` to settle.
        """
        assert settings.template != "auto" and settings.reply_form != "auto", "not settled"
        self.student = student
        self.settings = settings
        self._template, self._form = settings.template, settings.reply_form
        self.given: dict[str, tuple[list[Question], bool]] = {}
        self.asked: dict[str, tuple[list[Question], bool]] = {}

    def run(self, states: States[Seen]) -> Iterator[Ended[Seen]]:
        """Fill in questions with scores, and scene graphs; yields each pass of each pair as it ends.

        A pair that fails gets its `failure` and is left behind.

        Args:
            states: one a pair, as they are made; what the passes find is written into them.

        Raises:
            RuntimeError: the memory of the device is too small for all of them together.
        """
        mode = self.settings.mode
        for state in states:
            self._check_prompt(state)
        if mode != "iqa-only":
            yield from self._alignment_questions(_going(states))  # pass 1: no image, once a prompt, remembered
        self._read_images(_going(states))  # once: passes 2 to 4 begin behind this reading
        together: dict[Ask[Seen], PairState[Seen]] = {}  # 2 and 3 need nothing of each other: one batch
        if mode != "t2ia-only":
            schema = replies.scene_schema(self.settings.limits)
            together |= {Ask("iqa", tokens.iqa_turn(), schema, state.image): state for state in _going(states)}
        if mode != "iqa-only":
            together |= {self._evaluation_ask(state, "t2ia"): state for state in _going(states)}
        yield from self._take(together, "t2ia")
        if mode != "t2ia-only":
            yield from self._take({self._evaluation_ask(state, "iqa"): state for state in _going(states)}, "iqa")

    def expected_length(self, pair: LoadedPair) -> int:
        """Return about how many tokens a pair has: those of its image, and a quarter of its prompt's characters."""
        try:
            visual = self.student.processor.visual_tokens(pair.image.width, pair.image.height)
        except ValueError:  # an image of no usable shape; scoring it will say so
            visual = 0
        return visual + len(str(pair.prompt)) // 4

    # -----------------------------------------------------------------------------------------------------------------
    # What goes in

    def _check_prompt(self, state: PairState[Seen]) -> None:
        """Put the prompt on one line, or fail the pair where it is no text or too long."""
        try:
            state.prompt = tokens.prompt_line(checked_prompt(state.pair.prompt))
            most = BYTES_A_TOKEN * self.settings.max_prompt_tokens
            # Measured in bytes before anything counts its tokens, which takes 8 s for 2 MB.
            if len(state.prompt.encode()) > most:
                raise PromptError(f"the prompt has more than {most} bytes; prompts are never cut")
            turn = Turn("user", tokens.t2ia_turn(state.prompt, self._template))
            length = len(self.student.processor.layout([turn], [], add_generation_prompt=True)[0])
            if length > self.settings.max_prompt_tokens:
                raise PromptError(
                    f"the prompt takes {length} tokens, at most {self.settings.max_prompt_tokens} are read "
                    "(max_prompt_tokens); prompts are never cut"
                )
        except ValueError as error:
            state.fail(str(error))

    def _read_images(self, states: States[Seen]) -> None:
        """Let the student read all images of the batch at once."""
        prepared: dict[PairState[Seen], Prepared] = {}
        for state in states:
            try:
                prepared[state] = self.student.prepare(state.pair.image)
            except (ValueError, OSError) as error:  # OSError: an image that was opened, but never loaded
                state.fail(f"image: {error}" if isinstance(error, OSError) else str(error))
        if prepared:
            for state, seen in zip(prepared, self.student.read(list(prepared.values())), strict=True):
                state.image = seen

    def _evaluation_ask(self, state: PairState[Seen], part: Part) -> Ask[Seen]:
        """Return the question for the scores of a part, whose schema holds the questions themselves."""
        texts = [question["question"] for question in state.questions[part]]
        reasoning = self.settings.mode != "fast"
        schema = replies.evaluation_schema(self._form, part, texts, self.settings.limits, reasoning)
        return Ask("evaluation", tokens.evaluation_turn(state.prompt, texts), schema, state.image)

    # -----------------------------------------------------------------------------------------------------------------
    # What comes out

    def _alignment_questions(self, states: States[Seen]) -> Iterator[Ended[Seen]]:
        """Pass 1: give each pair the questions of its prompt, and ask the student for those that are not known."""
        schema = replies.questions_schema(self.settings.limits)
        prompts = dict.fromkeys(state.prompt for state in states)
        # Taken now: another thread may forget the oldest of them meanwhile.
        known = {one: found for one in prompts if (found := self.given.get(one) or self.asked.get(one))}
        asks: dict[Ask[Seen], str] = {
            Ask("t2ia", tokens.t2ia_turn(prompt, self._template), schema): prompt
            for prompt in prompts
            if prompt not in known
        }
        failures: dict[str, str] = {}
        # Engines look at their server even when they are asked for nothing, so they are not called then.
        answers = self.student.answer(list(asks), self.settings.max_new_tokens) if asks else ()
        for ask, reply in answers:
            try:
                questions = replies.read_questions(_text(reply))
                found = _merged(questions), self.settings.limits.reached_by_questions(questions)
                known[asks[ask]] = self.asked[asks[ask]] = found
            except ReplyError as error:
                failures[asks[ask]] = str(error)
        for state in states:
            asked = known.get(state.prompt)
            if asked is None:
                state.fail(f"T2IA questions: {failures.get(state.prompt, _NO_ANSWER)}")
                continue
            state.questions["t2ia"], cut = asked
            state.cut += ["t2ia_questions"] * cut
            yield state, PassEnded("t2ia_questions", {"t2ia_questions": state.questions["t2ia"]})
        for oldest in list(self.asked)[:-_REMEMBERED_PROMPTS]:  # of a copy: another thread may add to them
            self.asked.pop(oldest, None)

    def _take(self, asks: Mapping[Ask[Seen], PairState[Seen]], part: Part) -> Iterator[Ended[Seen]]:
        """Passes 2 to 4: ask for scene graphs and for evaluations of `part`."""
        if not asks:
            return
        names = {ask: "IQA questions" if ask.kind == "iqa" else f"{part.upper()} evaluation" for ask in asks}
        waiting = dict(asks)
        for ask, reply in self.student.answer(list(asks), self.settings.max_new_tokens):
            state = waiting.pop(ask)
            try:
                ended = self._scene(state, reply) if ask.kind == "iqa" else self._evaluation(state, part, reply)
            except ReplyError as error:
                state.fail(f"{names[ask]}: {error}")
            else:
                yield state, ended
        # An engine of someone else's may leave one out.
        for ask, state in waiting.items():
            state.fail(f"{names[ask]}: {_NO_ANSWER}")

    def _scene(self, state: PairState[Seen], reply: Reply | NoReply) -> PassEnded:
        """Take the scene graph and the quality questions of a pair. Raises ReplyError."""
        scene = replies.read_scene(_text(reply))
        state.scene_graph, state.raw_graph = scene.graph, scene.raw_graph
        state.questions["iqa"] = _merged(scene.questions)
        limits = self.settings.limits
        if limits.reached_by_questions(scene.questions) or limits.reached_by_graph(scene.graph):
            state.cut.append("iqa_questions")
        found = {"iqa_questions": state.questions["iqa"], "scene_graph": state.scene_graph}
        return PassEnded("iqa_questions", found)

    def _evaluation(self, state: PairState[Seen], part: Part, reply: Reply | NoReply) -> PassEnded:
        """Take the scores of a part of a pair. Raises ReplyError."""
        # The schema has the questions word for word and in this order, so answers belong to them by their place.
        asked = state.questions[part]
        texts = [question["question"] for question in asked]
        probabilities = () if isinstance(reply, NoReply) else reply.probabilities
        evaluated = replies.read_evaluation(_text(reply), texts, probabilities)
        state.evaluated[part] = evaluated
        state.questions[part] = [
            {
                **question,
                "score": rated.score,
                "soft_score": round(rated.soft_score, 4),
                "reasoning": rated.reasoning,
                **(
                    {}
                    if rated.correct_probability is None
                    else {"correct_probability": round(rated.correct_probability, 4)}
                ),
            }
            for question, rated in zip(asked, evaluated.questions, strict=True)
        ]
        if self.settings.limits.reached_by_reasons(evaluated):
            state.cut.append(f"{part}_scores")
        return PassEnded(
            "t2ia_scores" if part == "t2ia" else "iqa_scores", {f"{part}_questions": state.questions[part]}
        )


def _going(states: States[Seen]) -> list[PairState[Seen]]:
    """Return the pairs that have not failed and that someone waits for; the others are left behind here."""
    for state in states:
        if not state.pair.is_wanted():
            state.fail("nobody waits for it any more")
    return [state for state in states if not state.failure]


def _text(reply: Reply | NoReply) -> str:
    """Return the text of a reply. Raises ReplyError where there is none."""
    if isinstance(reply, NoReply):
        raise ReplyError(reply.reason)
    return reply.text


def _merged(questions: Iterable[QuestionItem]) -> list[Question]:
    """Merge the questions of a reply. Raises ReplyError where none is left, since there is no mean over none."""
    merged = merge_questions(questions)
    if not merged:
        raise ReplyError(_NO_QUESTIONS)
    return merged


def merge_questions(questions: Iterable[QuestionItem]) -> list[Question]:
    """Drop blank questions and those asked before (but for case and spacing); write each as the next turn will.

    That is on one line, and in the normal form NFC: the tokenizer knows no other, so the student could not repeat it.

    Args:
        questions: as the student wrote them, or as a file has them.

    Returns:
        {"question", "answer"} each, in order.
    """
    merged: dict[str, Question] = {}
    for question in questions:
        text = unicodedata.normalize("NFC", " ".join(_CONTROL.sub(" ", question.question).split()))
        if text:
            merged.setdefault(text.casefold(), {"question": text, "answer": question.answer})
    return list(merged.values())


def part_scores(evaluated: ParsedEvaluation, mean: Mean = "arithmetic") -> tuple[float, float]:
    """Return score and soft score of a part, 1-5: the means over its questions.

    Where the questions have no scores of their own, as of IQA in the release form, it is the student's score of the
    whole image.

    Args:
        evaluated: what the student says to the questions of the part.
        mean: "arithmetic" or "geometric".
    """
    if evaluated.is_holistic and evaluated.holistic is not None and evaluated.soft_holistic is not None:
        return float(evaluated.holistic), evaluated.soft_holistic
    scores = mean_score([rated.score for rated in evaluated.questions], mean)
    return scores, mean_score([round(rated.soft_score, 4) for rated in evaluated.questions], mean)


def mean_score(scores: Sequence[float], mean: Mean = "arithmetic") -> float:
    """Return the mean of scores from 1 to 5, at least one of them."""
    average = fmean if mean == "arithmetic" else geometric_mean
    # Rounding must not put it outside of 1 to 5, which a record refuses.
    return min(max(average(scores), RATINGS[0]), RATINGS[-1])
