"""The base of all records: read a row with an error that names the place, write it checked, know its key.

Records are msgspec Structs: reading a row and checking it is one pass over its bytes and takes a third of the time of a
JSON parser and a schema. `dyneval.records` has the types themselves. The traps of msgspec are handled here once: it
takes NaN for null, does not check the bytes that it skips, and refuses 5.0 for a whole number.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, ClassVar, Self

import msgspec
import orjson
from msgspec import Struct

from dyneval.errors import SchemaError

Row = dict[str, Any]
"""A row as plain JSON values."""

# gc=False: what is read from JSON never refers to itself, so the garbage collector need not track it.


class Value(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A part of a record, such as one question. An optional field that is None is left out of the file."""


class Record(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A row of a file. The constructor checks nothing; reading and writing do."""

    KEY: ClassVar[str]
    """The field that tells the rows of a file apart."""
    FREE: ClassVar[frozenset[str]] = frozenset()
    """Fields of any shape; their numbers stay as they were written."""
    DISTINCT: ClassVar[tuple[str, ...]] = ()
    """Fields with lists in which no item may stand twice."""
    RULES: ClassVar[Row] = {}
    """What `check` demands of several fields, as JSON Schema for other programs."""

    def check(self) -> None:
        """Check what fields say together, beyond their types. Raises ValueError."""

    @classmethod
    def decode(cls, line: bytes, where: str = "record") -> Self:
        """Read a row. A whole number may be written as 5.0.

        Args:
            line: the row as JSON; unknown keys are skipped.
            where: what messages begin with, such as "scores.jsonl:3".

        Raises:
            SchemaError: `line` is not such a record; the message says which field, what was found and what was
                expected.
        """
        try:
            if not line.isascii():
                line.decode("utf-8")  # msgspec does not check whether fields that it skips are UTF-8
            return cls._checked(line, where)
        except msgspec.ValidationError as error:
            # Only rows that do not fit pay for this second reading, which makes 5.0 a 5.
            try:
                try:
                    row = msgspec.json.decode(line)
                except msgspec.ValidationError:  # the only one that a value without a type can raise
                    raise SchemaError(
                        f"{where}: a number is out of range, such as 1e999; doubles end at 1.8e308"
                    ) from None
                return cls._checked(msgspec.json.encode(_with_whole_numbers(row, cls.FREE)), where)
            except SchemaError:
                raise
            except msgspec.ValidationError as what:
                raise SchemaError(f"{where}: {_with_place(str(what), row)}") from None
            except (ValueError, RecursionError):
                raise SchemaError(f"{where}: is not JSON ({error})") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SchemaError(f"{where}: is not JSON ({error})") from None

    @classmethod
    def _checked(cls, line: bytes, where: str) -> Self:
        record: Self = msgspec.json.decode(line, type=cls)
        for name in cls.DISTINCT:
            items = getattr(record, name) or ()
            if len(set(items)) < len(items):
                raise SchemaError(f"{where}: {name} holds an item twice")
        try:
            record.check()
        except ValueError as error:
            raise SchemaError(f"{where}: {error}") from None
        return record

    @classmethod
    def key_in(cls, line: bytes) -> str | None:
        """The key of a row that may not fit the record, for messages; None where it has none."""
        try:
            row = orjson.loads(line)
        except ValueError:
            return None
        key = row.get(cls.KEY) if isinstance(row, dict) else None
        return str(key)[:200] if key else None  # a key from outside may be of any length, and ends in a rejects file

    @classmethod
    def from_dict(cls, row: Any, where: str = "record") -> Self:
        """Make the record from plain values. Raises SchemaError, see `decode`."""
        # Through JSON, so that a row from a table is held to the same rules as a row of a file.
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"{where}: cannot be written as JSON ({error})") from error
        return cls.decode(line, where)

    def encode(self) -> bytes:
        r"""The row as it stands in a file, without the line's end: ", " and ": " as separators, text unescaped.

        Raises:
            SchemaError: a field does not hold what its type says, or holds NaN or infinity.
        """
        where = str(getattr(self, self.KEY, type(self).__name__))
        try:
            line = msgspec.json.format(msgspec.json.encode(self), indent=0)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SchemaError(f"{where}: cannot be written as JSON ({error})") from error
        # msgspec writes NaN as null, which an optional field would read as absent: the score would be lost in silence.
        if b"null" in line and (name := _not_finite(self)):
            raise SchemaError(f"{where}: {name}: found NaN or infinity, expected a number")
        self.decode(line, where)  # the constructor has checked nothing
        return line

    def to_dict(self) -> Row:
        """The row as plain JSON values; optional fields that are None are left out. Raises SchemaError."""
        row: Row = orjson.loads(self.encode())
        return row


def _with_whole_numbers(value: Any, free: frozenset[str] = frozenset()) -> Any:
    """Replace 5.0 by 5 everywhere but in the fields named in `free`.

    msgspec's `strict=False` is no way to do this: it would also take "5" for a number and 0 for false.
    """
    if isinstance(value, dict):
        return {name: item if name in free else _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    # Below 2**53 every whole number has its own float; above, the int would claim digits that nobody wrote.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


def _not_finite(value: Any, name: str = "") -> str | None:
    """The place of the first number that JSON cannot hold, such as "answers.3.score"; None where there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    items: Any = ()
    if isinstance(value, Struct):
        items = ((field, getattr(value, field)) for field in value.__struct_fields__)
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return next((found for key, item in items if (found := _not_finite(item, f"{name}.{key}".lstrip(".")))), None)


def _with_place(message: str, row: Any) -> str:
    """Turn msgspec's message around: the place first, then what was expected, then what was found there."""
    match = re.fullmatch(r"(.*) - at (?:`key` in )?`\$(.*)`", message, re.DOTALL)
    if not match:
        return message.replace("`", "")
    place, found = match[2].lstrip("."), row
    try:
        # msgspec writes [...] for a key that is no field; then the object with the key is shown.
        for name, number in re.findall(r"\.([^.\[]+)|\[(\d+)\]", match[2].partition("[...]")[0]):
            found = found[name or int(number)]
    except (LookupError, TypeError):
        return f"{place}: {match[1].replace('`', '')}"
    text = json.dumps(found, ensure_ascii=False)
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    # The message is stored in a rejects file, where each double quote would stand behind a backslash.
    return f"{place or 'the row'}: {match[1].replace('`', '')}, found {shown}".replace('"', "'")
