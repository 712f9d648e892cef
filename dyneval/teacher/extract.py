"""JSON out of a teacher's reply: code fences, lead-in sentences and small slips are forgiven, ambiguity is not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from dyneval.llm.chat import UnusableReply

MAX_CHARACTERS = 100_000
"""Longer replies are runaways: 160 questions with reasoning take about 50,000 characters."""
_FENCE = re.compile(r"```[A-Za-z0-9_-]*\s*\n?(.*?)```", re.DOTALL)
_START = re.compile(r"""\{\s*["'}]|\[\s*[\[{"'\]]""")
"""Where JSON begins, as against brackets in a sentence. Only the first one counts: a later one is a part of it."""


class _DuplicateKey(ValueError):
    pass


def extract_json(text: str) -> Any:
    """Return the JSON object or array in `text`.

    Taken as it is where it parses; else from a code fence; else from where JSON begins; else repaired (missing or
    trailing commas, single quotes, a missing end).

    Raises:
        UnusableReply: empty, too long, no JSON in it, a key twice in one object, or NaN or infinity in it.
    """
    if not text.strip():
        raise UnusableReply("the reply is empty")
    if len(text) > MAX_CHARACTERS:
        raise UnusableReply(f"the reply has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    try:
        for candidate in _candidates(text):
            value = _strict(candidate)
            if value is not None:
                return value
    except _DuplicateKey as error:
        raise UnusableReply(f"the key {error} stands twice in one object") from None
    except RecursionError:
        raise UnusableReply("the JSON is nested too deeply") from None
    return _repaired(text)


def _candidates(text: str) -> Iterator[str]:
    yield text
    for match in _FENCE.finditer(text):
        yield match.group(1)
    if start := _START.search(text):
        yield text[start.start() :]


def _strict(text: str) -> Any:
    """The object or array that `text` begins with and that nothing but a closing sentence follows, or None."""
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return None
    try:
        value, end = _DECODER.raw_decode(stripped)
    except (UnusableReply, _DuplicateKey):
        raise
    except ValueError:  # no JSON, or a number of thousands of digits
        return None
    rest = stripped[end:]
    # More JSON behind it: the reply is in pieces, so this one is not all of it.
    return value if not _START.search(rest) else None


def _repaired(text: str) -> Any:
    import json_repair

    start = _START.search(text)
    if start is None:
        raise UnusableReply("the reply holds no JSON")
    try:
        value = json_repair.loads(text[start.start() :], skip_json_loads=True)
        finite = _finite(value)
    except (RecursionError, ValueError):
        raise UnusableReply("the reply is not JSON and could not be repaired") from None
    if not isinstance(value, dict | list) or not value:
        raise UnusableReply("the reply holds no JSON object")
    if not finite:
        raise UnusableReply("NaN and infinity are no JSON numbers")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKey(repr(next(name for name in names if names.count(name) > 1)))
    return found


def _no_constant(name: str) -> Any:
    raise UnusableReply(f"{name} is no JSON number")


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)
