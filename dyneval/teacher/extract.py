"""Finds the JSON that a teacher's reply ends with, among thinking, drafts and prose.

A teacher may think aloud, draft an answer, change its mind and put sentences or a code fence around the final one. The
last whole JSON value outside thinking counts. Small slips in it are repaired (a comma too many or missing, single
quotes), as long as the repair loses and invents nothing; an earlier draft never takes its place. If a draft were taken
for the answer, scores that the teacher itself withdrew would be trained on.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from typing import Any, NamedTuple

from dyneval.llm.chat import UnusableReply

MAX_CHARACTERS = 100_000
"""Longer replies are runaways: 160 questions with reasoning take about 50,000 characters."""
_TAG = r"(?:seed:)?(?:think|thinking|thoughts?|reason|reasoning|analysis|reflection|scratchpad)"
_MARK = re.compile(
    rf"(?P<begin>(?i:<{_TAG}>)|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>\s*(?:analysis|commentary)\b)"
    rf"|(?P<end>(?i:</{_TAG}>)|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>\s*final\b)"
    r"""|(?P<json>\{\s*["'}]|\[\s*[\[{"'\]])"""
)
"""Where thinking begins and ends, in the forms of the known model families, and where JSON begins, as against brackets
in a sentence."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|' r"'(?:[^'\\]|\\.)*'" r"|[{\[]|[^\s{}\[\]:,\"']+|[\"']", re.DOTALL)
"""A text in quotes, a bracket that opens, a word or number, or a quote that does not close."""
_PLAIN = re.compile(r"[{\[]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|True|False|None")


class _JsonSpan(NamedTuple):
    """JSON in a reply, from `begin` to `end`.

    It has a `value`, or a `problem`, or is `broken`: then it may be repaired. Both are texts for the message.
    """

    begin: int
    end: int
    value: Any = None
    problem: str = ""
    broken: str = ""


class _NoJson(ValueError):
    """The JSON holds something that cannot be repaired: a key twice, NaN or infinity."""


def extract_json(text: str) -> Any:
    """Return the last JSON object or array in `text` outside thinking.

    Thinking that has an end mark and no begin mark began with the reply: chat templates write the begin mark.

    Raises:
        UnusableReply: the reply is empty or too long, ends in the middle of its thinking, or holds no JSON behind it;
            or the last JSON is broken, has a key twice in one object, or holds NaN or infinity.
    """
    if not text.strip():
        raise UnusableReply("the reply is empty")
    if len(text) > MAX_CHARACTERS:
        raise UnusableReply(f"the reply has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    try:
        last = _last(text)
    except RecursionError:
        raise UnusableReply("the JSON is nested too deeply") from None
    if last.problem:
        raise UnusableReply(last.problem)
    return _repaired(text[last.begin : last.end], last.broken) if last.broken else last.value


def _last(text: str) -> _JsonSpan:
    """The last JSON outside thinking. Raises UnusableReply where there is none."""
    found: _JsonSpan | None = None
    before: _JsonSpan | None = None  # what there was when the thinking began
    is_thinking = has_thought = False
    ends = deque(mark.start() for mark in _MARK.finditer(text) if mark["end"])
    place = 0
    while mark := _MARK.search(text, place):
        place = mark.end()
        if mark["begin"]:
            before, is_thinking = (before if is_thinking else found), True
        elif mark["end"]:
            found, before, is_thinking, has_thought = before, None, False, True
        else:
            # A draft may be left where it stood: one that is broken ends where its thinking does.
            while ends and ends[0] < mark.end():
                ends.popleft()
            until = ends[0] if ends else len(text)
            found = _value(text, mark.start(), until)
            place = found.end
    if is_thinking:
        raise UnusableReply("the reply ends in the middle of its thinking, before an answer")
    if found is None:
        raise UnusableReply("the reply holds no JSON" + (" behind its thinking" if has_thought else ""))
    return found


def _value(text: str, begin: int, until: int) -> _JsonSpan:
    """The JSON that begins at `begin`. If it cannot be parsed, it ends where its brackets close, or at `until`."""
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except ValueError as error:  # broken, or a number of thousands of digits
        depth, end = 0, 0
        for match in _BRACKET.finditer(text, begin, until):  # a text in quotes is one match, without its brackets
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
            if depth == 0:
                end = match.end()
                break
        if isinstance(error, _NoJson):
            return _JsonSpan(begin, end or until, problem=str(error))
        if end:
            return _JsonSpan(begin, end, broken=str(error))
        return _JsonSpan(begin, until, problem=f"the JSON is cut off, or a bracket of it is not closed: {error}")
    return _JsonSpan(begin, end, value)


def _repaired(text: str, broken: str) -> Any:
    """The value of broken JSON. Raises UnusableReply where a repair would lose or invent something."""
    import json_repair

    try:
        value = json_repair.loads(text, skip_json_loads=True)
        kept = _count(value)
    except (RecursionError, ValueError):
        raise UnusableReply(f"the JSON is broken: {broken}") from None
    # json_repair always returns something, also where it dropped a text or closed a list of its own accord. The repair
    # is accepted only if it has as many parts as the reply has tokens, and every token without quotes is a JSON word.
    tokens = _TOKEN.findall(text)
    if kept != len(tokens) or any(token[0] not in "\"'" and not _PLAIN.fullmatch(token) for token in tokens):
        raise UnusableReply(f"the JSON is broken: {broken}")
    return value


def _count(value: Any) -> int:
    """Objects, lists, keys, texts, numbers and constants in a value. Raises ValueError on NaN and infinity."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NoJson(f"the key {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise _NoJson(f"{name} is no JSON number")


# strict=False admits line feeds inside of texts, which teachers write into their reasoning.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)
