"""What every record can do: be read with an error that names the place, be written checked, be compared.

Records are msgspec Structs: reading a row and checking it is one pass over its bytes, a third of the time of a JSON
parser and a schema. `dyneval.records` has the types themselves.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any, ClassVar, Self

import msgspec
import orjson
from msgspec import Struct

from dyneval.errors import SchemaError

Row = dict[str, Any]
"""A row as plain JSON values."""

# gc=False: what is read from JSON never holds itself, so the garbage collector need not look for it.


class Value(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What records are made of. An optional field that is None is left out of the file."""


class Record(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A row of a file. Making one checks nothing; reading and writing do."""

    KEY: ClassVar[str]
    """The field that tells the rows of a file apart."""
    FREE: ClassVar[frozenset[str]] = frozenset()
    """Fields of any shape: their numbers stay as they were written."""
    RULES: ClassVar[Row] = {}
    """What `check` asks of several fields, as JSON Schema."""

    def check(self) -> None:
        """Hold fields to what they say together, beyond their types. Raises ValueError."""

    @classmethod
    def decode(cls, line: bytes, where: str = "record") -> Self:
        """Read a row. A whole number may be written as 5.0.

        Raises:
            SchemaError: `line` is no such record; the message begins with `where` and says which field, what was found
                and what was expected.
        """
        try:
            if not line.isascii():
                line.decode("utf-8")  # msgspec passes over what it does not keep, whether it is UTF-8 or not
            return cls._checked(line, where)
        except msgspec.ValidationError as error:
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
                raise SchemaError(f"{where}: {_told(str(what), row)}") from None
            except (ValueError, RecursionError):
                raise SchemaError(f"{where}: is not JSON ({error})") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SchemaError(f"{where}: is not JSON ({error})") from None

    @classmethod
    def _checked(cls, line: bytes, where: str) -> Self:
        record: Self = _decoder(cls).decode(line)
        try:
            record.check()
        except ValueError as error:
            raise SchemaError(f"{where}: {error}") from None
        return record

    @classmethod
    def key_in(cls, line: bytes) -> str | None:
        """The key of a row that need not be such a record, for messages; None where it has none."""
        try:
            row = orjson.loads(line)
        except ValueError:
            return None
        key = row.get(cls.KEY) if isinstance(row, dict) else None
        return str(key)[:200] if key else None

    @classmethod
    def from_dict(cls, row: Any, where: str = "record") -> Self:
        """The record of a row that is at hand as plain values. Raises SchemaError, see `decode`."""
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"{where}: cannot be written as JSON ({error})") from error
        return cls.decode(line, where)

    def encode(self) -> bytes:
        r"""The row as it stands in a file, without the line's end: ", " and ": " between things, text as it is.

        Raises:
            SchemaError: a field does not hold what its type says, NaN and infinity among them.
        """
        where = str(getattr(self, self.KEY, type(self).__name__))
        try:
            line = msgspec.json.format(msgspec.json.encode(self), indent=0)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SchemaError(f"{where}: cannot be written as JSON ({error})") from error
        # NaN is written as null, which an optional field would take for nothing.
        if b": null" in line and (name := _not_finite(self)):
            raise SchemaError(f"{where}: {name}: found NaN or infinity, expected a number")
        self.decode(line, where)
        return line

    def to_dict(self) -> Row:
        """The row as plain JSON values; optional fields that are None are left out. Raises SchemaError."""
        row: Row = orjson.loads(self.encode())
        return row


@cache
def _decoder(record: type[Record]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(record)


def _with_whole_numbers(value: Any, free: frozenset[str] = frozenset()) -> Any:
    """5.0 as 5. Not msgspec's `strict=False`, which would also take "5" for a number and 0 for false."""
    if isinstance(value, dict):
        return {name: item if name in free else _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


def _not_finite(value: Any, name: str = "") -> str | None:
    """The place of the first number that JSON cannot hold."""
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


def _told(message: str, row: Any) -> str:
    """Put the place in front of msgspec's message, and what was found there behind it."""
    match = re.fullmatch(r"(.*) - at `(?:key in )?\$(.*)`", message, re.DOTALL)
    if not match:
        return message.replace("`", "")
    place, found = match[2].lstrip("."), row
    try:
        for name, number in re.findall(r"\.([^.\[]+)|\[(\d+)\]", match[2]):
            found = found[name or int(number)]
    except (LookupError, TypeError):
        return f"{place}: {match[1].replace('`', '')}"
    text = json.dumps(found, ensure_ascii=False)
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    return f"{place or 'the row'}: {match[1].replace('`', '')}, found {shown}".replace('"', "'")  # it goes into JSON


def unique(name: str, items: tuple[str, ...]) -> None:
    """Raise ValueError where an item comes twice."""
    if len(set(items)) < len(items):
        raise ValueError(f"{name} holds an item twice")
