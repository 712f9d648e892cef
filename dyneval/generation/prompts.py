"""Reading prompts for generation: Step 1's prompts.parquet, JSONL, or a plain text file with one prompt a line."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dyneval import records
from dyneval.errors import GenerationError
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
_SAFE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TIER_FILE = re.compile(r"tier-([123])\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTable:
    """Usable prompts (columns of `SCHEMA`, sorted by prompt_id); of other rows why not.

    `repeated` rows say again what a row before them says, and are passed over.
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
        raise GenerationError(f"{path}: no such file; Step 1 writes prompts.parquet (pipeline/1_filter_prompts.sh)")
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".txt": _read_text}
    if path.suffix not in readers:
        raise GenerationError(f"{path}: prompts are read from .parquet, .jsonl or .txt files")
    named = _TIER_FILE.search(path.name)
    tier = int(named[1]) if named and path.suffix == ".txt" else None
    whole = _complete(readers[path.suffix](path), tier)
    frame = whole.filter(pl.col("fault").is_not_null() | pl.col("prompt").is_null() | _says().is_first_distinct())
    repeated = len(whole) - len(frame)
    if repeated:
        log.warning("%s: %d rows say again what a row before them says; each counts once", path, repeated)
    checked = frame.with_columns(_reason().alias("reason"))
    bad = checked.filter(pl.col("reason").is_not_null())
    good = checked.filter(pl.col("reason").is_null()).select(list(SCHEMA)).sort("prompt_id")
    rejects = [_reject(row, path) for row in bad.iter_rows(named=True)]
    if good.is_empty():
        raise GenerationError(f"{path}: holds no usable prompt" + (f" ({rejects[0].reason})" if rejects else ""))
    return PromptTable(frame=good, rejects=rejects, repeated=repeated)


def _says() -> pl.Expr:
    return pl.struct("prompt_id", "prompt", "tier", pl.col("categories").list.join("\0"))


def _reject(row: Row, path: Path) -> Reject:
    reason = f"{path.name}, row {row['row']}: {row['reason']}"
    return Reject(key=str(row["prompt_id"]), kind="row", reason=reason)


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        kinds = {name: kind for name, kind in pl.read_parquet_schema(path).items() if name in SCHEMA}
        check_unpacked(path, unpacked_size(path, kinds), FLOOR)
        prompt = [text_column(path, name, kind) for name, kind in kinds.items() if name == "prompt"]
        return pl.read_parquet(path, columns=list(kinds)).with_columns(prompt)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise GenerationError(f"{path}: cannot be read as Parquet ({error})") from error


def _read_jsonl(path: Path) -> pl.DataFrame:
    """Take text columns only as text and tiers only as whole numbers; anything else becomes null and is rejected."""
    read = [
        {
            "prompt_id": _text(row.get("prompt_id")),
            "prompt": _text(row.get("prompt")),
            "tier": row["tier"] if type(row.get("tier")) is int and row["tier"] in TIERS else _untiered(row),
            **_categories(row.get("categories")),
        }
        for row in rows(path)
    ]
    return pl.DataFrame(read, schema={**SCHEMA, "fault": pl.String})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _categories(value: object) -> Row:
    names = [] if value is None else value
    if isinstance(names, list) and all(_text(name) for name in names):
        return {"categories": names, "fault": None}
    return {"categories": [], "fault": "categories is not a list of names"}


def _untiered(row: Row) -> int | None:
    return None if row.get("tier") is None else 0  # 0 is no tier: rejected, never replaced by the default


def _read_text(path: Path) -> pl.DataFrame:
    try:
        with opened(path) as file:
            lines = [line.strip() for line in text_lines(file, path)]
    except UnicodeDecodeError as error:
        raise GenerationError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return pl.DataFrame({"prompt": [line for line in lines if line]}, schema={"prompt": pl.String})


def _complete(frame: pl.DataFrame, tier: int | None) -> pl.DataFrame:
    """Bring `frame` to the columns of SCHEMA and number its rows."""
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


def _reason() -> pl.Expr:
    """Why a row cannot be used, or null."""
    return (
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
