"""Errors that a user can mend. The command line shows them as one line; any other exception is a bug, with traceback.

A message names the file, flag or pair, says what was found, what was expected, and what to do. Kinds that several
packages raise or catch are here; a kind that one module raises is defined there, also below `UserError`. An error for
users that is not below `UserError` would reach them as a traceback. The second bases are for callers in Python, who
expect a ValueError for a bad argument and a RuntimeError where a resource failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Input, settings or the machine do not allow what was asked for; the message is made for the user."""


class SettingError(UserError, ValueError):
    """A flag or argument is out of its range, contradicts another, or needs something that this machine lacks."""


class DataFileError(UserError, ValueError):
    """A data file cannot be read; the message names the file and, where it can, the line."""


class SchemaError(UserError, ValueError):
    """A record does not fit its schema; the message says where, what was found and what was expected."""


class ImageError(UserError, ValueError):
    """An image cannot be used; the message names it and says why."""


class CheckpointError(UserError, ValueError):
    """A checkpoint cannot be used; the message names it and says what to do."""


class GenerationError(UserError, ValueError):
    """The drawing of images cannot do what it was asked to; the message says what to change."""


class ClusterError(UserError, RuntimeError):
    """There is no Ray, or no cluster at the address, or the work failed on it; the message says what to do."""


# A query is cut whole, not searched for names such as "key": every service calls its secrets differently.
_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(https?://[^?#\s]*\?)[^\s\"'<>),;]+")


def without_secrets(text: str) -> str:
    """Make a text fit for files and logs: its addresses without user, password and query, which may hold keys.

    "http://me:secret@host/v1?key=secret" becomes "http://host/v1?...".
    """
    return _QUERY.sub(r"\1...", _LOGIN.sub("", text)) if "://" in text else text


# What of our steps writes a file of a name; both those who type verbs and those who run the numbered scripts know it.
_WRITERS = {
    "prompts.parquet": "Step 1 (dyneval prompts)",
    "metadata.jsonl": "Step 2 (dyneval generate)",
    **dict.fromkeys(
        ("t2ia_questions.jsonl", "t2ia_answers.jsonl", "iqa_questions.jsonl", "iqa_answers.jsonl"),
        "Step 3 (dyneval annotate)",
    ),
    **dict.fromkeys(
        ("heldout.jsonl", "dynevalinstruct_t2ia.json", "dynevalinstruct_iqa.json"), "Step 3 (dyneval instruct)"
    ),
    "scores.jsonl": "Step 5 (dyneval score)",
}


def made_by(path: Path) -> str:
    """The hint that ends a message about a missing file: the step that writes files of its name, if one does."""
    return f"; {_WRITERS[path.name]} writes it" if path.name in _WRITERS else ""


def unreadable(path: Path, error: Exception) -> DataFileError:
    """What to raise for a file that could not be opened or read: why, and for a missing one which step makes it."""
    why = getattr(error, "strerror", None) or error
    hint = made_by(path) if isinstance(error, FileNotFoundError) else ""
    return DataFileError(f"{path}: cannot be read ({why}){hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in `known` that is most like `name`, which is not among them; None where none is similar."""
    from difflib import get_close_matches  # here: most command lines have no typing error, and start without it

    names = list(known)
    if close := get_close_matches(name, names, 1):
        return close[0]
    # flux9 is little like flux2-dev as a whole, and its first two thirds are what that begins with.
    begun = [one for one in names if one.startswith(name[: -(-2 * len(name) // 3)])]
    return next(iter(get_close_matches(name, begun, 1, 0)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint that ends a message about an unknown name: the most similar known name, or else all of them."""
    names = list(known)
    # All names only where none is near: a list of 36 models would hide the one that was meant.
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names) or 'none'}"
