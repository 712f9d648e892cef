"""Print the JSON Schema of a record, for programs that read or write our files.

    dyneval schema                       # the records there are, each with what it is
    dyneval schema score                 # the schema of one (draft 2020-12)

The schemas are made from the classes of `dyneval.records`, which also check every row that is written.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from dyneval.flags import Parser, arg
from dyneval.records import RECORDS, json_schema, schema_name

BY_NAME = {schema_name(record): record for record in RECORDS}


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaOptions:
    """Which schema is printed."""

    record: Annotated[str | None, arg("default: list the records", position=True, choices=tuple(BY_NAME))] = None


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print one schema, or the names; returns the exit status."""
    parser = Parser(prog, __doc__)
    name = parser.parse_options(SchemaOptions, argv).record
    if name is not None:
        sys.stdout.write(json.dumps(json_schema(BY_NAME[name]), indent=2) + "\n")
        return 0
    for one, record in BY_NAME.items():
        purpose = (inspect.getdoc(record) or "").partition("\n")[0]
        sys.stdout.write(f"{one:16}{purpose}\n")
    return 0
