"""A batch of pairs on its way through the four passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from dyneval import tokens
from dyneval.processing import IMAGE_TOKEN, Encoded, Processor, Turn
from dyneval.scorer.decoder import Decoder, Job, Prefix
from dyneval.scorer.grammar import ReplyGrammar, reply_schema
from dyneval.scorer.pairs import Pair
from dyneval.scorer.passes import Question, merge_questions, scored_questions
from dyneval.scorer.settings import ScorerSettings

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

Half = Literal["t2ia", "iqa"]
_REMEMBERED_PROMPTS = 10_000


@dataclass(slots=True)
class Work:
    """One pair and what the passes have found out about it so far."""

    prompt: str
    image: Image.Image
    report: Callable[[str, dict[str, Any]], None] = lambda name, found: None
    """Called as each pass ends: "t2ia_questions", "t2ia_scores", "iqa_questions" or "iqa_scores", and what it found."""
    failure: str | None = None
    encoded: Encoded | None = None
    visual_tokens: int = 0
    prefix_length: int = 0
    prefix_row: int = 0
    t2ia_questions: list[Question] = field(default_factory=list)
    iqa_questions: list[Question] = field(default_factory=list)
    scene_graph: dict[str, Any] = field(default_factory=dict)


class FourPasses:
    """Runs batches of pairs through the student."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, processor: Processor, settings: ScorerSettings) -> None:
        self.processor = processor
        self.settings = settings
        self.given: dict[str, list[Question]] = {}
        """T2IA questions by prompt that the student need not be asked for."""
        self._asked: dict[str, list[Question]] = {}
        self._grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self._decoder = Decoder(model, self._grammar)

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
        prefix = self._read_images(works)
        scenes = [] if mode == "t2ia-only" else [self._scene_job(work) for work in works]
        evaluations = [] if mode == "iqa-only" else [self._evaluation_job(work, "t2ia") for work in works]
        self._decoder.decode([*scenes, *evaluations], self.settings.max_new_tokens, prefix)
        if mode != "t2ia-only":
            evaluations = [self._evaluation_job(work, "iqa") for work in _alive(works)]
            self._decoder.decode(evaluations, self.settings.max_new_tokens, prefix)

    def expected_length(self, pair: Pair) -> int:
        """About how many tokens a pair has: those of its image, and a quarter of its prompt's characters."""
        try:
            visual = self.processor.visual_tokens(pair.image.width, pair.image.height)
        except ValueError:  # an image of no usable shape; scoring it will say so
            visual = 0
        return visual + len(pair.prompt) // 4

    def _prepare(self, work: Work) -> None:
        """Check the prompt and turn the image into patches."""
        try:
            length = len(self._ids(tokens.t2ia_turn(work.prompt, self.settings.template), []))
            if length > self.settings.max_prompt_tokens:
                raise ValueError(
                    f"the prompt takes {length} tokens, at most {self.settings.max_prompt_tokens} are read "
                    "(max_prompt_tokens); prompts are never cut"
                )
            work.encoded = self.processor.encode([Turn("user", tokens.iqa_turn(), 1)], [work.image], True)
        except ValueError as error:
            work.failure = str(error)
            return
        types = work.encoded.mm_token_type_ids
        last = len(types) - 1 - types[::-1].index(IMAGE_TOKEN)
        work.visual_tokens = types.count(IMAGE_TOKEN)
        work.prefix_length = last + 2  # the end mark of the image belongs to it

    def _ask_t2ia(self, works: Sequence[Work]) -> None:
        """Pass 1, once for each prompt, however many images it has."""
        schema = reply_schema("t2ia", self.settings.limits)
        jobs = {
            prompt: Job(
                self._ids(tokens.t2ia_turn(prompt, self.settings.template), []),
                self._grammar.constraint(schema, keep=True),
            )
            for prompt in dict.fromkeys(work.prompt for work in works)
            if prompt not in self.given and prompt not in self._asked
        }
        self._decoder.decode(list(jobs.values()), self.settings.max_new_tokens)
        self._asked |= {prompt: merge_questions(job.reply()) for prompt, job in jobs.items() if not job.failure}
        for work in works:
            questions = self.given.get(work.prompt) or self._asked.get(work.prompt)
            if questions:
                work.t2ia_questions = questions
                work.report("t2ia_questions", {"t2ia_questions": work.t2ia_questions})
            else:
                work.failure = f"T2IA questions: {jobs[work.prompt].failure}"
        while len(self._asked) > _REMEMBERED_PROMPTS:
            del self._asked[next(iter(self._asked))]

    def _read_images(self, works: Sequence[Work]) -> Prefix:
        """Read each image once; the prefix rows are those of `works`."""
        encoded = []
        for row, work in enumerate(works):
            work.prefix_row = row
            if work.encoded is not None:
                encoded.append(work.encoded)
                work.encoded = None  # its patches are no longer needed
        return self._decoder.read_images(encoded, [work.prefix_length for work in works])

    def _scene_job(self, work: Work) -> Job:
        def end(job: Job) -> None:
            if job.failure:
                work.failure = work.failure or f"IQA questions: {job.failure}"
                return
            reply = job.reply()
            work.scene_graph, work.iqa_questions = reply["scene_graph"], merge_questions(reply["questions"])
            work.report("iqa_questions", {"iqa_questions": work.iqa_questions, "scene_graph": work.scene_graph})

        constraint = self._grammar.constraint(reply_schema("iqa", self.settings.limits), keep=True)
        return Job(self._behind_image(work, tokens.iqa_turn()), constraint, work.prefix_row, on_end=end)

    def _evaluation_job(self, work: Work, half: Half) -> Job:
        questions: list[Question] = getattr(work, f"{half}_questions")

        def end(job: Job) -> None:
            if job.failure:
                work.failure = work.failure or f"{half.upper()} evaluation: {job.failure}"
                return
            scored = scored_questions(questions, job.reply()["answers"], job.score_probabilities)
            setattr(work, f"{half}_questions", scored)
            work.report(f"{half}_scores", {f"{half}_questions": scored})

        texts = [question["question"] for question in questions]
        schema = reply_schema("evaluation", self.settings.limits, texts, reasoning=self.settings.mode != "fast")
        turn = tokens.evaluation_turn(work.prompt, texts)
        return Job(self._behind_image(work, turn), self._grammar.constraint(schema), work.prefix_row, on_end=end)

    def _behind_image(self, work: Work, turn: str) -> list[int]:
        return self._ids(turn, [work.visual_tokens])[work.prefix_length :]

    def _ids(self, turn: str, visual_tokens: list[int]) -> list[int]:
        conversation = [Turn("user", turn, len(visual_tokens))]
        return self.processor.layout(conversation, visual_tokens, add_generation_prompt=True)[0]


def _alive(works: Sequence[Work]) -> list[Work]:
    return [work for work in works if not work.failure]
