"""A batch of pairs on its way through the four passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from dyneval import tokens
from dyneval.processing import Turn
from dyneval.scorer.engines.base import Ask, Engine, Seen
from dyneval.scorer.grammar import reply_schema
from dyneval.scorer.pairs import Pair
from dyneval.scorer.passes import Question, merge_questions, scored_questions
from dyneval.scorer.settings import ScorerSettings

Half = Literal["t2ia", "iqa"]
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
    t2ia_questions: list[Question] = field(default_factory=list)
    iqa_questions: list[Question] = field(default_factory=list)
    scene_graph: dict[str, Any] = field(default_factory=dict)


class FourPasses:
    """Runs batches of pairs through the student."""

    def __init__(self, engine: Engine, settings: ScorerSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.given: dict[str, list[Question]] = {}
        """T2IA questions by prompt that the student need not be asked for."""
        self._asked: dict[str, list[Question]] = {}

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
            turn = Turn("user", tokens.t2ia_turn(work.prompt, self.settings.template))
            length = len(self.engine.processor.layout([turn], [], add_generation_prompt=True)[0])
            if length > self.settings.max_prompt_tokens:
                raise ValueError(
                    f"the prompt takes {length} tokens, at most {self.settings.max_prompt_tokens} are read "
                    "(max_prompt_tokens); prompts are never cut"
                )
            work.image = self.engine.prepare(work.image)
        except ValueError as error:
            work.failure = str(error)

    def _ask_t2ia(self, works: Sequence[Work]) -> None:
        """Pass 1, once for each prompt, however many images it has."""
        schema = reply_schema("t2ia", self.settings.limits)
        asks = {
            prompt: Ask("t2ia", tokens.t2ia_turn(prompt, self.settings.template), schema)
            for prompt in dict.fromkeys(work.prompt for work in works)
            if prompt not in self.given and prompt not in self._asked
        }
        self.engine.answer(list(asks.values()), self.settings.max_new_tokens)
        self._asked |= {prompt: merge_questions(ask.reply()) for prompt, ask in asks.items() if not ask.failure}
        for work in works:
            questions = self.given.get(work.prompt) or self._asked.get(work.prompt)
            if questions:
                work.t2ia_questions = questions
                work.report("t2ia_questions", {"t2ia_questions": work.t2ia_questions})
            else:
                work.failure = f"T2IA questions: {asks[work.prompt].failure}"
        while len(self._asked) > _REMEMBERED_PROMPTS:
            del self._asked[next(iter(self._asked))]

    def _scene_ask(self, work: Work) -> Ask:
        def end(ask: Ask) -> None:
            if ask.failure:
                work.failure = work.failure or f"IQA questions: {ask.failure}"
                return
            reply = ask.reply()
            work.scene_graph, work.iqa_questions = reply["scene_graph"], merge_questions(reply["questions"])
            work.report("iqa_questions", {"iqa_questions": work.iqa_questions, "scene_graph": work.scene_graph})

        return Ask("iqa", tokens.iqa_turn(), reply_schema("iqa", self.settings.limits), work.image, end)

    def _evaluation_ask(self, work: Work, half: Half) -> Ask:
        questions: list[Question] = getattr(work, f"{half}_questions")

        def end(ask: Ask) -> None:
            if ask.failure:
                work.failure = work.failure or f"{half.upper()} evaluation: {ask.failure}"
                return
            scored = scored_questions(questions, ask.reply()["answers"], ask.score_probabilities)
            setattr(work, f"{half}_questions", scored)
            work.report(f"{half}_scores", {f"{half}_questions": scored})

        texts = [question["question"] for question in questions]
        schema = reply_schema("evaluation", self.settings.limits, texts, reasoning=self.settings.mode != "fast")
        return Ask("evaluation", tokens.evaluation_turn(work.prompt, texts), schema, work.image, end)


def _alive(works: Sequence[Work]) -> list[Work]:
    return [work for work in works if not work.failure]
