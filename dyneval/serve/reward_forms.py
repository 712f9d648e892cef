"""Bodies of trainers' requests, and the answers that their clients read: as they send them, not as we would have them.

Each trainer has a client of its own, with a form of its own; without this module its users would have to write one. Per
form: the Structs are the body, `read_...` makes a RewardRequest of it, and `answer` inside makes the body that goes
back. Keys that a client sends beside those named here say nothing about the image, and are ignored.

Rewards are the soft scores of `dyneval.rewards.reward.Reward`, 0-1, higher is better: `overall`, or the part that the
server's mode has.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from dyneval.records import ScoreName, ScoreRecord, normalised_score
from dyneval.serve.bodies import Upload, loosely_parsed
from dyneval.serve.refusal import Refusal, unprocessable

PART_NAMES: tuple[ScoreName, ...] = ("overall", "t2ia", "iqa")
"""The first one that the mode has is the reward where none is named. UniRL's client takes the first, too."""
MOST_IMAGES = 1024
"""Images in a request: several of the groups that trainers send at once."""
Result = ScoreRecord | Refusal
"""A score record, or why there is none."""
_CAPTION = "Text Caption: ["
# An unknown instruction may ask anything. Answered with scores, it would train a model on numbers that do not mean what
# was asked, so it is refused.
_TEMPLATES = (("Final Score:",), ("Alignment Score (1-5)", "Coherence Score (1-5)", "Style Score (1-5)"))
"""What the known instructions ask for, each in its own way; all of them end in the caption."""


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """What a trainer's request asks for, and how it is answered."""

    uploads: Sequence[Upload]
    """The pairs to score, in the order of the answer."""
    answer: Callable[[Sequence[Result]], bytes]
    """Makes the body of the answer. Raises Refusal, where the client is told by the status of HTTP."""
    refused: Callable[[Refusal], bytes]
    """Makes the body about a refusal that came after the status was sent."""


def rewards_of(record: ScoreRecord) -> dict[str, float]:
    """Return the rewards of a score record, 0-1, higher is better: `overall` first, where the mode has it."""
    soft = record.soft or {}
    return {name: normalised_score(soft[name]) for name in PART_NAMES if name in soft}


def reward_of(result: Result, part: str | None) -> float:
    """Return one reward.

    Args:
        result: of a pair.
        part: name of the reward; None: the first that there is.

    Raises:
        Refusal: that of the pair; or 422, the server's mode has no such part.
    """
    if isinstance(result, Refusal):
        raise result
    rewards = rewards_of(result)
    wanted = part or next(iter(rewards))
    if wanted not in rewards:
        raise unprocessable(f"there is no score {wanted} in this server's mode, only {', '.join(rewards)}")
    return rewards[wanted]


def check_count(images: Sequence[Any], prompts: Sequence[Any]) -> None:
    """Raise Refusal (422) if there are too many images, or not as many prompts as images."""
    if len(images) != len(prompts):
        raise unprocessable(f"images: {len(images)}, prompts: {len(prompts)}; expected as many of both")
    if len(images) > MOST_IMAGES:
        raise unprocessable(f"{len(images)} images are too many, at most {MOST_IMAGES}")


# ---------------------------------------------------------------------------------------------------------------------
# Flow-Factory: POST /compute


class ComputeRequest(Struct, frozen=True):
    """As the remote reward models of Flow-Factory send it; images are PNG in base64."""

    prompt: list[str]
    image: list[str] | None = None
    video: list[Any] | None = None
    condition_images: list[Any] | None = None
    condition_videos: list[Any] | None = None


def read_compute(body: bytes, part: str | None) -> RewardRequest:
    """Read a request to /compute.

    What is wrong with a pair is told in the answer (`error`), which ends a training run with its reason. By its status
    the client would not learn it, and would ask three times. What is wrong with the machine is told by the status.

    Args:
        body: JSON of a ComputeRequest.
        part: name of the reward; None: the first that the mode has.

    Raises:
        Refusal: 422, the body has another form.
    """
    found = loosely_parsed(ComputeRequest, body)
    images = found.image or []

    def answer(results: Sequence[Result]) -> bytes:
        try:
            return _json({"rewards": [reward_of(result, part) for result in results]})
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            number = next((n for n, result in enumerate(results, 1) if result is refusal), 0)
            return _json({"error": f"pair {number}: {refusal.message}" if number else refusal.message})

    try:
        check_count(images, found.prompt)
        if found.video or found.condition_images or found.condition_videos:
            raise unprocessable("an image is judged against its prompt; videos and images to be edited are not")
    except Refusal as refusal:
        told = _json({"error": refusal.message})
        return RewardRequest([], lambda _: told, lambda _: told)
    uploads = [Upload(image, prompt, None) for image, prompt in zip(images, found.prompt, strict=True)]
    return RewardRequest(uploads, answer, lambda refusal: _json({"error": refusal.message}))


# ---------------------------------------------------------------------------------------------------------------------
# UniRL: POST /score


class ServiceTurn(Struct, frozen=True):
    """One turn of a sample; of an edit there would be two, before and after."""

    text: str
    image_b64: str | None = None
    video_b64: str | None = None
    video_path: str | None = None


class ServiceSample(Struct, frozen=True):
    """One sample, and its identity, which newer clients want back."""

    history: Annotated[list[ServiceTurn], Meta(min_length=1)]
    required_rewards: list[str]
    request_id: str | None = None
    sample_id: str | int | None = None
    group_id: str | int | None = None
    source_rank: int | None = None
    policy_version: int | None = None
    scorer_version: str | None = None
    idempotency_key: str | None = None


class ServiceRequest(Struct, frozen=True):
    """As UniRL's client of its reward service sends it; images are files in base64."""

    requests: list[ServiceSample]
    protocol_version: Literal["1"] = "1"


# Newer clients want these fields of a sample back as they came.
_IDENTITY = tuple(name for name in ServiceSample.__struct_fields__ if name not in ("history", "required_rewards"))


def read_service(body: bytes, offered: dict[str, tuple[str, ...]]) -> RewardRequest:
    """Read a request to /score.

    A sample that cannot be scored has its reason in `errors`; the others have their scores.

    Args:
        body: JSON of a ServiceRequest.
        offered: scores by name of a reward, the first of which clients take.

    Raises:
        Refusal: 400, a reward that is not offered, an edit or a video; 422, the body has another form, or no image.
    """
    samples = loosely_parsed(ServiceRequest, body).requests
    for sample in samples:
        unknown = [name for name in sample.required_rewards if name not in offered]
        if unknown:
            raise Refusal(400, "rewards", f"no reward {unknown[0][:60]!r} here, only {', '.join(offered)}")
        if len(sample.history) > 1 or sample.history[0].video_b64 or sample.history[0].video_path:
            raise Refusal(400, "history", "an image is judged against its prompt; edits and videos are not")
    images = [sample.history[0].image_b64 for sample in samples]
    if any(image is None for image in images):
        raise unprocessable("image_b64: a turn without an image")
    check_count(images, samples)

    def answer(results: Sequence[Result]) -> bytes:
        scores: list[dict[str, Any]] = []
        errors: list[dict[str, str]] = []
        for sample, result in zip(samples, results, strict=True):
            names = sample.required_rewards
            if isinstance(result, Refusal):
                scores.append({})
                errors.append(dict.fromkeys(names, result.message))
            else:
                found = rewards_of(result)
                scores.append({name: {part: found[part] for part in offered[name]} for name in names})
                errors.append({})
        identities = [{name: getattr(sample, name) for name in _IDENTITY} for sample in samples]
        known = {"identities": identities} if any(sample.request_id for sample in samples) else {}
        return _json({"results": scores, "errors": errors, "protocol_version": "1"} | known)

    uploads = [Upload(image or "", one.history[0].text, None) for image, one in zip(images, samples, strict=True)]
    return RewardRequest(uploads, answer, lambda refusal: answer([refusal] * len(samples)))


# ---------------------------------------------------------------------------------------------------------------------
# Clients of chat models that judge: POST /v1/chat/completions


class ImageUrl(Struct, frozen=True):
    """An image in a message: a data URL; others are not opened."""

    url: str


class MessagePart(Struct, frozen=True):
    """A part of a message."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageUrl | None = None


class JudgeMessage(Struct, frozen=True):
    """A message: one image, and a text that ends in its caption."""

    role: Literal["user"]
    content: list[MessagePart]


class DynEvalFields(Struct, frozen=True):
    """What a client of ours may add (`extra_body`), instead of a known text."""

    prompt: str


class JudgeChatRequest(Struct, frozen=True):
    """As clients of a chat model send it; sampling and the model's name change nothing."""

    messages: Annotated[list[JudgeMessage], Meta(min_length=1, max_length=1)]
    model: str = "dyneval"
    n: Literal[1] | None = None
    stream: Literal[False] | None = None
    dyneval: DynEvalFields | None = None


def read_chat(body: bytes) -> RewardRequest:
    """Read a request to /v1/chat/completions.

    The answer is one text for all clients that we know of. UnifiedReward's first form wants `Final Score`, 1-5: that is
    `overall`. Its second form wants three scores, which verl-omni takes the mean of: alignment is `t2ia`, coherence and
    style both are `iqa`, so image quality weighs two thirds there.

    Args:
        body: JSON of a JudgeChatRequest.

    Raises:
        Refusal: 400, it asks something else than an image's scores.
    """
    try:
        found = loosely_parsed(JudgeChatRequest, body)
    except Refusal as refusal:
        raise Refusal(
            400, "chat", f"expected one user message with an image and its caption; {refusal.message}"
        ) from None
    contents = found.messages[0].content
    urls = [part.image_url.url for part in contents if part.image_url is not None]
    if len(urls) != 1 or not urls[0].startswith("data:"):
        raise Refusal(400, "chat", "expected one image_url with a data URL; other addresses are not opened")
    prompt = found.dyneval.prompt if found.dyneval else _caption("\n".join(part.text for part in contents))

    def answer(results: Sequence[Result]) -> bytes:
        scores = {name: 1 + 4 * reward_of(results[0], name) for name in PART_NAMES}
        text = (
            f"Alignment Score (1-5): {scores['t2ia']:.4f}\nCoherence Score (1-5): {scores['iqa']:.4f}\n"
            f"Style Score (1-5): {scores['iqa']:.4f}\n\nFinal Score: {scores['overall']:.4f}"
        )
        message = {"role": "assistant", "content": text}
        return _json(
            {
                "id": f"chatcmpl-{uuid.uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": found.model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            }
        )

    return RewardRequest([Upload(urls[0], prompt, None)], answer, lambda refusal: _json({"error": refusal.to_dict()}))


def _caption(text: str) -> str:
    """Return the caption that a known instruction ends in. Raises Refusal (400)."""
    # The first mark and the last bracket: a prompt may hold brackets, and the mark itself, too.
    instruction, _, rest = text.partition(_CAPTION)
    caption = rest.rstrip()
    if not caption.endswith("]") or not any(all(mark in instruction for mark in marks) for marks in _TEMPLATES):
        raise Refusal(
            400,
            "template",
            "not one of the texts that this judge knows: those of UnifiedReward, which end in `Text Caption: [...]`; "
            'others may send {"dyneval": {"prompt": ...}} beside messages',
        )
    return caption[:-1]


def _json(value: Any) -> bytes:
    # In ASCII: what is told back, such as an identity, may hold half of a surrogate pair, which UTF-8 cannot encode.
    return json.dumps(value, allow_nan=False).encode()
