"""The JSON Schemas of the records that pass between steps, one file each, and the check against them.

`load("pair")` gives the schema of `pair.schema.json`; `check("pair", row, where)` raises a one-line `SchemaError`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

Json = dict[str, Any]


class SchemaError(ValueError):
    """A record does not fit its schema; the message says where, what was found and what was expected."""


@cache
def load(name: str) -> Json:
    """Return the schema called `name` (file `<name>.schema.json` in this folder). FileNotFoundError when unknown."""
    return json.loads(files(__name__).joinpath(f"{name}.schema.json").read_text("utf-8"))


@cache
def _validator(name: str, definition: str | None) -> Any:
    from jsonschema import Draft202012Validator

    schema = load(name)
    if definition:
        schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{definition}"}
    return Draft202012Validator(schema)


def check(name: str, value: Any, where: str, definition: str | None = None) -> None:
    """Raise SchemaError unless `value` fits schema `name` (or its `$defs` entry `definition`).

    `where` opens the message: a file and line, or a pair_id.
    """
    from jsonschema.exceptions import best_match

    error = best_match(_validator(name, definition).iter_errors(value))
    if error is None:
        return
    at = "/".join(str(part) for part in error.absolute_path) or "the record"
    raise SchemaError(f"{where}: {at}: {_short(error.message)} (schema {name})")


def _short(message: str, limit: int = 200) -> str:
    return message if len(message) <= limit else f"{message[: limit // 2]} ... {message[-limit // 2 :]}"
