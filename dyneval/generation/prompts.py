"""Reads the prompts of Step 2: Step 1's prompts.parquet, JSONL, or a plain text file with one prompt a line.

Every row becomes a prompt that can be drawn or a reject with its reason. The file may come from anyone: a prompt_id
that cannot be a file name, a tier that does not exist, or a structure where text should be must not reach the models.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dyneval import records
from dyneval.errors import GenerationError, made_by
from dyneval.files.opening import check_unpacked, opened, text_lines
from dyneval.files.parquet import FLOOR, text_column, unpacked_size
from dyneval.files.tables import rows
from dyneval.records import TIERS, Reject
from dyneval.structs import Row

log = logging.getLogger(__name__)

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "prompt_id": pl.String,
    "prompt": pl.String,
    "tier": pl.Int64,
    "categories": pl.List(pl.String),
}
# The id becomes part of file names and pair_ids: no slash, no dot at the beginning, no other script.
_SAFE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TIER_FILE = re.compile(r"tier-([123])\b")
_REASON = (
    pl.when(pl.col("fault").is_not_null())
    .then("fault")
    .when(pl.col("prompt").is_null() | (pl.col("prompt").str.strip_chars() == ""))
    .then(pl.lit("the prompt is empty or not text"))
    .when(~pl.col("prompt_id").str.contains(_SAFE_ID).fill_null(False))
    .then(pl.lit("prompt_id cannot be part of a file name (letters, digits, '.', '_' and '-' only)"))
    .when(~pl.col("tier").is_in(TIERS).fill_null(True))
    .then(pl.lit("the tier is none of 1, 2, 3; a prompt without one is drawn by any model that is asked to"))
    .when(~pl.col("prompt_id").is_first_distinct())
    .then(pl.lit("the prompt_id stands there before with another prompt, tier or categories; the first is taken"))
    .otherwise(pl.lit(None, dtype=pl.String))
)
"""Why a row cannot be used, or null. The first reason that holds is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTable:
    """Usable prompts (columns of `SCHEMA`, sorted by prompt_id); of other rows why not.

    `repeated` rows are equal to a row before them and are left out.
    """

    frame: pl.DataFrame
    rejects: list[Reject]
    repeated: int


def read_prompts(path: Path) -> PromptTable:
    """Read `path` (.parquet, .jsonl or .txt) and sort by prompt_id, so that a limit takes the same prompts always.

    Args:
        path: a Parquet or JSONL file needs `prompt`; `prompt_id`, `tier` and `categories` are used where present. A
            text file called tier-2-prompts.txt names the tier of all; else it is null.

    Raises:
        GenerationError: the file is missing, cannot be read, or holds no usable prompt.
        DataFileError: a table is broken, or a column that should hold texts does not.
    """
    if not path.is_file():
        raise GenerationError(f"{path}: no such file{made_by(path)}")
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".txt": _read_text}
    if path.suffix not in readers:
        raise GenerationError(f"{path}: prompts are read from .parquet, .jsonl or .txt files")
    named = _TIER_FILE.search(path.name)
    tier = int(named[1]) if named and path.suffix == ".txt" else None
    whole = _complete(readers[path.suffix](path), tier)
    says = pl.struct("prompt_id", "prompt", "tier", pl.col("categories").list.join("\0"))
    # Rows with a fault stay in, so that each is rejected by its number: many of them look alike once they are null.
    frame = whole.filter(pl.col("fault").is_not_null() | pl.col("prompt").is_null() | says.is_first_distinct())
    repeated = len(whole) - len(frame)
    if repeated:
        log.warning("%s: %d rows repeat an earlier row; each prompt counts once", path, repeated)
    checked = frame.with_columns(_REASON.alias("reason"))
    bad = checked.filter(pl.col("reason").is_not_null())
    good = checked.filter(pl.col("reason").is_null()).select(list(SCHEMA)).sort("prompt_id")
    rejects = [
        Reject(key=str(row["prompt_id"]), kind="row", reason=f"{path.name}, row {row['row']}: {row['reason']}")
        for row in bad.iter_rows(named=True)
    ]
    if good.is_empty():
        raise GenerationError(f"{path}: holds no usable prompt" + (f" ({rejects[0].reason})" if rejects else ""))
    return PromptTable(frame=good, rejects=rejects, repeated=repeated)


def _read_parquet(path: Path) -> pl.DataFrame:
    """Read the columns of SCHEMA that the file has."""
    try:
        # A small file may unpack to more than the memory holds, so its size is looked at before it is read.
        kinds = {name: kind for name, kind in pl.read_parquet_schema(path).items() if name in SCHEMA}
        check_unpacked(path, unpacked_size(path, kinds), FLOOR)
        prompt = [text_column(path, name, kind) for name, kind in kinds.items() if name == "prompt"]
        return pl.read_parquet(path, columns=list(kinds)).with_columns(prompt)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise GenerationError(f"{path}: cannot be read as Parquet ({error})") from error


def _read_jsonl(path: Path) -> pl.DataFrame:
    """Take text columns only as text and tiers only as whole numbers; anything else becomes null and is rejected."""
    read: list[Row] = []
    for row in rows(path):
        tier, names = row.get("tier"), row.get("categories")
        names = [] if names is None else names
        are_names = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        if tier is not None and (type(tier) is not int or tier not in TIERS):
            tier = 0  # no tier: rejected below, never replaced by the default
        read.append(
            {
                **{key: row[key] if isinstance(row.get(key), str) else None for key in ("prompt_id", "prompt")},
                "tier": tier,
                "categories": names if are_names else [],
                "fault": None if are_names else "categories is not a list of names",
            }
        )
    return pl.DataFrame(read, schema={**SCHEMA, "fault": pl.String})


def _read_text(path: Path) -> pl.DataFrame:
    """Take each line that is not blank as a prompt, without the blanks around it."""
    try:
        with opened(path) as file:
            lines = [line.strip() for line in text_lines(file, path)]
    except UnicodeDecodeError as error:
        raise GenerationError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return pl.DataFrame({"prompt": [line for line in lines if line]}, schema={"prompt": pl.String})


def _complete(frame: pl.DataFrame, tier: int | None) -> pl.DataFrame:
    """Bring `frame` to the columns of SCHEMA and number its rows from 1; `tier` is that of prompts without one.

    A prompt without an id gets one from its text, so that the same text is the same prompt in any file.
    """
    if "prompt" not in frame.columns:
        raise GenerationError(f"the prompt file has no column 'prompt' (it has: {', '.join(frame.columns) or 'none'})")
    wanted = {**SCHEMA, "fault": pl.String}
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in wanted.items() if name not in frame.columns]
    try:
        frame = frame.with_columns(missing).select(list(wanted)).cast(wanted)  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as error:
        raise GenerationError(f"the prompt file has a column of another type than expected: {error}") from error
    own_id = pl.col("prompt").map_elements(records.prompt_id, return_dtype=pl.String)
    return frame.with_columns(
        pl.coalesce("prompt_id", own_id).alias("prompt_id"),
        pl.coalesce("tier", pl.lit(tier, dtype=pl.Int64)).alias("tier"),
        pl.col("categories").fill_null([]),
    ).with_row_index("row", offset=1)
