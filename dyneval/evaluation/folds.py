"""Agreement by fold of a cross-validation.

Metrics that were trained on a benchmark publish the mean over its folds. An evaluator that was not trained on it can be
compared with them only on the same folds. Which fold an image was tested in stands in a column `fold` of one's own
ratings, or in files beside the benchmark (`--folds`): a table with `fold` and an id or image, or one file a fold, such
as EvalMi's `test_AIGI_mos2_fold_1.jsonl`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyneval.errors import DataFileError
from dyneval.evaluation.benchmarks.base import Benchmark, RatedImage, RatingError
from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.comparison import EvaluatorComparison
from dyneval.evaluation.matching import Key, match
from dyneval.evaluation.scores import row_names
from dyneval.evaluation.tables import Table, estimate, number
from dyneval.files.tables import BadRow, cell, rows, text_of

# The number of a fold in the name of its file.
_NUMBERED = re.compile(r"fold[ _-]?(\d+)", re.IGNORECASE)


def with_folds(items: Sequence[RatedImage], paths: Sequence[Path]) -> list[RatedImage]:
    """Give rated images the fold that the files say; the others keep theirs, if any.

    Args:
        items: of the benchmark.
        paths: tables with an id or image, and `fold`, where an empty cell says that the image is in none; without that
            column the name of the file says the fold.

    Raises:
        DataFileError: a file cannot be read, is the training part of a fold, or holds no rated image.
        RatingError: an image is in two folds, or it is not clear which image is meant.
    """
    fold_of: dict[str, str] = {}
    for path in paths:
        # EvalMi publishes train_* and test_* files of a fold side by side; taking both would rate what was trained on.
        if path.name.lower().startswith("train"):
            raise DataFileError(f"{path}: is what a metric was trained on; name the files that it was tested on")
        named = _NUMBERED.search(path.stem)
        before = len(fold_of)
        keys: list[Key] = []
        folds: list[tuple[str, str]] = []
        for row_number, row in enumerate(rows(path), 1):
            where = f"{path}: row {row_number}"
            try:
                key, image = row_names(row, str)
            except TypeError as error:
                raise DataFileError(f"{where} {error}") from error
            fold = cell(row, "fold", text_of, where) if "fold" in row else named[1] if named else path.stem
            if fold is not None:
                keys.append((key, image or None))
                folds.append((where, fold))
        for (where, fold), found in zip(folds, match(items, keys), strict=True):
            for item in found:
                if fold_of.setdefault(item.item_id, fold) != fold:
                    raise RatingError(f"{where}: {item.item_id} is in fold {fold} and in fold {fold_of[item.item_id]}")
        if len(fold_of) == before:
            raise DataFileError(f"{path}: none of its rows is a rated image, such as {items[0].image}")
    return [replace(item, fold=fold_of.get(item.item_id, item.fold)) for item in items]


def within(benchmark: Benchmark, fold: Path) -> Benchmark:
    """The benchmark with the images of one fold alone, as `with_folds` finds them in its file."""

    def read(path: Path, field: str) -> Iterator[RatedImage | BadRow]:
        found = list(benchmark.read(path, field))
        yield from (row for row in found if isinstance(row, BadRow))
        items = with_folds([item for item in found if isinstance(item, RatedImage)], [fold])
        # Without the fold's name: a table by fold would only repeat the one over all images.
        yield from (replace(item, fold=None) for item in items if item.fold is not None)

    return replace(benchmark, read=read)


def fold_table(found: EvaluatorComparison) -> Table:
    """SRCC and PLCC of each evaluator in each fold, and their mean and sample deviation over the folds."""
    # Folds by number where they have one: as texts, 10 stands before 2.
    names = sorted(
        {name for result in found.evaluators for name in result.folds},
        key=lambda name: (int(name), "") if re.fullmatch(r"\d{1,9}", name) else (0, name),
    )
    images = {name: max(result.folds[name].items for result in found.evaluators) for name in names}
    headings, columns = ["fold", "images"], []
    for result in found.evaluators:
        headings += [f"SRCC {result.name}", f"PLCC {result.name}"]
        columns += [[getattr(result.folds[name], which) for name in names] for which in ("srcc", "plcc")]
    body = [
        [name, f"{images[name]:,}", *(estimate(column[place]) for column in columns)]
        for place, name in enumerate(names)
    ]
    body.append(["mean ± sd", "", *map(_over_folds, columns)])
    without = sum(item.fold is None for item in found.rated.items)
    return Table(headings, body, (f"{without} rated images are in no fold",) if without else ())


def _over_folds(values: Sequence[Estimate]) -> str:
    """Mean and sample deviation, as papers give them; the deviation of one fold is not defined."""
    known = [value.value for value in values if value.value is not None]
    if not known:
        return "–"
    return number(float(np.mean(known))) + (f" ± {number(float(np.std(known, ddof=1)))}" if len(known) > 1 else "")
