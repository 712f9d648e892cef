"""`dyneval annotate --dry-run`: the requests about the first pair as text, with their token counts.

A run over 500,000 pairs costs GPU days. Here a user reads what would be sent, and sees whether it fits the server's
context, without a server. If the requests were built here in another way than in `workflows`, the look would mislead:
both use `prompts`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.files.images import load_image, resolve_below
from dyneval.files.pairs import read_pairs
from dyneval.files.store import JsonlIndex
from dyneval.llm.chat import ChatRequest
from dyneval.llm.pictures import fit
from dyneval.llm.registry import MAX_PIXELS
from dyneval.processing import PixelLimits, grid
from dyneval.records import ANNOTATIONS, NEEDS, IQAQuestions, PairRecord, Question, T2IAQuestions, key_of
from dyneval.teacher import prompts
from dyneval.teacher.runner import AnnotateConfig

_PLACEHOLDER = [Question(question="(the questions of this pair, once they are there)", answer="yes")]
_TEACHER_LIMITS = PixelLimits(65_536, 16_777_216)
"""Pixel limits of the Qwen3-VL checkpoints, not the smaller ones of training: a tiny picture costs 64 tokens too."""
_CHAT_TOKENS = 5
"""Tokens of Qwen's chat template around a turn: <|im_start|>, the role, a line feed, and <|im_end|>, a line feed."""


def render(config: AnnotateConfig, model: str) -> str:
    """Return the requests of `config.workflows` about the first pair, each with its tokens.

    Raises:
        DataFileError: there is no pair.
        ImageError: its image cannot be used.
    """
    pair = next(read_pairs(config.metadata, PairRecord, lambda _: None, shard=config.shard), None)
    if pair is None:
        raise DataFileError(f"{config.metadata}: holds no pair to show")
    count, how = _counter(model)
    shown = []
    for request in _requests(config, pair):
        images = [path for message in request.messages for path in message.images]
        text = sum(count(message.text) + _CHAT_TOKENS for message in request.messages)
        pixels = sum(image_tokens(path) for path in images)
        shown.append(f"===== {request.task}: {text + pixels} tokens ({text} text, {pixels} image; {how})")
        for message in request.messages:
            shown += [f"--- {message.role}", *(f"[image {path}]" for path in message.images), message.text]
        schema = json.dumps(request.schema)
        shown.append(f"--- reply: at most {request.max_tokens} tokens, JSON Schema of {len(schema)} characters\n")
    return "\n".join(shown) + "\n"


def _requests(config: AnnotateConfig, pair: PairRecord) -> Iterator[ChatRequest]:
    image = resolve_below(config.metadata.parent, pair.file_name)
    for name in config.workflows:
        questions: Sequence[Question] = _PLACEHOLDER
        if (needed := NEEDS.get(name)) and (path := config.folder / f"{needed}.jsonl").exists():
            row = JsonlIndex(path, ANNOTATIONS[needed]).get(key_of(needed, pair))
            questions = row.questions if isinstance(row, T2IAQuestions | IQAQuestions) else _PLACEHOLDER
        if name == "t2ia_questions":
            yield prompts.alignment_request(pair.prompt)
            yield prompts.distortion_request(pair.prompt)
        elif name == "iqa_questions":
            yield prompts.scene_request(image)
        elif name == "t2ia_answers":
            yield prompts.answers_request("t2ia", image, pair.prompt, questions)
        else:
            yield prompts.answers_request("iqa", image, pair.prompt, questions)


def image_tokens(path: Path) -> int:
    """Visual tokens of an image at a Qwen3-VL teacher, and two for the marks around them.

    The image is resized twice: by the engine before it is sent (`MAX_PIXELS`), and by the server's processor.
    """
    width, height = load_image(path).size
    if width * height > MAX_PIXELS:
        width, height = fit(width, height, MAX_PIXELS)
    return math.prod(grid(width, height, _TEACHER_LIMITS)) + 2


def _counter(model: str) -> tuple[Callable[[str], int], str]:
    """Count tokens with the model's tokenizer where it is on this machine, else estimate. Nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from tokenizers import Tokenizer

    file: object = Path(model) / "tokenizer.json"
    if not Path(model, "tokenizer.json").is_file():
        try:
            file = try_to_load_from_cache(model, "tokenizer.json")
        except HFValidationError:  # `model` is the name of a folder that is not there
            file = None
    # The cache answers with a marker object, not a path, where it knows that the file does not exist.
    if not isinstance(file, str | Path):
        return lambda text: math.ceil(len(text) / 4), "estimated, 4 characters a token: the tokenizer is not here"
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text).ids), f"counted with the tokenizer of {model}"
