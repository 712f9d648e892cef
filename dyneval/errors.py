"""What a user can mend. Command lines show it as one line; every other exception is a fault of ours, with traceback.

A message names the file, flag or pair, says what was found and expected, and what to do. Kinds that several packages
raise or look for are here; one that a single module raises stands there, also below `UserError`. The second bases are
for callers in Python, who expect a ValueError for a bad argument and a RuntimeError where a resource failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


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


_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(https?://[^?#\s]*\?)[^\s\"'<>),;]+")


def without_secrets(text: str) -> str:
    """A text fit for files and logs: its addresses without user and password, and without the query, which holds keys.

    "http://me:secret@host/v1?key=secret" becomes "http://host/v1?...".
    """
    return _QUERY.sub(r"\1...", _LOGIN.sub("", text)) if "://" in text else text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What of `known` is nearest to a name that is none of them; None where nothing is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), 1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for the message about a name that is none of those that are known: the nearest, else all of them."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names) or 'none'}"
