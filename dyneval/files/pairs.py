"""Read pairs of prompts and images: metadata.jsonl of Step 2, a table of any kind, or a Hugging Face ImageFolder.

All steps read their pairs here, so that they agree on which rows count. Of several rows with the same pair_id the first
good one counts. A row that repeats it is skipped and counted, one that contradicts it is a reject: if each step chose
for itself, a score could stand beside the annotations of another image.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dyneval.errors import DataFileError, SchemaError, SettingError
from dyneval.files.opening import byte_lines, opened
from dyneval.files.parts import Shard
from dyneval.files.row import ColumnError
from dyneval.files.tables import BadRow, each_row, text_of
from dyneval.hashing import short_id
from dyneval.records import PairRecord, Reject, prompt_id
from dyneval.structs import Row

logger = logging.getLogger(__name__)

COLUMNS = ("pair_id", "prompt_id", "prompt", "file_name", "generation_model")
TWICE = "this pair_id stands there before with another prompt or image; the first is taken"
_NAMELESS = "expected the texts prompt and file_name"
_IMAGE_FOLDER = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


class PairRef(NamedTuple):
    """What any table says about a pair."""

    pair_id: str
    prompt: str
    file_name: str
    """The image, below the table's folder or an image folder."""
    prompt_id: str
    """The row's own if it has one, else made from the prompt. Every step finds the shard of a pair by it."""
    generation_model: str | None = None
    """The image model, where the row names one."""


P = TypeVar("P", PairRecord, PairRef)


def metadata_file(path: Path) -> Path:
    """The table itself: `path`, or the metadata file inside of an ImageFolder.

    Raises:
        DataFileError: a folder holds none of the three metadata files, or more than one.
    """
    if not path.is_dir():
        return path
    found = [path / name for name in _IMAGE_FOLDER if (path / name).is_file()]
    if len(found) != 1:
        have = " and ".join(file.name for file in found) or "none"
        raise DataFileError(f"{path}: expected exactly one of {', '.join(_IMAGE_FOLDER)} in this folder, found {have}")
    return found[0]


def read_pairs(
    path: Path,
    kind: type[P],
    reject: Callable[[Reject], None],
    *,
    shard: Shard | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[P]:
    """Yield the pairs of a table, in order, each pair_id once.

    Args:
        path: a table, or a folder with one that is called metadata.
        kind: PairRecord for rows with all fields of one; PairRef for rows with `prompt`, `file_name` and perhaps
            `pair_id` and `prompt_id` (texts or numbers; a missing pair_id is made, see `default_pair_id`).
        reject: called with each row that cannot be used, and why. Each shard gets the rejects of its own prompts; the
            first one also gets rows without a prompt.
        shard: yield only this part of the pairs.
        limit: read only the first so many pairs, counted over all shards, so that shards together keep to the limit.
        columns: for PairRef, the table's own names of its columns, by our names for them (`COLUMNS`).

    Raises:
        DataFileError: the file is missing, is of no known kind, lacks a column, or has no usable row.
    """
    file = metadata_file(path)
    seen: dict[str, int] = {}
    repeated, first_reason = 0, ""
    for number, row in _rows(file, kind, columns or {}):
        if isinstance(row, Reject):
            first_reason = first_reason or row.reason
            if shard is None or shard.index == 1:
                reject(row)
            continue
        is_mine = shard is None or shard.holds(row.prompt_id)
        is_same = is_repeat(seen, row)
        if is_same is not None:
            repeated += is_mine and is_same
            if is_mine and not is_same:
                reject(Reject(key=row.pair_id, kind="row", reason=f"{file}:{number}: {TWICE}"))
            continue
        if is_mine:
            yield row
        if len(seen) == limit:
            break
    if repeated:
        logger.warning("%s: %d rows say again what a row before them says; each counts once", file, repeated)
    if not seen:
        raise _no_pairs(file, kind, first_reason)


def pair_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line of a metadata.jsonl; `pair_of_line` reads them, perhaps in another process.

    Raises:
        DataFileError: the file cannot be read.
    """
    with opened(path) as file:
        yield from byte_lines(file, path)


def pair_of_line(line: bytes, where: str) -> PairRecord:
    """Read the pair from a line. Raises SchemaError, whose message begins with `where`."""
    return _with_prompt(PairRecord.decode(line, where), where)


def ref_of_image(name: str, prompt: str) -> PairRef:
    """The pair of an image file that stands in no table.

    Raises:
        SettingError: the prompt is not UTF-8, as on a command line in another encoding.
    """
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingError(f"the prompt is not UTF-8 at character {error.start + 1}: {prompt!a}") from None
    return PairRef(default_pair_id(prompt, name), prompt, name, prompt_id(prompt))


def default_pair_id(prompt: str, image_name: str) -> str:
    """Make the id of a pair that came without one from its prompt and its image's name; usable as a file name."""
    name = _plain(image_name)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    if safe == name:
        return f"{prompt_id(prompt)}-{safe}"
    # A hash of the name is added where letters were replaced: "a b.png" must not become the pair of "a-b.png". The name
    # of a file may hold bytes that are not UTF-8, which can be hashed only behind backslashes.
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"{prompt_id(prompt)}-{safe}-{short_id(printable, 8)}"


def _plain(image_name: str) -> str:
    """One spelling of a path: "./a//b.png" is "a/b.png"."""
    return posixpath.normpath(image_name) if image_name.startswith("./") or "//" in image_name else image_name


def is_repeat(seen: dict[str, int], pair: PairRecord | PairRef) -> bool | None:
    """Whether a row says the same as the first one with its pair_id; None where it is the first.

    Args:
        seen: `meaning` of the first row of each pair_id, to which this one is added.
        pair: the row.
    """
    if pair.pair_id not in seen:
        seen[pair.pair_id] = meaning(pair)
        return None
    return seen[pair.pair_id] == meaning(pair)


def meaning(pair: PairRecord | PairRef) -> int:
    """A number for what a row says, its prompt and image: two rows of one pair_id with one number are the same."""
    # A number, not the row: the texts of all rows would have to stay in memory. Python's hash of a text differs from
    # run to run, so the numbers must not be stored.
    if isinstance(pair, PairRef):
        return hash((pair.prompt, _plain(pair.file_name)))
    return hash((pair.prompt_id, pair.prompt, pair.file_name, pair.sha256, pair.generation_model, pair.tier))


def _no_pairs(file: Path, kind: type[PairRecord] | type[PairRef], first_reason: str) -> DataFileError:
    if first_reason:
        message = f"{file}: no row of it can be used; the first one: {first_reason}"
        return (ColumnError if _NAMELESS in first_reason else DataFileError)(message)
    expected = "file_name and prompt, perhaps pair_id, for each picture" if kind is PairRef else "those of Step 2"
    return DataFileError(f"{file}: holds no rows; expected {expected}")


def _rows(file: Path, kind: type[Any], called: Mapping[str, str]) -> Iterator[tuple[int, Any]]:
    """Yield number and pair of each row, or a Reject with what is wrong with it."""
    if kind is PairRecord and ".jsonl" in file.suffixes:
        # From the bytes of a line to the record in one pass: 250,000 rows are read before a run begins.
        for number, line in pair_lines(file):
            try:
                yield number, pair_of_line(line, f"{file}:{number}")
            except SchemaError as error:
                yield number, Reject(key=PairRecord.key_in(line) or f"line {number}", kind="row", reason=str(error))
        return
    theirs = {called.get(name, name): name for name in COLUMNS}
    # A column that the caller names has to be there: without it the ids or models of another one would count, unseen.
    needs = list(dict.fromkeys([*(called.get(name, name) for name in ("file_name", "prompt")), *called.values()]))
    columns, needs = (theirs, needs) if kind is PairRef else (None, [])
    for number, row in enumerate(each_row(file, columns, needs), 1):
        if isinstance(row, BadRow):
            yield row.line, Reject(key=f"row {number}", kind="row", reason=f"{file}:{row.line}: {row.reason}")
            continue
        where = f"{file}: row {number}"
        known = {theirs.get(name, name): value for name, value in row.items() if value is not None}
        try:
            if kind is PairRecord:
                yield number, _with_prompt(PairRecord.from_dict(known, where), where)
            else:
                yield number, _ref(known)
        except (SchemaError, TypeError) as error:
            key = str(known.get("pair_id") or f"row {number}")[:200]
            reason = str(error) if isinstance(error, SchemaError) else f"{where}: {error}"
            yield number, Reject(key=key, kind="row", reason=reason)


def _with_prompt(pair: PairRecord, where: str) -> PairRecord:
    if not pair.prompt.strip():
        raise SchemaError(f"{where}: the prompt is empty")
    return pair


def _ref(row: Row) -> PairRef:
    prompt, name = row.get("prompt"), row.get("file_name")
    if not isinstance(prompt, str) or not isinstance(name, str) or not name.strip():
        raise TypeError(_NAMELESS)
    try:
        pair_id = text_of(row.get("pair_id"))
    except TypeError as error:
        raise TypeError(f"pair_id: {error}") from None
    # No score depends on these two, so a cell of them that is not a text counts as empty.
    own: dict[str, str | None] = {}
    for column in ("prompt_id", "generation_model"):
        with suppress(TypeError):
            own[column] = text_of(row.get(column))
    return PairRef(
        default_pair_id(prompt, name) if pair_id is None else pair_id,
        prompt,
        name,
        own.get("prompt_id") or prompt_id(prompt),
        own.get("generation_model"),
    )
