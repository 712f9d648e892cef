"""Checks a stored sample and takes it apart into turns and image names.

`judge` alone decides what can be trained on: preflight, the count of tokens and the dataset all call it, so that a
sample that passes the checks does not fail after hours of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from dyneval.processing import Turn
from dyneval.tokens import IMAGE, T2IA, TASK_TOKENS, contains_task_token, split_human_turn
from qwenvl.errors import TrainingInputError

ROLES: dict[str, Literal["system", "user", "assistant"]] = {"system": "system", "human": "user", "gpt": "assistant"}


class StoredTurn(Struct):
    """A turn in a file."""

    speaker: Literal["system", "human", "gpt"] = msgspec.field(name="from")
    value: Annotated[str, Meta(min_length=1)]


class StoredSample(Struct):
    """A sample in a file, for the schema that explains what is wrong with a bad one; other keys are ignored.

    It admits what Qwen's fine-tuning folder does. The builder writes less: `dyneval.records.InstructSample`.
    """

    conversations: Annotated[list[StoredTurn], Meta(min_length=2)]
    image: str | list[str] | None = None
    images: str | list[str] | None = None
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A checked sample: its turns, the images they show in order, and the task token of its first human turn."""

    turns: list[Turn]
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
    images = sample.get("image")
    if images is None:
        images = sample.get("images")
    if images is None:
        images = []
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise TrainingInputError(f"'image' must be a path or a list of paths, found {str(images)[:60]!r}")
    turns = _turns(sample.get("conversations"), len(images))
    human = next((turn for turn in turns if turn.role == "user"), None)
    task = split_human_turn(human.text, human.images).task_token if human else None
    return Conversation(turns, images, task)


def judge(sample: Any, tasks: tuple[str, ...] | None) -> Conversation:
    """Check a sample of a dataset.

    Args:
        sample: as it was stored.
        tasks: task tokens that the dataset's samples may begin with; None allows any, and samples without one.

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
    # Alignment questions are made from the prompt alone; scoring asks for them without an image.
    if bool(conversation.images) != (task != T2IA):
        raise TrainingInputError(f"a {task} sample {'has no' if task == T2IA else 'needs an'} image ({IMAGE})")
    # Task tokens belong to human turns. A student that learns to write one could begin another task in its reply.
    if any(contains_task_token(turn.text) for turn in conversation.turns if turn.role == "assistant"):
        raise TrainingInputError("its answer holds a task token")
    return conversation


def _turns(stored: Any, images: int) -> list[Turn]:
    if not isinstance(stored, list) or not stored:
        raise TrainingInputError("'conversations' must be a list of turns")
    turns: list[Turn] = []
    left = images
    for number, entry in enumerate(stored):
        turn = _turn(entry, number)
        if turn.images > left:
            raise TrainingInputError(f"its human turns begin with more {IMAGE} placeholders than its {images} image(s)")
        left -= turn.images
        turns.append(turn)
    if left:
        raise TrainingInputError(f"{left} of its {images} image(s) have no {IMAGE} at the start of a human turn")
    roles = [turn.role for turn in turns]
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise TrainingInputError(f"human and gpt turns must alternate and end with gpt, found {', '.join(roles)}")
    return turns


def _turn(entry: Any, number: int) -> Turn:
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
    # Only placeholders at the beginning of a human turn stand for images; one in a prompt is text.
    images, rest = 0, entry["value"].lstrip()
    while entry["from"] == "human" and rest.startswith(IMAGE):
        images, rest = images + 1, rest[len(IMAGE) :].lstrip()
    return Turn(ROLES[entry["from"]], entry["value"], images)
