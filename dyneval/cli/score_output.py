"""What `dyneval score` prints and writes of its scores: a line an image, the means, and tables for other programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dyneval.files.atomic import atomic_write
from dyneval.files.delimited import harmless
from dyneval.records import SCORE_NAMES, ScoreRecord

# What a line shows; a table has all scores.
HEADINGS = {"t2ia": "T2IA", "iqa": "IQA", "overall": "overall"}
COLUMNS = ("pair_id", "image", "prompt", *SCORE_NAMES, *(f"soft_{name}" for name in SCORE_NAMES), "model")


def one_line(record: ScoreRecord) -> str:
    """Scores of an image, for people."""
    return f"{record.image}: {_scores({name: getattr(record, name) for name in HEADINGS})}"


def _scores(scores: dict[str, float | None]) -> str:
    said = [(HEADINGS[name], "-" if score is None else f"{score:.2f}") for name, score in scores.items()]
    return ", ".join(f"{heading} {number}" for heading, number in said)


class Means:
    """Means of the scores that pass through, whole and soft.

    Attributes:
        count: records.
        has_alternatives: True where two of them are of one prompt.
    """

    def __init__(self) -> None:
        self.count = 0
        self.has_alternatives = False
        self._prompts: set[int] = set()
        # Whole scores have few levels: two judges with equal whole means may be told apart by the soft ones.
        names = [*HEADINGS, *(f"soft {name}" for name in HEADINGS)]
        self._sums = dict.fromkeys(names, 0.0)
        self._counts = dict.fromkeys(names, 0)

    def over(self, records: Iterable[ScoreRecord]) -> Iterator[ScoreRecord]:
        """Pass records through, adding each."""
        for record in records:
            self.count += 1
            prompt = hash(record.prompt)
            self.has_alternatives |= prompt in self._prompts
            self._prompts.add(prompt)
            soft = {f"soft {name}": score for name, score in (record.soft or {}).items()}
            for name, score in ({name: getattr(record, name) for name in HEADINGS} | soft).items():
                if score is not None and name in self._sums:
                    self._sums[name] += score
                    self._counts[name] += 1
            yield record

    def line(self, failed: int) -> str:
        """n, the means of the scores (1-5) and of the soft ones, and how many could not be scored."""
        means = {name: self._sums[name] / count if count else None for name, count in self._counts.items()}
        whole, soft = ({name: means[f"{kind}{name}"] for name in HEADINGS} for kind in ("", "soft "))
        return f"n {self.count}, mean {_scores(whole)}, soft {_scores(soft)}, failed {failed}"


def write_table(path: Path, records: Iterable[ScoreRecord]) -> None:
    """Write one row a record, `COLUMNS`, as CSV or, where the name says so, as Parquet.

    Texts of the CSV are such that no spreadsheet runs them; `as_meant` gives them back, but for line breaks.
    """
    named = ("pair_id", "image", "prompt", "model")
    rows: Iterator[dict[str, Any]] = (
        {name: getattr(record, name) for name in (*named, *SCORE_NAMES)}
        | {f"soft_{name}": (record.soft or {}).get(name) for name in SCORE_NAMES}
        for record in records
    )
    if path.suffix.lower() == ".parquet":
        import polars as pl

        kinds = {name: pl.Float64 if name.removeprefix("soft_") in SCORE_NAMES else pl.String for name in COLUMNS}
        # With a schema: polars would guess the type of a column from its first rows, which may be empty.
        frame = pl.DataFrame(list(rows), schema=kinds)
        with atomic_write(path, "wb") as file:
            frame.write_parquet(file)
        return
    with atomic_write(path) as file:
        # Prompts come from anywhere: one that begins with "=" would be a formula to a spreadsheet.
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: harmless(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
        )
