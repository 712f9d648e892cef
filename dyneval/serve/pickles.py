"""Pickles of trainers, read without trusting them: plain values only, built here, one instruction at a time.

Unpickling what a stranger sends runs the stranger's code, and yet some trainers speak nothing else. Python's own
`Unpickler` is no way out: even with its classes shut away a few bytes make it reserve gigabytes (a memo entry of a high
number), or compute for hours (a million integers of one hash as keys). So this module follows the instructions itself.
It knows bytes, texts, numbers, booleans, None, lists, tuples and dicts with texts as keys, and no instruction that
names, calls or builds anything else. Whoever adds one to `_KNOWN` decides what strangers may do with the server.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dyneval.serve.bodies import Upload
from dyneval.serve.refusal import Refusal, unprocessable
from dyneval.serve.reward_forms import Result, RewardRequest, check_count, reward_of

_MOST_STEPS = 100_000
"""Instructions, 0.2 s of work: 1,024 images with a prompt and a few further values each take a tenth of that."""
_DEEPEST = 16
"""Values one within the other; a body needs three. The limit also ends lists that hold themselves."""
_PROTOCOLS = range(2, 6)  # protocols 0 and 1 write numbers and texts as lines, with instructions of their own
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_VALUES = _NUMBERS | _TEXTS | _BYTES
# By the names that `pickletools` gives to instructions; its docstrings say what each does.
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What is filled, and with how many values; 0: with all since the last mark.
_FILLING: dict[str, tuple[type, int]] = {
    "APPEND": (list, 1),
    "APPENDS": (list, 0),
    "SETITEM": (dict, 2),
    "SETITEMS": (dict, 0),
}
_KNOWN = _VALUES.union(_EMPTY, _CONSTANTS, _TUPLES, _FILLING) | {
    *("PROTO", "FRAME", "STOP", "MARK", "TUPLE"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}


class PickleError(ValueError):
    """A pickle that is broken, or holds something else than plain values."""


def loads(data: bytes, most: int) -> Any:
    """Read the plain values of a pickle of the protocols 2 to 5.

    Args:
        data: the pickle.
        most: bytes that its values may have when each that stands in several places is counted in each. A list of a
            thousand references to one image is a small pickle, but each of them is decoded.

    Returns:
        The value: bytes, str, int, float, bool, None, or lists, tuples and dicts of these.

    Raises:
        PickleError: `data` is no pickle, is broken, or holds other things or too much.
    """
    machine, stream = _Machine(), io.BytesIO(data)
    try:
        for _ in range(_MOST_STEPS):
            opcode = _OPCODES[stream.read(1)]
            # Before its argument is read: that may be all of a large body, and pickletools makes several copies of it.
            if opcode.name not in _KNOWN:
                raise PickleError(
                    f"the instruction {opcode.name}: only bytes, texts, numbers, lists, tuples and dicts are read; of "
                    "arrays of numpy send array.tolist()"
                )
            machine.do(opcode.name, opcode.arg and opcode.arg.reader(stream))
            if opcode.name == "STOP":
                break
        else:
            raise PickleError(f"more than {_MOST_STEPS} instructions")
        if len(machine.stack) != 1 or machine.marks:
            raise PickleError("broken (values are left over)")
        value = machine.stack[0]
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PickleError(f"broken ({error})") from None
    size = _size(value, {}, _DEEPEST)
    if size > most:
        raise PickleError(f"{size} bytes when repeated values are counted each time, at most {most}")
    return value


@dataclass(slots=True)
class _Machine:
    """The state of reading a pickle.

    Attributes:
        stack: values that are built and not yet put into another one.
        marks: heights of the stack at which a list, tuple or dict began.
        memo: what may be referred to again, by number. MEMOIZE takes the next number, as picklers count.
    """

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def do(self, name: str, argument: Any) -> None:
        """Follow one instruction. Raises PickleError, or what a broken pickle makes of lists and dicts."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "PROTO":
            if argument not in _PROTOCOLS:
                raise PickleError(f"protocol {argument}, expected 2 to 5")
        else:
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Follow an instruction that puts several values into one. FRAME and STOP change nothing."""
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            self.stack.append(tuple(self._pop(len(self.stack) - self.marks.pop())))
        elif name in _FILLING:
            kind, count = _FILLING[name]
            # The mark goes before `_pop`, which takes nothing from below the mark that is then the last.
            values = self._pop(count or len(self.stack) - self.marks.pop())
            target, found = self.stack[-1], type(self.stack[-1])
            if found is not kind:
                raise PickleError(f"broken (a {found.__name__} in place of a {kind.__name__})")
            if kind is list:
                target.extend(values)
                return
            for key, value in zip(values[::2], values[1::2], strict=True):
                # Numbers can be chosen so that all have one hash; a dict of a million of them takes hours. The hashes
                # of texts are salted.
                if type(key) is not str:
                    raise PickleError(f"a key that is a {type(key).__name__}, expected texts")
                target[key] = value

    def _pop(self, count: int) -> list[Any]:
        """Take values from the stack, and none from below the last mark: those belong to another list."""
        at = len(self.stack) - count
        if count < 0 or at < (self.marks[-1] if self.marks else 0):
            raise PickleError("broken (values are missing)")
        values = self.stack[at:]
        del self.stack[at:]
        return values


def _size(value: Any, known: dict[int, int], depth: int) -> int:
    """Return the bytes of a value; what stands in several places counts in each. Raises PickleError: it is too deep.

    `known` remembers sizes by identity. Without it, lists that each hold the one before a thousand times would take
    years to add up.
    """
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
    """As verl-omni's client of a scoring service and servers in the manner of DDPO's get it."""

    images: list[bytes]
    """Files, mostly JPEG."""
    prompts: list[str]


def read_pickle(body: bytes, part: str | None, most: int) -> RewardRequest:
    """Read a pickle of a PickledRequest; further keys are ignored.

    The answer is {"scores", "outputs": [floats]}: the first is what verl-omni reads, the second what
    clients in the manner of DDPO's do.

    Args:
        body: the pickle.
        part: name of the reward; None: the first that the server's mode has.
        most: bytes that its values may have, see `loads`.

    Raises:
        Refusal: 400, it is no pickle of plain values; 422, of others than these, or of too many.
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
    """Return the body that tells a refusal to a client that reads pickles."""
    return pickle.dumps({"error": refusal.message})
