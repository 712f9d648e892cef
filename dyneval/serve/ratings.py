"""People rate the pairs of a GenDB, blind, and each rating is in a CSV file before the next picture is shown.

    $ dyneval serve --rate gendb/metadata.jsonl --ratings mine.csv
    $ dyneval benchmark --benchmark generic --annotations mine.csv --scores scores.jsonl

A row is what one rater says of one image; a rater who changes their mind adds a row, and the last one counts. `rating`
is the mean of alignment and quality, as DynEval's overall score is; with `--column rating=alignment --score t2ia` one
part is compared.

People do not give their ratings a second time, so none may be lost. A row is on the disk (fsync) before the rater sees
the next picture, a file of something else is not touched, and what a kill has torn is mended when the file is opened.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import threading
import unicodedata
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from filelock import FileLock, Timeout

from dyneval.errors import DataFileError, ImageError, SettingError, UserError
from dyneval.files.atomic import refuse_overwrite
from dyneval.files.delimited import MAX_CELL, as_meant, harmless
from dyneval.files.images import resolve_below
from dyneval.files.jsonl import write_whole
from dyneval.files.pairs import PairRef, metadata_file, read_pairs
from dyneval.hashing import number, short_id
from dyneval.records import Reject

logger = logging.getLogger(__name__)

COLUMNS = ("rater", "id", "image", "prompt", "model", "alignment", "quality", "rating", "time")
"""As `dyneval.evaluation.benchmarks.generic` calls them, and the two parts. `time` stands last: a row that was cut off
there is whole in all that counts."""
# Whoever can reach the page can make up names and ratings; these bounds say how much memory and disk that can cost.
LONGEST_NAME, MOST_RATERS = 60, 500
LARGEST_FILE = 1 << 28
"""Bytes, about a million ratings."""
# An order of 250,000 pairs takes 1 MB to hold, and 0.6 s to make anew.
_MOST_ORDERS = 32
"""Orders of raters that are held; the one that was longest unused goes."""


class PairRating(NamedTuple):
    """What a rater says of a pair, 1-5 each; None where they have not said it yet."""

    alignment: int | None = None
    quality: int | None = None

    @property
    def is_whole(self) -> bool:
        """True where both are given."""
        return None not in self


_UNRATED = PairRating()


class RatingsFull(UserError):
    """A limit on ratings or raters is reached, and trying again does not help; the message says which."""


class RaterProgress(NamedTuple):
    """How far a rater is."""

    rated: int
    """Pairs with a whole rating."""
    pairs: int
    """All pairs."""
    next: int | None
    """Place, from 0, of the first pair that lacks something; None where none does."""


@dataclass(slots=True)
class _RaterState:
    """What one rater has said, and how far they are."""

    ratings: dict[str, PairRating] = field(default_factory=dict)
    """By the key of the pair."""
    whole: int = 0
    """Pairs with a whole rating."""
    next: int = 0
    """A place, in the rater's order, before which all ratings are whole. The search for the next pair begins here, and
    not at the first of 250,000."""


class Ratings:
    """The pairs, the order in which each rater meets them, and the file of what they say; safe to use from threads.

    Use it as a context manager: one server writes a file at a time.

    Attributes:
        root: the folder that no picture may lie outside of.
    """

    def __init__(self, metadata: Path, output: Path) -> None:
        """Read the pairs; `output` is opened on entering.

        Args:
            metadata: table of pairs, or the folder of one.
            output: CSV of ratings; made where there is none.

        Raises:
            DataFileError: there are no pairs.
            SettingError: none of the pictures lies where the pairs say, or `output` is the table of pairs.
        """
        rejects: list[Reject] = []
        file = metadata_file(metadata)
        self.root = file.parent
        self._pairs = list(read_pairs(file, PairRef, rejects.append))
        if rejects:
            logger.warning("%d rows cannot be used: %s", len(rejects), rejects[0].reason)
        # One is enough, since single images may be missing. None at all means another folder, and raters would get a
        # page without pictures.
        for pair in self._pairs:
            with suppress(ImageError):
                if resolve_below(self.root, pair.file_name).is_file():
                    break
        else:
            raise SettingError(f"{file}: none of its pictures is there, such as {self._pairs[0].file_name}")
        refuse_overwrite([file], [output], "--ratings")
        # The page gets keys and not ids: those often hold the image model's name, and raters must not know it.
        self._places = {short_id(pair.pair_id): place for place, pair in enumerate(self._pairs)}
        self._keys = list(self._places)
        self._output = output
        self._raters: dict[str, _RaterState] = {}
        self._order = lru_cache(_MOST_ORDERS)(self._new_order)
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._output.with_name(f".{self._output.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataFileError(f"{self._output}: another process is writing to this file") from None
        with ExitStack() as stack:
            stack.callback(self._lock.release)
            self._file = stack.enter_context(self._output.open("a+b", buffering=0))
            self._load()
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def standing(self, rater: str) -> RaterProgress:
        """Return how far a rater is, whose name was checked by `checked_name`."""
        state = self._raters.get(rater, _RaterState())
        order = self._order(rater)  # not under the lock: making it takes 0.6 s for 250,000 pairs
        with self._guard:
            while state.next < len(order) and state.ratings.get(self._keys[order[state.next]], _UNRATED).is_whole:
                state.next += 1
            return RaterProgress(state.whole, len(order), state.next if state.next < len(order) else None)

    def at(self, rater: str, place: int) -> tuple[str, str, PairRating]:
        """Return key, prompt and rating of the pair that a rater meets at a place of their order.

        Raises:
            IndexError: `place`, which counts from 0, is beyond the last pair.
        """
        at = self._order(rater)[place]
        key, said = self._keys[at], self._raters.get(rater, _RaterState()).ratings
        return key, self._pairs[at].prompt, said.get(key, _UNRATED)

    def file_name(self, key: str) -> str:
        """Return where the picture of a pair is, below `root` if the table is honest. Raises KeyError: no such pair."""
        return self._pairs[self._places[key]].file_name

    def save(self, rater: str, key: str, rating: PairRating) -> None:
        """Add what a rater says of a pair to the file; it is on the disk when this returns.

        Args:
            rater: name, checked by `checked_name`.
            key: of the pair.
            rating: 1-5 each, or None.

        Raises:
            KeyError: there is no such pair.
            RatingsFull: there are too many raters, or too many ratings.
            OSError: it cannot be written; nothing of it is in the file then.
        """
        pair = self._pairs[self._places[key]]
        with self._guard:
            if rater not in self._raters and len(self._raters) >= MOST_RATERS:
                raise RatingsFull(f"there are {MOST_RATERS} raters already")
            if self._raters.get(rater, _RaterState()).ratings.get(key, _UNRATED) == rating:
                return
            alignment, quality = rating
            mean = None if alignment is None or quality is None else (alignment + quality) / 2
            cells = (rater, pair.pair_id, pair.file_name, pair.prompt, pair.generation_model, alignment, quality, mean)
            line = _line(*cells, datetime.now(UTC).isoformat(timespec="seconds"))
            if self._end + len(line) > LARGEST_FILE:
                raise RatingsFull("the file of ratings is full")
            write_whole(self._file, line, self._end)
            try:
                os.fsync(self._file.fileno())
            except OSError:
                # The row may be on the disk or not. The rater is told that it was not saved, so it must not be there.
                self._file.truncate(self._end)
                raise
            self._end += len(line)
            self._note(rater, key, rating)

    def _note(self, rater: str, key: str, rating: PairRating) -> None:
        """Remember a row of the file."""
        state = self._raters.setdefault(rater, _RaterState())
        was_whole = state.ratings.get(key, _UNRATED).is_whole
        state.ratings[key] = rating
        if key in self._places:  # the file may hold pairs of another table, which do not count here
            state.whole += rating.is_whole - was_whole
        if was_whole and not rating.is_whole:
            state.next = 0

    def _new_order(self, rater: str) -> array[int]:
        """Return the pairs as a rater meets them, by their numbers: each rater's own order, the same after every start.

        In one order for all, the first pairs would get most of the ratings, since not everyone rates to the end.
        """
        by_chance = [number(f"{rater}\n{pair.pair_id}", "rating order") for pair in self._pairs]
        return array("I", sorted(range(len(by_chance)), key=by_chance.__getitem__))

    def _load(self) -> None:
        """Read what was said before.

        A row that was being written when the server was killed has no end of line. It is cut off, or ended where all
        its cells are there.

        Raises:
            DataFileError: the file holds something else; nothing of it is touched.
        """
        header = _line(*COLUMNS)
        self._file.seek(0)
        content = self._file.read(LARGEST_FILE + 1)
        if header.startswith(content):  # a new file, or one whose header was cut off
            content = b""
            self._file.truncate(0)
            write_whole(self._file, header, 0)
        first = content.partition(b"\n")[0].removeprefix(BOM_UTF8)
        if content and (len(content) > LARGEST_FILE or first.strip() != header.strip()):
            raise DataFileError(f"{self._output}: is no file of ratings, which begins {header.decode().strip()}")
        whole, newline, torn = content.rpartition(b"\n")
        if torn and len(next(csv.reader([torn.decode("utf-8", "replace")]))) < len(COLUMNS):
            content = whole + newline
            self._file.truncate(len(content))
        elif torn:
            write_whole(self._file, b"\n", len(content))
            content += b"\n"
        self._end = len(content) or len(header)
        for rater, pair_id, rating in _rows(self._output, content):
            self._note(rater, short_id(pair_id), rating)


def checked_name(name: object) -> str:
    """Return a rater's name with single blanks, in the normal form NFC.

    Args:
        name: whatever a client sent.

    Raises:
        ValueError: it is no text of 1 to 60 printable characters.
    """
    words = unicodedata.normalize("NFC", " ".join(name.split())) if isinstance(name, str) else ""
    if not 1 <= len(words) <= LONGEST_NAME or not words.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")
    return words


def _line(*cells: object) -> bytes:
    """Return a row of the file. Cells that a spreadsheet would take for a formula are made harmless."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if cell is None else harmless(str(cell)) for cell in cells])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _rows(path: Path, content: bytes) -> Iterator[tuple[str, str, PairRating]]:
    """Yield rater, pair_id and rating of the lines below the header. Raises DataFileError: they are no such rows."""
    csv.field_size_limit(MAX_CELL)
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        next(reader, None)
        for cells in filter(None, reader):
            if len(cells) != len(COLUMNS):
                raise DataFileError(f"{path}:{reader.line_num}: {len(cells)} cells, expected {len(COLUMNS)}")
            given = cells[5:7]
            for cell in given:
                if cell not in ("", "1", "2", "3", "4", "5"):
                    where = f"{path}:{reader.line_num}"
                    raise DataFileError(f"{where}: {cell[:40]!r} is no rating; expected 1 to 5, or nothing")
            rating = PairRating(*(int(cell) if cell else None for cell in given))
            yield as_meant(cells[0]), as_meant(cells[1]), rating
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
