"""The requests about the first pair as text, with their token counts: what a run would send, before it costs."""

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
from dyneval.records import IQAQuestions, PairRecord, Question, T2IAQuestions, schema_name
from dyneval.teacher import prompts
from dyneval.teacher.runner import AnnotateConfig

_PLACEHOLDER = [Question(question="(the questions of this pair, once they are there)", answer="yes")]
_TEACHER_LIMITS = PixelLimits(65_536, 16_777_216)
"""Those of the Qwen3-VL checkpoints: a small picture costs 64 tokens all the same."""
_CHAT_TOKENS = 5
"""Tokens that the chat template puts around a turn."""


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
    return "".join(_shown(request, count, how) for request in _requests(config, pair))


def _requests(config: AnnotateConfig, pair: PairRecord) -> Iterator[ChatRequest]:
    image = resolve_below(config.metadata.parent, pair.file_name)
    for name in config.workflows:
        if name == "t2ia_questions":
            yield prompts.alignment_request(pair.prompt)
            yield prompts.distortion_request(pair.prompt)
        elif name == "iqa_questions":
            yield prompts.scene_request(image)
        elif name == "t2ia_answers":
            yield prompts.answers_request("t2ia", image, pair.prompt, _known(config, T2IAQuestions, pair.prompt_id))
        else:
            yield prompts.answers_request("iqa", image, pair.prompt, _known(config, IQAQuestions, pair.pair_id))


def _known(config: AnnotateConfig, kind: type[T2IAQuestions | IQAQuestions], key: str) -> Sequence[Question]:
    path = config.folder / f"{schema_name(kind)}.jsonl"
    row = JsonlIndex(path, kind).get(key) if path.exists() else None
    return row.questions if row else _PLACEHOLDER


def _shown(request: ChatRequest, count: Callable[[str], int], how: str) -> str:
    images = [path for message in request.messages for path in message.images]
    text = sum(count(message.text) + _CHAT_TOKENS for message in request.messages)
    pixels = sum(image_tokens(path) for path in images)
    lines = [f"===== {request.task}: {text + pixels} tokens ({text} text, {pixels} image; {how})"]
    for message in request.messages:
        lines += [f"--- {message.role}", *(f"[image {path}]" for path in message.images), message.text]
    schema = json.dumps(request.schema)
    lines.append(f"--- reply: at most {request.max_tokens} tokens, JSON Schema of {len(schema)} characters\n\n")
    return "\n".join(lines)


def image_tokens(path: Path) -> int:
    """Visual tokens of an image, as it is sent to a Qwen3-VL teacher and resized there, and two for its ends."""
    width, height = load_image(path).size
    if width * height > MAX_PIXELS:
        width, height = fit(width, height, MAX_PIXELS)
    return math.prod(grid(width, height, _TEACHER_LIMITS)) + 2


def _counter(model: str) -> tuple[Callable[[str], int], str]:
    """Count tokens with the model's tokenizer where it is on this machine, else estimate."""
    from tokenizers import Tokenizer

    file = _tokenizer_file(model)
    if file is None:
        return lambda text: math.ceil(len(text) / 4), "estimated, 4 characters a token: the tokenizer is not here"
    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text).ids), f"counted with the tokenizer of {model}"


def _tokenizer_file(model: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if (local := Path(model) / "tokenizer.json").is_file():
        return local
    try:
        cached = try_to_load_from_cache(model, "tokenizer.json")
    except HFValidationError:  # a folder that is not there
        return None
    return Path(cached) if isinstance(cached, str) else None
