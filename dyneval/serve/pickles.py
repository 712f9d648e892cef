"""Pickles of trainers, read without trusting them: plain values only, built here, one instruction at a time.

Python's own `Unpickler` runs what a pickle says, and even with its classes shut away a few bytes make it reserve
gigabytes (a memo entry of a high number), or compute for hours (a million integers of one hash as keys). What stands
here knows bytes, texts, numbers, booleans, None, lists, tuples and dicts with texts as keys, and no instruction that
names, calls or builds anything else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from typing import Any

import msgspec

from dyneval.serve.bodies import Upload
from dyneval.serve.refusal import Refusal, unprocessable
from dyneval.serve.reward_forms import Result, RewardRequest, check_count, reward_of

_MOST_STEPS = 100_000
"""Instructions, 0.2 s of work: 1,024 images with a prompt and a few further values each take a tenth of that."""
_DEEPEST = 16
_PROTOCOLS = range(2, 6)
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_VALUES = _NUMBERS | _TEXTS | _BYTES
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KNOWN = _VALUES.union(_EMPTY, _CONSTANTS, _TUPLES) | {
    *("PROTO", "FRAME", "STOP", "MARK", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}


class PickleError(ValueError):
    """A pickle that is broken, or holds something else than plain values."""


def loads(data: bytes, most: int) -> Any:
    """The plain values of a pickle of the protocols 2 to 5.

    Args:
        data: the pickle.
        most: bytes that its values may have when each that stands in several places is counted in each.

    Raises:
        PickleError: it is none, or one of other things, or of too many.
    """
    machine, stream = _Machine(), io.BytesIO(data)
    try:
        for _ in range(_MOST_STEPS):
            opcode = _OPCODES[stream.read(1)]
            if opcode.name not in _KNOWN:  # before its argument is read, which may be all of a large body
                raise PickleError(
                    f"the instruction {opcode.name}: only bytes, texts, numbers, lists, tuples and dicts are read; of "
                    "arrays of numpy send array.tolist()"
                )
            machine.do(opcode.name, opcode.arg and opcode.arg.reader(stream))
            if opcode.name == "STOP":
                break
        else:
            raise PickleError(f"more than {_MOST_STEPS} instructions")
        value = machine.result()
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PickleError(f"broken ({error})") from None
    size = _size(value, {}, _DEEPEST)
    if size > most:
        raise PickleError(f"{size} bytes when repeated values are counted each time, at most {most}")
    return value


class _Machine:
    """The stack of a pickle, its marks, and what it remembers under the next number, as picklers count."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._taken(_TUPLES[name])))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "PROTO":
            if argument not in _PROTOCOLS:
                raise PickleError(f"protocol {argument}, expected 2 to 5")
        else:
            self._collect(name)

    def _collect(self, name: str) -> None:
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "TUPLE":
            self._stack.append(tuple(self._since_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = self._taken(1) if name == "APPEND" else self._since_mark()
            self._top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._taken(2) if name == "SETITEM" else self._since_mark()
            target = self._top(dict)
            for key, value in zip(values[::2], values[1::2], strict=True):
                if type(key) is not str:  # others may be made to have one hash
                    raise PickleError(f"a key that is a {type(key).__name__}, expected texts")
                target[key] = value

    def result(self) -> Any:
        """The one value that is left."""
        if len(self._stack) != 1 or self._marks:
            raise PickleError("broken (values are left over)")
        return self._stack[0]

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise PickleError(f"broken (a {type(self._stack[-1]).__name__} in place of a {kind.__name__})")
        return self._stack[-1]

    def _taken(self, count: int) -> list[Any]:
        return self._cut(len(self._stack) - count)

    def _since_mark(self) -> list[Any]:
        return self._cut(self._marks.pop())

    def _cut(self, at: int) -> list[Any]:
        if at < (self._marks[-1] if self._marks else 0) or at > len(self._stack):
            raise PickleError("broken (values are missing)")
        values = self._stack[at:]
        del self._stack[at:]
        return values


def _size(value: Any, known: dict[int, int], depth: int) -> int:
    """Bytes of a value; what stands in several places counts in each. Raises PickleError where it is too deep."""
    if isinstance(value, bytes | str):
        return 8 + len(value)
    if not isinstance(value, list | tuple | dict):
        return 8
    if id(value) not in known:
        if depth == 0:
            raise PickleError(f"more than {_DEEPEST} values one within the other, or one within itself")
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 8 + sum(_size(one, known, depth - 1) for one in inner)
    return known[id(value)]


class PickledRequest(msgspec.Struct, frozen=True):
    """As verl-omni's client of a scoring service and DDPO's kin send it."""

    images: list[bytes]
    prompts: list[str]


def read_pickle(body: bytes, part: str | None, most: int) -> RewardRequest:
    """Read {"images": [bytes of image files], "prompts": [texts]}; further keys are ignored. Raises Refusal (400, 422).

    The answer is {"scores", "outputs": [floats]}: the first is what verl-omni reads, the second what DDPO's kin do.
    """
    try:
        # builtin_types: else a text would be taken for bytes in base64.
        found = msgspec.convert(loads(body, most), PickledRequest, builtin_types=(bytes,))
    except PickleError as error:
        raise Refusal(400, "pickle", f"pickle: {error}") from None
    except msgspec.ValidationError as error:
        raise unprocessable(f'pickle: expected {{"images": [bytes], "prompts": [texts]}}; {error}') from None
    check_count(found.images, found.prompts)

    def answer(results: Sequence[Result]) -> bytes:
        rewards = [reward_of(result, part) for result in results]
        return pickle.dumps({"scores": rewards, "outputs": rewards})

    uploads = [Upload(image, prompt, None) for image, prompt in zip(found.images, found.prompts, strict=True)]
    return RewardRequest(uploads, answer, refused_pickle)


def refused_pickle(refusal: Refusal) -> bytes:
    """The body that tells a refusal."""
    return pickle.dumps({"error": refusal.message})
