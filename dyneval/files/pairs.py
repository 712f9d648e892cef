"""The one reader of pairs: metadata.jsonl of Step 2, a table of any kind, or a Hugging Face ImageFolder.

Of the rows with one pair_id the first good one counts. One that says the same again is passed over and counted; one
that says something else is a reject.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
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
    """What any table says of a pair: its image is a file, below the table's folder or an image folder."""

    pair_id: str
    prompt: str
    file_name: str
    prompt_id: str
    """The row's own, by which all steps choose their part, else that of the prompt's text."""
    generation_model: str | None = None
    """The image model, where the row names one."""


P = TypeVar("P", PairRecord, PairRef)


def metadata_file(path: Path) -> Path:
    """The table itself: `path`, or of an ImageFolder the metadata file inside. Raises DataFileError where none is."""
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
        kind: PairRecord for rows that say all of it; PairRef for rows with `prompt`, `file_name` and perhaps `pair_id`
            and `prompt_id` (texts or numbers; where there is no pair_id it is made, see `default_pair_id`).
        reject: called with what is wrong with each row that cannot be used. Of a shard's prompts it is told by that
            shard; rows without a prompt by the first one.
        shard: take only this part of the pairs.
        limit: only the first so many pairs, counted before they are shared out, so that all shards have one limit.
        columns: of a PairRef, what the table calls its columns, by our names for them (`COLUMNS`).

    Raises:
        DataFileError: the file is missing, is of no known kind, has not the columns it needs, or has no pair.
    """
    file = metadata_file(path)
    said: dict[str, int] = {}
    repeated, worst = 0, ""
    for number, row in _rows(file, kind, columns or {}):
        if isinstance(row, Reject):
            worst = worst or row.reason
            if shard is None or shard.index == 1:
                reject(row)
            continue
        is_mine = shard is None or shard.holds(row.prompt_id)
        is_same = said_again(said, row)
        if is_same is not None:
            repeated += is_mine and is_same
            if is_mine and not is_same:
                reject(Reject(key=row.pair_id, kind="row", reason=f"{file}:{number}: {TWICE}"))
            continue
        if is_mine:
            yield row
        if len(said) == limit:
            break
    if repeated:
        logger.warning("%s: %d rows say again what a row before them says; each counts once", file, repeated)
    if not said:
        raise (ColumnError if _NAMELESS in worst else DataFileError)(_nothing(file, kind, worst))


def pair_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line of a metadata.jsonl, for those who then read it with `pair_of_line`."""
    with opened(path) as file:
        yield from byte_lines(file, path)


def pair_of_line(line: bytes, where: str) -> PairRecord:
    """The pair of a line. Raises SchemaError, which begins with `where`."""
    return _not_blank(PairRecord.decode(line, where), where)


def ref_of_image(name: str, prompt: str) -> PairRef:
    """The pair of an image file that stands in no table.

    Raises SettingError where the prompt is no text: bytes of another encoding on a command line.
    """
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SettingError(f"the prompt is not UTF-8 at character {error.start + 1}: {prompt!a}") from None
    return PairRef(default_pair_id(prompt, name), prompt, name, prompt_id(prompt))


def default_pair_id(prompt: str, image_name: str) -> str:
    """Id of a pair that came without one, from its prompt and its image's name; usable as a file name.

    A name with letters that are replaced gets 8 hex digits of itself: "a b.png" is not "a-b.png". "./a.png" is "a.png".
    """
    name = _plain(image_name)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    if safe == name:
        return f"{prompt_id(prompt)}-{safe}"
    # Names of files may hold bytes that are no text.
    printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"{prompt_id(prompt)}-{safe}-{short_id(printable, 8)}"


def _plain(image_name: str) -> str:
    """One spelling of a path: "./a//b.png" is "a/b.png"."""
    return posixpath.normpath(image_name) if image_name.startswith("./") or "//" in image_name else image_name


def said_again(said: dict[str, int], pair: PairRecord | PairRef) -> bool | None:
    """Whether a row says the same as one with its pair_id before it; None where it is the first, noted in `said`."""
    if pair.pair_id not in said:
        said[pair.pair_id] = meaning(pair)
        return None
    return said[pair.pair_id] == meaning(pair)


def meaning(pair: PairRecord | PairRef) -> int:
    """A number for what a row says, its prompt and image: two rows of one pair_id with one number are the same."""
    if isinstance(pair, PairRef):
        return hash((pair.prompt, _plain(pair.file_name)))
    return hash((pair.prompt_id, pair.prompt, pair.file_name, pair.sha256, pair.generation_model, pair.tier))


def _nothing(file: Path, kind: type[PairRecord] | type[PairRef], worst: str) -> str:
    if worst:
        return f"{file}: no row of it can be used; the first one: {worst}"
    expected = "file_name and prompt, perhaps pair_id, for each picture" if kind is PairRef else "those of Step 2"
    return f"{file}: holds no rows; expected {expected}"


def _rows(file: Path, kind: type[Any], called: Mapping[str, str]) -> Iterator[tuple[int, Any]]:
    """Number and pair of each row, or what is wrong with it."""
    if kind is PairRecord and ".jsonl" in file.suffixes:
        yield from _of_lines(file)  # the quick way, for 250,000 rows
        return
    theirs = {called.get(name, name): name for name in COLUMNS}
    needs = [called.get(name, name) for name in ("file_name", "prompt")]
    columns, needs = (theirs, needs) if kind is PairRef else (None, [])
    for number, row in enumerate(each_row(file, columns, needs), 1):
        if isinstance(row, BadRow):
            yield row.line, Reject(key=f"row {number}", kind="row", reason=f"{file}:{row.line}: {row.reason}")
            continue
        where = f"{file}: row {number}"
        known = {theirs.get(name, name): value for name, value in row.items() if value is not None}
        try:
            if kind is PairRecord:
                yield number, _not_blank(PairRecord.from_dict(known, where), where)
            else:
                yield number, _ref(known)
        except (SchemaError, TypeError) as error:
            key = str(known.get("pair_id") or f"row {number}")[:200]
            reason = str(error) if isinstance(error, SchemaError) else f"{where}: {error}"
            yield number, Reject(key=key, kind="row", reason=reason)


def _of_lines(file: Path) -> Iterator[tuple[int, PairRecord | Reject]]:
    for number, line in pair_lines(file):
        try:
            yield number, pair_of_line(line, f"{file}:{number}")
        except SchemaError as error:
            yield number, Reject(key=PairRecord.key_in(line) or f"line {number}", kind="row", reason=str(error))


def _not_blank(pair: PairRecord, where: str) -> PairRecord:
    if not pair.prompt.strip():
        raise SchemaError(f"{where}: the prompt is empty")
    return pair


def _ref(row: Row) -> PairRef:
    prompt, name = row.get("prompt"), row.get("file_name")
    if not isinstance(prompt, str) or not isinstance(name, str) or not name.strip():
        raise TypeError(_NAMELESS)
    try:
        given = text_of(row.get("pair_id"))
    except TypeError as error:
        raise TypeError(f"pair_id: {error}") from None
    pair_id = default_pair_id(prompt, name) if given is None else given
    return PairRef(
        pair_id,
        prompt,
        name,
        _text_or_none(row.get("prompt_id")) or prompt_id(prompt),
        _text_or_none(row.get("generation_model")),
    )


def _text_or_none(value: Any) -> str | None:
    """A cell on which no score hangs, so that one that is no text is none."""
    try:
        return text_of(value)
    except TypeError:
        return None
