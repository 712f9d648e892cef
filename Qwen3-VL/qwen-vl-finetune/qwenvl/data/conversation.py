"""From a stored sample to the turns and image names of a conversation: the one judge of what can be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from dyneval.processing import ChatTurn
from dyneval.tokens import IMAGE, T2IA, TASK_TOKENS, contains_task_token, split_human_turn
from qwenvl.errors import TrainingInputError

ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "human": "user", "gpt": "assistant"}


class StoredTurn(Struct):
    """A turn as it stands in a file."""

    speaker: Literal["system", "human", "gpt"] = msgspec.field(name="from")
    value: Annotated[str, Meta(min_length=1)]


class StoredSample(Struct):
    """A sample as it stands in a file, for the schema that explains bad ones; other keys are passed over.

    What the builder writes is narrower: `dyneval.records.InstructSample`.
    """

    conversations: Annotated[list[StoredTurn], Meta(min_length=2)]
    image: str | list[str] | None = None
    images: str | list[str] | None = None
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A sample taken apart: its turns, the images they show in order, and the task token of its first human turn."""

    turns: list[ChatTurn]
    images: list[str]
    task: str | None


def parse_sample(sample: Any) -> Conversation:
    """Check a sample {"image"?: str or list, "conversations": [{"from": "human"|"gpt"|"system", "value": str}, ...]}.

    Raises:
        TrainingInputError: the sample cannot be trained on; the message says why, and the caller says which it is.
    """
    if not isinstance(sample, dict):
        raise TrainingInputError(f"expected an object, found {type(sample).__name__}")
    if "video" in sample or "videos" in sample:
        raise TrainingInputError("video samples are not supported; DynEval scores single images")
    images = _images(sample)
    turns = _turns(sample.get("conversations"), len(images))
    human = next((turn for turn in turns if turn.role == "user"), None)
    task = split_human_turn(human.text, human.images).task_token if human else None
    return Conversation(turns, images, task)


def judge(sample: Any, tasks: tuple[str, ...] | None) -> Conversation:
    """Check a sample of a dataset whose samples have these task tokens; None allows any, and none.

    Raises:
        TrainingInputError: see `parse_sample`; or its task token is missing, not one of `tasks`, or stands in an
            answer; or it has an image where its task has none, or none where it needs one.
    """
    conversation = parse_sample(sample)
    if tasks is None:
        return conversation
    task = conversation.task
    if task is None:
        raise TrainingInputError(f"its human turn does not begin with a task token ({', '.join(TASK_TOKENS)})")
    if task not in tasks:
        raise TrainingInputError(f"its task token is {task}; this stage trains {' and '.join(tasks)}")
    if bool(conversation.images) != (task != T2IA):
        raise TrainingInputError(f"a {task} sample {'has no' if task == T2IA else 'needs an'} image ({IMAGE})")
    if any(contains_task_token(turn.text) for turn in conversation.turns if turn.role == "assistant"):
        raise TrainingInputError("its answer holds a task token")
    return conversation


def _images(sample: dict[str, Any]) -> list[str]:
    images = sample.get("image")
    if images is None:
        images = sample.get("images")
    if images is None:
        return []
    if isinstance(images, str):
        return [images]
    if isinstance(images, list) and all(isinstance(name, str) for name in images):
        return images
    raise TrainingInputError(f"'image' must be a path or a list of paths, found {str(images)[:60]!r}")


def _turns(stored: Any, images: int) -> list[ChatTurn]:
    if not isinstance(stored, list) or not stored:
        raise TrainingInputError("'conversations' must be a list of turns")
    turns: list[ChatTurn] = []
    left = images
    for number, entry in enumerate(stored):
        role, text = _turn(entry, number)
        shown = _leading_images(text) if role == "user" else 0
        if shown > left:
            raise TrainingInputError(f"its human turns begin with more {IMAGE} placeholders than its {images} image(s)")
        left -= shown
        turns.append(ChatTurn(role, text, shown))
    if left:
        raise TrainingInputError(f"{left} of its {images} image(s) have no {IMAGE} at the start of a human turn")
    _check_order([turn.role for turn in turns])
    return turns


def _turn(entry: Any, number: int) -> tuple[Literal["system", "user", "assistant"], str]:
    if not isinstance(entry, dict) or entry.get("from") not in ROLES or not isinstance(entry.get("value"), str):
        raise TrainingInputError(
            f"turn {number} must be {{'from': one of {', '.join(ROLES)}, 'value': text}}, found {str(entry)[:60]!r}"
        )
    if not entry["value"]:
        raise TrainingInputError(f"turn {number} ({entry['from']}) is empty")
    try:
        entry["value"].encode()
    except UnicodeEncodeError as error:
        raise TrainingInputError(f"turn {number} ({entry['from']}) holds half a character ({error.reason})") from error
    return ROLES[entry["from"]], entry["value"]


def _leading_images(text: str) -> int:
    count, rest = 0, text.lstrip()
    while rest.startswith(IMAGE):
        count, rest = count + 1, rest[len(IMAGE) :].lstrip()
    return count


def _check_order(roles: list[str]) -> None:
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise TrainingInputError(f"human and gpt turns must alternate and end with gpt, found {', '.join(roles)}")
