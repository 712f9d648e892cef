"""A batch of pairs on its way through the four passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from dyneval import replies, tokens
from dyneval.loaded_pairs import Pair, PromptError
from dyneval.processing import Turn
from dyneval.records import Part
from dyneval.replies import Evaluated, ReplyError
from dyneval.scorer.passes import Question, merge_questions, scored_questions
from dyneval.scorer.settings import ScorerSettings
from dyneval.scorer.students.base import Ask, Engine, Seen

_NO_QUESTIONS = "the reply asks nothing"
_REMEMBERED_PROMPTS = 10_000


@dataclass(slots=True)
class Work:
    """One pair and what the passes have found out about it so far."""

    prompt: str
    image: Image.Image | Seen
    """As it came, then as the engine holds it."""
    report: Callable[[str, dict[str, Any]], None] = lambda name, found: None
    """Called as each pass ends: "t2ia_questions", "t2ia_scores", "iqa_questions" or "iqa_scores", and what it found."""
    failure: str | None = None
    questions: dict[Part, list[Question]] = field(default_factory=dict)
    evaluated: dict[Part, Evaluated] = field(default_factory=dict)
    scene_graph: dict[str, Any] = field(default_factory=dict)
    raw_graph: Any = None
    """The scene graph as the student wrote it, where that is something else."""
    cut: list[str] = field(default_factory=list)
    """Passes whose reply came to one of the limits on lists and texts: there it was ended, not by the student."""


class FourPasses:
    """Runs batches of pairs through the student."""

    def __init__(self, engine: Engine, settings: ScorerSettings) -> None:
        """`settings` name the template and the reply form; "auto" is for `dyneval.scorer.forms` to settle."""
        assert settings.template != "auto" and settings.reply_form != "auto", "not settled"
        self.engine = engine
        self.settings = settings
        self._template, self._form = settings.template, settings.reply_form
        self.given: dict[str, tuple[list[Question], bool]] = {}
        """T2IA questions by prompt that the student need not be asked for, and whether a limit cut them off."""
        self._asked: dict[str, tuple[list[Question], bool]] = {}

    def run(self, works: Sequence[Work]) -> None:
        """Fill in questions with scores, and scene graphs; a pair that fails gets its `failure` and is left behind."""
        mode = self.settings.mode
        for work in works:
            self._prepare(work)
        if mode != "iqa-only":
            self._ask_t2ia(_alive(works))
        works = _alive(works)
        if not works:
            return
        for work, seen in zip(works, self.engine.read([work.image for work in works]), strict=True):
            work.image = seen
        scenes = [] if mode == "t2ia-only" else [self._scene_ask(work) for work in works]
        evaluations = [] if mode == "iqa-only" else [self._evaluation_ask(work, "t2ia") for work in works]
        self.engine.answer([*scenes, *evaluations], self.settings.max_new_tokens)
        if mode != "t2ia-only":
            evaluations = [self._evaluation_ask(work, "iqa") for work in _alive(works)]
            self.engine.answer(evaluations, self.settings.max_new_tokens)

    def expected_length(self, pair: Pair) -> int:
        """About how many tokens a pair has: those of its image, and a quarter of its prompt's characters."""
        try:
            visual = self.engine.processor.visual_tokens(pair.image.width, pair.image.height)
        except ValueError:  # an image of no usable shape; scoring it will say so
            visual = 0
        return visual + len(pair.prompt) // 4

    def _prepare(self, work: Work) -> None:
        """Check the prompt and prepare the image."""
        try:
            turn = Turn("user", tokens.t2ia_turn(work.prompt, self._template))
            length = len(self.engine.processor.layout([turn], [], add_generation_prompt=True)[0])
            if length > self.settings.max_prompt_tokens:
                raise PromptError(
                    f"the prompt takes {length} tokens, at most {self.settings.max_prompt_tokens} are read "
                    "(max_prompt_tokens); prompts are never cut"
                )
            work.image = self.engine.prepare(work.image)
        except ValueError as error:
            work.failure = str(error)

    def _ask_t2ia(self, works: Sequence[Work]) -> None:
        """Pass 1, once for each prompt, however many images it has."""
        schema = replies.questions_schema(self.settings.limits)
        asks = {
            prompt: Ask("t2ia", tokens.t2ia_turn(prompt, self._template), schema)
            for prompt in dict.fromkeys(work.prompt for work in works)
            if prompt not in self.given and prompt not in self._asked
        }
        self.engine.answer(list(asks.values()), self.settings.max_new_tokens)
        failures = {prompt: self._take_t2ia(prompt, ask) for prompt, ask in asks.items()}
        for work in works:
            asked = self.given.get(work.prompt) or self._asked.get(work.prompt)
            if asked is None:
                work.failure = f"T2IA questions: {failures[work.prompt]}"
                continue
            work.questions["t2ia"], cut = asked
            work.cut += ["t2ia_questions"] * cut
            work.report("t2ia_questions", {"t2ia_questions": work.questions["t2ia"]})
        while len(self._asked) > _REMEMBERED_PROMPTS:
            del self._asked[next(iter(self._asked))]

    def _take_t2ia(self, prompt: str, ask: Ask) -> str | None:
        """Remember the questions of a prompt; returns why there are none."""
        try:
            questions = replies.read_questions(ask.reply())
        except ReplyError as error:
            return str(error)
        merged = merge_questions(questions)
        if not merged:
            return _NO_QUESTIONS
        self._asked[prompt] = merged, self.settings.limits.reached_by_questions(questions)
        return None

    def _scene_ask(self, work: Work) -> Ask:
        def end(ask: Ask) -> None:
            try:
                scene = replies.read_scene(ask.reply())
            except ReplyError as error:
                work.failure = work.failure or f"IQA questions: {error}"
                return
            work.scene_graph, work.raw_graph = scene.graph, scene.raw_graph
            work.questions["iqa"] = merge_questions(scene.questions)
            if not work.questions["iqa"]:
                work.failure = work.failure or f"IQA questions: {_NO_QUESTIONS}"
            limits = self.settings.limits
            if limits.reached_by_questions(scene.questions) or limits.reached_by_graph(scene.graph):
                work.cut.append("iqa_questions")
            work.report("iqa_questions", {"iqa_questions": work.questions["iqa"], "scene_graph": work.scene_graph})

        return Ask("iqa", tokens.iqa_turn(), replies.scene_schema(self.settings.limits), work.image, end)

    def _evaluation_ask(self, work: Work, part: Part) -> Ask:
        texts = [question["question"] for question in work.questions[part]]

        def end(ask: Ask) -> None:
            try:
                evaluated = replies.read_evaluation(ask.reply(), texts, ask.probabilities)
            except ReplyError as error:
                work.failure = work.failure or f"{part.upper()} evaluation: {error}"
                return
            work.evaluated[part] = evaluated
            work.questions[part] = scored_questions(work.questions[part], evaluated)
            if self.settings.limits.reached_by_reasons(evaluated):
                work.cut.append(f"{part}_scores")
            work.report(f"{part}_scores", {f"{part}_questions": work.questions[part]})

        reasoning = self.settings.mode != "fast"
        schema = replies.evaluation_schema(self._form, part, texts, self.settings.limits, reasoning)
        return Ask("evaluation", tokens.evaluation_turn(work.prompt, texts), schema, work.image, end)


def _alive(works: Sequence[Work]) -> list[Work]:
    return [work for work in works if not work.failure]
