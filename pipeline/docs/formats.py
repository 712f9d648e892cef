"""Makes the page of data formats: one table for each record, from the type that reads and writes it.

The meaning of a field is the docstring beside it in `dyneval/records.py`, so a field without one has an empty cell.
"""

from __future__ import annotations

import inspect
import json
from html import escape
from typing import Any

from dyneval.records import RECORDS, json_schema, schema_name

FILES = {
    "prompt": "`prompts.parquet` and `prompts.jsonl` of `dyneval prompts`",
    "pair": "`metadata.jsonl` of `dyneval generate`; `heldout.jsonl` of `dyneval instruct`",
    "t2ia_questions": "`t2ia_questions.jsonl` of `dyneval annotate`",
    "t2ia_answers": "`t2ia_answers.jsonl` of `dyneval annotate`",
    "iqa_questions": "`iqa_questions.jsonl` of `dyneval annotate`",
    "iqa_answers": "`iqa_answers.jsonl` of `dyneval annotate`",
    "instruct_sample": "`dynevalinstruct_t2ia.json`, `dynevalinstruct_iqa.json` of `dyneval instruct`",
    "score": "the file of `dyneval score --output`",
    "rival_score": "the file of `dyneval rival --output`",
}
"""Files that hold each record. A record without an entry is a part of others, or is only sent."""

HEAD = """# Data formats

Our files are JSONL: one record a line, UTF-8. The types in `dyneval/records.py` read and write them and check them both
times; the tables below are made from these types when the site is built. A row may hold more than its record: keys that
are not known are passed over. `dyneval schema RECORD` prints the JSON Schema (draft 2020-12) for programs in other
languages; the wheel holds the same files in `dyneval/schemas/`.

Beside a file `x.jsonl` there may stand `x.rejects.jsonl` (rows that could not be made, with `kind` and `reason`) and
`x.jsonl.superseded` (rows that a later run replaced). The summary of every step begins with the same block, `run`: rows
made, there before and rejected, seconds, devices, and the command line (`config`).
"""


def page() -> str:
    """Return the Markdown of the page: the records, then the types that they are made of."""
    parts: dict[str, dict[str, Any]] = {}
    text = [HEAD]
    for record in RECORDS:
        name, schema = schema_name(record), json_schema(record)
        parts |= schema.get("$defs", {})
        text.append(f"## {name}\n\n{escape(inspect.getdoc(record) or '', quote=False)}\n")
        stands = f"Stands in {FILES[name]}. " if name in FILES else ""
        text.append(f"{stands}Key: `{record.KEY}`.\n\n{_table(schema)}")
    text.append("## Parts of records\n")
    text += [
        f"### {name}\n\n{escape(one.get('description', ''), quote=False)}\n\n{_table(one)}"
        for name, one in parts.items()
    ]
    return "\n".join(text)


def _table(schema: dict[str, Any]) -> str:
    must = schema.get("required", ())
    rows = []
    for field, one in schema.get("properties", {}).items():
        # An optional field is an `anyOf`, and its description stands in the part that is not null.
        found = one.get("description") or next(
            (part["description"] for part in one.get("anyOf", ()) if "description" in part), ""
        )
        meaning = escape(found, quote=False).replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{field}` | {_kind(one)} | {'yes' if field in must else 'no'} | {meaning} |")
    return "| field | type | always there | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _kind(one: dict[str, Any]) -> str:
    """The type of a field in words, such as `integer, 1-5` or `list of Question`."""
    if "$ref" in one:
        return one["$ref"].rpartition("/")[2]
    if "anyOf" in one:
        return " or ".join(dict.fromkeys(_kind(part) for part in one["anyOf"]))
    if "enum" in one:
        return ", ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    kind = one.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_kind(one['items'])}" if isinstance(one.get("items"), dict) else "list"
    if kind == "object" and isinstance(one.get("additionalProperties"), dict):
        return f"object of {_kind(one['additionalProperties'])}"
    low, high = one.get("minimum"), one.get("maximum")
    if low is not None and high is not None:
        return f"{kind}, {low}-{high}"
    return f"{kind}, {low} or more" if low is not None else kind
