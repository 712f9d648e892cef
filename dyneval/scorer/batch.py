"""A batch of pairs on its way through the four passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from dyneval import tokens
from dyneval.processing import IMAGE_TOKEN, Encoded, Processor, Turn
from dyneval.scorer.decoder import Decoder, Job, Prefix
from dyneval.scorer.grammar import ReplyGrammar, reply_schema
from dyneval.scorer.passes import Question, merge_questions, scored_questions
from dyneval.scorer.settings import ScorerSettings

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

_REMEMBERED_PROMPTS = 10_000


@dataclass(slots=True)
class Work:
    """One pair and what the passes have found out about it so far."""

    prompt: str
    image: Image.Image
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
        self._grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self._decoder = Decoder(model, self._grammar)
        self._asked: dict[str, list[Question]] = {}

    def run(self, works: Sequence[Work]) -> None:
        """Fill in questions with scores, and scene graphs; a pair that fails gets its `failure` and is left behind."""
        for work in works:
            self._prepare(work)
        self._ask_t2ia(_alive(works))
        works = _alive(works)
        if not works:
            return
        prefix = self._read_images(works)
        scenes = [self._scene_job(work) for work in works]
        evaluations = [self._evaluation_job(work, work.t2ia_questions) for work in works]
        self._decoder.decode([*scenes, *evaluations], self.settings.max_new_tokens, prefix)
        for work, scene, evaluation in zip(works, scenes, evaluations, strict=True):
            work.t2ia_questions = _scored(work, "T2IA evaluation", evaluation, work.t2ia_questions)
            _take_scene(work, scene)
        works = _alive(works)
        evaluations = [self._evaluation_job(work, work.iqa_questions) for work in works]
        self._decoder.decode(evaluations, self.settings.max_new_tokens, prefix)
        for work, evaluation in zip(works, evaluations, strict=True):
            work.iqa_questions = _scored(work, "IQA evaluation", evaluation, work.iqa_questions)

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
        template, limits = self.settings.template, self.settings.limits
        schema = reply_schema("t2ia", limits)
        jobs = {
            prompt: Job(self._ids(tokens.t2ia_turn(prompt, template), []), self._grammar.constraint(schema, keep=True))
            for prompt in dict.fromkeys(work.prompt for work in works)
            if prompt not in self._asked
        }
        if jobs:
            self._decoder.decode(list(jobs.values()), self.settings.max_new_tokens)
        answered = {prompt: merge_questions(job.reply()) for prompt, job in jobs.items() if not job.failure}
        self._asked |= answered
        for work in works:
            if work.prompt in self._asked:
                work.t2ia_questions = self._asked[work.prompt]
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
        constraint = self._grammar.constraint(reply_schema("iqa", self.settings.limits), keep=True)
        return Job(self._behind_image(work, tokens.iqa_turn()), constraint, work.prefix_row)

    def _evaluation_job(self, work: Work, questions: Sequence[Question]) -> Job:
        texts = [question["question"] for question in questions]
        constraint = self._grammar.constraint(reply_schema("evaluation", self.settings.limits, texts))
        return Job(self._behind_image(work, tokens.evaluation_turn(work.prompt, texts)), constraint, work.prefix_row)

    def _behind_image(self, work: Work, turn: str) -> list[int]:
        return self._ids(turn, [work.visual_tokens])[work.prefix_length :]

    def _ids(self, turn: str, visual_tokens: list[int]) -> list[int]:
        conversation = [Turn("user", turn, len(visual_tokens))]
        return self.processor.layout(conversation, visual_tokens, add_generation_prompt=True)[0]


def _alive(works: Sequence[Work]) -> list[Work]:
    return [work for work in works if not work.failure]


def _scored(work: Work, name: str, job: Job, questions: list[Question]) -> list[Question]:
    if job.failure:
        work.failure = work.failure or f"{name}: {job.failure}"
        return []
    return scored_questions(questions, job.reply()["answers"], job.score_probabilities)


def _take_scene(work: Work, job: Job) -> None:
    if job.failure:
        work.failure = work.failure or f"IQA questions: {job.failure}"
        return
    reply = job.reply()
    work.scene_graph, work.iqa_questions = reply["scene_graph"], merge_questions(reply["questions"])
