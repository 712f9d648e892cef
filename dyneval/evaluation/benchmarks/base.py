"""What every benchmark loader yields, and the checks that all of them share: rated images, scales, one kind of error.

A loader only takes its files apart. `load` decides which ratings count, so that a rating off the scale, a gap or a row
that occurs twice is treated alike in all benchmarks, counted, and named in the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from dyneval.errors import UserError
from dyneval.evaluation.benchmarks.describe import describe_path
from dyneval.evaluation.rejects import RowFilter, UnusableRow
from dyneval.evaluation.spelling import alike_prompt, name_of
from dyneval.files.row import BadRow


class LayoutError(UserError, ValueError):
    """Files are not in the layout of the benchmark; the message says what was found and what was expected."""


class RatingError(UserError, ValueError):
    """A file has the right layout and impossible contents: a rating off its scale, one id twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatedImage:
    """One image that people rated.

    Attributes:
        item_id: unique within the benchmark.
        image: path below the benchmark's image folder.
        prompt: the text it was made from; None where the benchmark's files do not hold it.
        ratings: one number a rater (or their published mean), on the benchmark's scale; NaN where a rater gave none.
            As a loader yields them they are whatever the file holds, see `listed`; `load` makes numbers of them.
        model: the T2I model, where known.
        categories: skills or element types that the benchmark names.
        rows: numbers of the rows that it was put together from, where those are several.
        group: the images that were compared with each other, where a rating says how an image stands among those.
        fold: in which part of a cross-validation it was tested, where that is known.
    """

    item_id: str
    image: str
    prompt: str | None
    ratings: tuple[float, ...]
    model: str | None = None
    categories: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    group: str | None = None
    fold: str | None = None

    @property
    def rating(self) -> float:
        """Mean of the raters that gave a number; NaN when none did."""
        given = [value for value in self.ratings if math.isfinite(value)]
        return sum(given) / len(given) if given else math.nan

    @property
    def cluster(self) -> str:
        """What the bootstrap draws as a whole: the prompt, or the image itself where the prompt is not known."""
        return alike_prompt(self.prompt) if self.prompt is not None else self.item_id


class Field(NamedTuple):
    """What a rating means, and its scale.

    Attributes:
        meaning: as reports name it.
        low: lowest rating; None where the scale is not published.
        high: highest rating, likewise.
        is_preference: a rating orders the images of one `RatedImage.group` and says nothing across groups.
        is_checklist: an image's ratings are parts of one judgment, so that the image has none where one of them cannot
            be used; otherwise each is a rater's.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    is_preference: bool = False
    is_checklist: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A published benchmark: where it comes from, how its files look, and the function that reads them.

    Attributes:
        name: as on the command line.
        title: as in tables.
        source: where the format is published.
        layout: what a user has to provide, shown when it does not fit.
        size: how many images the published files hold, as text.
        licence: of the published files, as their publishers state it.
        fields: what people rated, by name; the first is the default.
        read: (path, field) -> rated images, and a `BadRow` for a row that holds none; KeyError, TypeError and
            IndexError mean another layout.
    """

    name: str
    title: str
    source: str
    layout: str
    size: str = ""
    licence: str = "not stated"
    fields: Mapping[str, Field]
    read: Callable[[Path, str], Iterator[RatedImage | BadRow]]


@dataclass(slots=True)
class RatedSet:
    """The rated images of a benchmark.

    Attributes:
        benchmark: whose they are.
        rated: name of the field that was read.
        items: images with a rating.
        unrated: ids of images without one.
        rejects: rows that do not count, with their reasons.
        repeated: how many rows repeat an earlier one.
    """

    benchmark: Benchmark
    rated: str
    items: list[RatedImage] = field(default_factory=list)
    unrated: list[str] = field(default_factory=list)
    rejects: list[UnusableRow] = field(default_factory=list)
    repeated: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return what agreement.json says of the set before anything of evaluators."""
        return {
            "benchmark": self.benchmark.name,
            "title": self.benchmark.title,
            "rating": self.rated,
            "images": len(self.items),
            "unrated": self.unrated,
        }


def load(benchmark: Benchmark, path: Path, field: str | None = None) -> RatedSet:
    """Read a benchmark's annotations and check them.

    A rating that is no number or is off the scale is left out, and so is an image that occurs twice with different
    contents. `rejects` names them. An image stays where it has other ratings that count.

    Args:
        benchmark: one of `dyneval.evaluation.benchmarks.BENCHMARKS`, or `generic.benchmark(...)`.
        path: the file or folder that `benchmark.layout` describes.
        field: what was rated; None takes the benchmark's first.

    Raises:
        LayoutError: the files are not in the benchmark's layout, or more than half of the rows cannot be used.
    """
    field = field or next(iter(benchmark.fields))
    if field not in benchmark.fields:
        known = ", ".join(f"{name} ({what.meaning})" for name, what in benchmark.fields.items())
        raise LayoutError(f"{benchmark.title} has no rating called {field!r}; it has {known}")
    filtered = RowFilter[RatedImage](path.name)
    # Loaders index rows plainly (`row["prompt"]`), which keeps each at about twenty lines; what they raise on another
    # layout is translated below.
    try:
        for row, item in enumerate(benchmark.read(path, field), 1):
            if isinstance(item, BadRow):
                filtered.reject("", item.line, item.reason)
                continue
            row = item.rows[0] if item.rows else row
            given, faults = _usable(benchmark, benchmark.fields[field], item.ratings)
            for fault in faults:
                filtered.reject(item.item_id, row, fault)
            # A rater who typed 41 for 4 (GenAI-Bench has such a row) gave no rating; the image keeps the others'.
            if not faults or not (benchmark.fields[field].is_checklist or all(map(math.isnan, given))):
                # A prompt that says nothing, such as "", counts as missing: as a text it would put all images without a
                # prompt into one cluster, and intervals would have no width.
                prompt = item.prompt if item.prompt is not None and name_of(item.prompt) else None
                item = replace(item, prompt=prompt, ratings=given)
                filtered.add(item.item_id, row, item.item_id, item, len(item.rows) or 1)
    except KeyError as error:
        raise LayoutError(_unknown(benchmark, path, f"there is no field {error}")) from error
    # ValueError: a DataFileError, lists of different lengths, a name that is no number, text that is not UTF-8.
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise LayoutError(_unknown(benchmark, path, str(error))) from error
    # After the loop: whether two rows of an image agree is known when all rows are read.
    items = list(filtered.finish().values())
    if filtered.refusal:
        raise LayoutError(_unknown(benchmark, path, filtered.refusal))
    if not items:
        raise LayoutError(_unknown(benchmark, path, "it holds no rated image"))
    return RatedSet(
        benchmark,
        field,
        [item for item in items if not math.isnan(item.rating)],
        [item.item_id for item in items if math.isnan(item.rating)],
        filtered.rejects,
        filtered.repeated,
    )


def _usable(benchmark: Benchmark, scale: Field, ratings: Any) -> tuple[tuple[float, ...], list[str]]:
    """Ratings as numbers, NaN for one that is no number or is off the scale; and their faults, each once."""
    given: list[float] = []
    faults: dict[str, None] = {}
    for value in listed(ratings):
        try:
            number = _number(value)
            fault = off_scale(benchmark.title, scale, number)
        except TypeError as error:
            number, fault = math.nan, str(error)
        given.append(math.nan if fault else number)
        if fault:
            faults[fault] = None
    return tuple(given), list(faults)


def refuse_duplicates(where: str, seen: Mapping[str, int]) -> None:
    """Raise RatingError naming the ids of `seen` (id -> times) that stand more than once."""
    twice = [name for name, times in seen.items() if times > 1]
    if twice:
        shown = ", ".join(twice[:5]) + (f" and {len(twice) - 5} more" if len(twice) > 5 else "")
        raise RatingError(f"{where}: {len(twice)} ids stand more than once: {shown}")


def listed(values: Any) -> tuple[Any, ...]:
    """One rater's rating or a list of them, as the file holds them; `load` says which are no numbers."""
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def numbers(values: Any) -> tuple[float, ...]:
    """Return one rater's number or a list of them as floats; None becomes NaN. TypeError on anything else."""
    return tuple(_number(value) for value in listed(values))


def _number(value: Any) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    # A bool is an int in Python: true would count as the rating 1.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"expected a number, found {type(value).__name__} {str(value)[:40]!r}")
    try:
        return float(value)
    except ValueError:
        raise TypeError(f"expected a number, found {value[:40]!r}") from None  # type: ignore[index]


def inside(path: Path, name: str) -> Path:
    """Return the file `name` of folder `path`.

    Raises:
        LookupError: the folder does not have it; `load` makes a LayoutError of that.
    """
    if not (path / name).exists():
        raise LookupError(f"{path} has no {name}")
    return path / name


def _unknown(benchmark: Benchmark, path: Path, found: str) -> str:
    """The message: what is wrong, what was found, what was expected, and where to get it."""
    expected = f"expected: {benchmark.layout}\nsource: {benchmark.source}"
    return f"{path}: not the layout of {benchmark.title}: {found}\nfound: {describe_path(path)}\n{expected}"


def off_scale(title: str, scale: Field, rating: float) -> str | None:
    """Why a rating does not count: it is off the scale or infinite. None where it counts, or is NaN.

    Args:
        title: of the benchmark, for the message.
        scale: its ends, either of which may be open.
        rating: as a number.
    """
    # A scale without a published end would let infinity pass, and no mean or correlation survives it.
    if math.isinf(rating):
        return f"rating {rating:g} is no number that can be compared"
    low = -math.inf if scale.low is None else scale.low
    high = math.inf if scale.high is None else scale.high
    if rating < low or rating > high:
        return f"rating {rating:g} lies off the scale of {title}, {low:g}-{high:g}"
    return None
