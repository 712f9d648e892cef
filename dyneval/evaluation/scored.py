"""The scored images behind a leaderboard: DynEval's score files joined with what is known of prompts and T2I models.

A board ranks models by means, so an image that counts twice, a model that stands under two names or scores of two
students would move ranks without a sign of it. All of these are refused here, with the file and the pair.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dyneval.errors import DataFileError
from dyneval.evaluation import published
from dyneval.evaluation.benchmarks.base import RatingError, refuse_duplicates
from dyneval.evaluation.scores import other_settings, read_records, refuse_other_field, score_of
from dyneval.evaluation.spelling import alike_model, alike_path, alike_prompt, ends_alike, two_spellings, without_suffix
from dyneval.files.pairs import metadata_file
from dyneval.files.tables import cell, rows, text_of, texts_of, whole_of
from dyneval.records import SCORE_NAMES, TIERS, ScoreName, ScoreRecord

Thing = TypeVar("Thing", bound=Hashable)

# In place of the number of an image, of a row of metadata that names no file.
_UNNAMED = -1
ModelFrom = Literal["file", "folder"]
"""Where the T2I model's name comes from without metadata: the score file's name, or the image's first folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptEntry:
    """A prompt of the list that a board is made over; `file_name` is its image's name below a model's folder."""

    prompt: str
    categories: tuple[str, ...]
    file_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """What is known of a T2I model."""

    name: str
    tier: int | None = None
    year: int | None = None


class ScoredImage(NamedTuple):
    """The scores (1-5) of one image."""

    pair_id: str
    model: str
    prompt: str
    categories: tuple[str, ...]
    t2ia: float
    iqa: float
    overall: float
    image: str


class KnownPair(NamedTuple):
    """What metadata say of a pair."""

    generation_model: str
    tier: int | None
    categories: tuple[str, ...]


class Column(Generic[Thing]):
    """A column of values of which many are equal: each is kept once, and a row holds its number, 4 bytes."""

    def __init__(self) -> None:
        self._numbers: dict[Thing, int] = {}
        self._codes = array("i")

    def number(self, thing: Thing) -> int:
        """The number of a thing, in the order of first appearance."""
        return self._numbers.setdefault(thing, len(self._numbers))

    def append(self, thing: Thing) -> None:
        """Add a row."""
        self._codes.append(self.number(thing))

    @property
    def things(self) -> list[Thing]:
        """Each once, by its number."""
        return list(self._numbers)

    @property
    def codes(self) -> NDArray[np.int32]:
        """The number of each row's thing, shape (rows,)."""
        # A copy: an array that numpy looks into refuses to grow (BufferError).
        return np.array(self._codes, np.int32)

    def __len__(self) -> int:
        return len(self._codes)


@dataclass(slots=True)
class ScoredSet:
    """All scored images of a board, the T2I models, how many images each should have, and who scored.

    It holds columns and no object an image: a million images take 0.3 GB. Spellings of a prompt (`alike_prompt`) are
    one prompt.
    """

    pair_ids: Column[str] = field(default_factory=Column)
    images: Column[str] = field(default_factory=Column)
    model_of: Column[str] = field(default_factory=Column)
    prompts: Column[str] = field(default_factory=Column)
    categories: Column[tuple[str, ...]] = field(default_factory=Column)
    scores: dict[ScoreName, array[float]] = field(default_factory=lambda: {name: array("d") for name in SCORE_NAMES})
    ranked_by: str = "overall"
    ranked: array[float] = field(default_factory=lambda: array("d"))
    """The score that ranks, one of `dyneval.evaluation.scores.FIELDS`, of each image."""
    models: dict[str, ModelInfo] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    evaluator: str = ""
    identity: str = ""
    """The evaluator's weights and template, which must be the same in all files."""
    settings: dict[str, object] = field(default_factory=dict)
    """What else the scores depend on, which must be the same as well."""

    def __len__(self) -> int:
        return len(self.pair_ids)

    def __iter__(self) -> Iterator[ScoredImage]:
        # The values and numbers of a column are made here once; in the loop they would be made for each image.
        pair_ids, models, prompts, categories, images = (
            (column.things, column.codes)
            for column in (self.pair_ids, self.model_of, self.prompts, self.categories, self.images)
        )
        for row in range(len(self)):
            yield ScoredImage(
                pair_id=pair_ids[0][pair_ids[1][row]],
                model=models[0][models[1][row]],
                prompt=prompts[0][prompts[1][row]],
                categories=categories[0][categories[1][row]],
                t2ia=self.scores["t2ia"][row],
                iqa=self.scores["iqa"][row],
                overall=self.scores["overall"][row],
                image=images[0][images[1][row]],
            )


def read_scored(
    paths: Sequence[Path],
    *,
    metadata: Sequence[Path] = (),
    prompts: Path | None = None,
    models: Path | None = None,
    model_from: ModelFrom = "file",
    score: str = "overall",
) -> ScoredSet:
    """Read score files and join them with metadata or a prompt list.

    Args:
        paths: JSONL files of ScoreRecords, all by one evaluator.
        metadata: metadata.jsonl of GenDB, its folder, or a table with `pair_id` and
            `generation_model`; tells T2I model, tier and categories of each pair_id.
        prompts: a prompt list with categories (see `read_prompts`), for scores without metadata.
        models: CSV with `model` and, optionally, `tier` and `year`; the models of the paper are known.
        model_from: where the T2I model's name comes from when there is no metadata.
        score: which one ranks, one of `dyneval.evaluation.scores.FIELDS`.

    Raises:
        SettingError: no such score.
        DataFileError: a file cannot be read, a score has no metadata, or the files are by different evaluators.
        SchemaError: a row is no ScoreRecord.
        RatingError: a model has one pair_id twice, or one image under two.
    """
    refuse_other_field(score)
    if not metadata and model_from == "file":
        _refuse_one_stem(paths)
    found = ScoredSet(ranked_by=score)
    pairs, drawn = _read_pairs(metadata, found)
    listed = {alike_prompt(entry.prompt): entry for entry in read_prompts(prompts)} if prompts else None
    known = _read_models(models)
    tiers: dict[str, int] = {}
    spelled: dict[str, str] = {}
    starts = []
    for path in paths:
        starts.append(len(found))
        for number, record in enumerate(read_records(path), 1):
            where = f"{path}:{number}: {record.pair_id}"
            ranked, scores = _check_record(found, path, where, record)
            image = str(PurePosixPath(record.image))
            pair = None
            if pairs:
                code = found.pair_ids.number(record.pair_id)
                if code >= len(pairs):
                    raise DataFileError(f"{where} is not in {', '.join(map(str, metadata))}")
                pair = pairs[code]
                _refuse_other_image(found, where, image, drawn[code])
            model = pair.generation_model if pair else _model_name(path, where, record, model_from)
            if pair and pair.tier is not None:
                tiers.setdefault(model, pair.tier)
            prompt = alike_prompt(record.prompt)
            found.pair_ids.append(record.pair_id)
            found.model_of.append(model)
            found.images.append(image)
            # The first spelling of a prompt is the one that the page shows.
            found.prompts.append(spelled.setdefault(prompt, record.prompt))
            found.categories.append(_categories(record, prompt, pair, listed))
            for name, value in scores.items():
                found.scores[name].append(value)
            found.ranked.append(ranked)
    if not len(found):
        raise DataFileError(f"{', '.join(map(str, paths))}: no scores")
    _refuse_repeats(paths, starts, found)
    found.models = _models(found, known, tiers)
    found.expected = _expected(found, pairs, listed)
    return found


def read_prompts(path: Path) -> list[PromptEntry]:
    """Read a prompt list with categories.

    Rows have `prompt` and `categories` (a list, as Step 1 writes them), or `prompt` and `subcategory` (as DynEval-1K's
    tables have them, one name or several with commas); perhaps `filename`, or `id` or `gid`, after which images are
    called. CSV, TSV, JSONL, Parquet, and JSON with or without the key `prompts`.

    Raises:
        DataFileError: another layout, or a prompt twice.
    """
    entries = []
    for number, row in enumerate(rows(path, key="prompts"), 1):
        where = f"{path}: row {number}"
        prompt = cell(row, "prompt", text_of, where)
        if prompt is None:
            raise DataFileError(f"{where} has no prompt; it has {', '.join(map(str, row))}")
        named = "categories" if row.get("categories") is not None else "subcategory"
        categories = cell(row, named, _listed, where)
        name = cell(row, "filename", text_of, where)
        if name is None:
            # DynEval-1K calls images after the prompt's number, in four digits.
            counted = cell(row, "gid" if "gid" in row else "id", text_of, where) or ""
            name = f"{int(counted):04d}.png" if re.fullmatch(r"\d{1,9}", counted) else None
        entries.append(PromptEntry(prompt=prompt.strip(), categories=categories, file_name=name))
    try:
        refuse_duplicates(str(path), Counter(alike_prompt(entry.prompt) for entry in entries))
    # The check speaks of ids; here they are prompts, and a prompt list is no file of ratings.
    except RatingError as error:
        raise DataFileError(str(error).replace("ids stand", "prompts stand")) from error
    return entries


def _listed(value: Any) -> tuple[str, ...]:
    return texts_of(value.split(",") if isinstance(value, str) else value)


def _read_pairs(paths: Sequence[Path], found: ScoredSet) -> tuple[list[KnownPair], array[int]]:
    """What metadata say of each pair, and the number of its image or `_UNNAMED`, by the pair's number in `found`."""
    pairs: list[KnownPair] = []
    drawn = array("i")
    # Of a million pairs few differ in model, tier or categories; equal ones share one object.
    same: dict[KnownPair, KnownPair] = {}
    for path in map(metadata_file, paths):
        for number, row in enumerate(rows(path), 1):
            where = f"{path}: row {number}"
            name, model = (cell(row, column, text_of, where) for column in ("pair_id", "generation_model"))
            if name is None or model is None:
                raise DataFileError(
                    f"{where}: expected pair_id and generation_model, perhaps tier and categories, as GenDB's "
                    f"metadata.jsonl has them; found {', '.join(row)}"
                )
            pair = KnownPair(model, _tier(row, where), cell(row, "categories", _listed, where))
            pair = same.setdefault(pair, pair)
            code, file_name = found.pair_ids.number(name), cell(row, "file_name", text_of, where)
            image = found.images.number(str(PurePosixPath(file_name))) if file_name else _UNNAMED
            if code == len(pairs):
                pairs.append(pair)
                drawn.append(image)
            elif pairs[code] != pair:
                raise DataFileError(f"{where}: {name} stands there before with another model, tier or categories")
            elif drawn[code] != image:
                raise DataFileError(f"{where}: {name} stands there before with another image; one image has one id")
    return pairs, drawn


def _tier(row: Mapping[str, Any], where: str) -> int | None:
    tier = cell(row, "tier", whole_of, where)
    if tier not in (None, *TIERS):
        raise DataFileError(f"{where}: tier: expected 1, 2 or 3, found {tier}")
    return tier


def _read_models(path: Path | None) -> dict[str, ModelInfo]:
    if path is None:
        return {}
    found: dict[str, ModelInfo] = {}
    for number, row in enumerate(rows(path), 1):
        where = f"{path}: row {number}"
        name = cell(row, "model", text_of, where)
        if name is None:
            raise DataFileError(f"{where}: expected the columns model, tier, year, found {', '.join(row)}")
        info = ModelInfo(name=name.strip(), tier=_tier(row, where), year=cell(row, "year", whole_of, where))
        if (other := found.setdefault(alike_model(name), info)) != info:
            raise DataFileError(f"{where}: {info.name} stands there before as {other.name}; keep one of the rows")
    return found


def _models(found: ScoredSet, known: Mapping[str, ModelInfo], tiers: Mapping[str, int]) -> dict[str, ModelInfo]:
    """What is known of each model: of one's own table first, then of the metadata, then of the paper.

    Raises:
        DataFileError: two names are spellings of one model, which would be two rows of the board.
    """
    models = {}
    for name in found.model_of.things:
        own, paper = known.get(alike_model(name)), published.find_model(name)
        tier = (own and own.tier) or tiers.get(name) or (paper and paper.tier)
        year = (own and own.year) or (paper and paper.year)
        title = own.name if own else paper.name if paper else name
        models[name] = ModelInfo(name=title, tier=tier or None, year=year or None)
    if two := two_spellings({name: alike_model(info.name) for name, info in models.items()}):
        one, other = two
        raise DataFileError(f"{one} and {other} are both {models[one].name}; name them alike, or leave one out")
    return models


def _refuse_one_stem(paths: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in paths:
        if (other := first.setdefault(path.stem, path)) is not path:
            raise DataFileError(
                f"{other} and {path} would both be the model {path.stem}; name the files by their models, join the "
                "parts of one with dyneval merge, or give --metadata"
            )


def _refuse_other_image(found: ScoredSet, where: str, scored: str, drawn: int) -> None:
    """Refuse an id that is of another image in the metadata: its model would get another one's score.

    `drawn` is the number of the image in the metadata, or `_UNNAMED`. The form of the file may have changed.
    """
    if drawn in (_UNNAMED, found.images.number(scored)):
        return
    known_as = found.images.things[drawn]
    first, second = ((without_suffix(parts) or parts) for parts in map(alike_path, (scored, known_as)))
    if not ends_alike(first, second):
        raise DataFileError(f"{where} was scored from {scored}, and the metadata say that it is {known_as}")


def _refuse_repeats(paths: Sequence[Path], starts: Sequence[int], found: ScoredSet) -> None:
    """Refuse what would count twice; the rows of each file begin at its place in `starts`.

    Raises:
        RatingError: an image of a file stands under two ids, or a model has one pair_id twice.
    """
    # Images by file: a path of another file may be of another folder.
    for path, start, end in zip(paths, starts, [*starts[1:], len(found)], strict=True):
        ids = found.pair_ids.codes[start:end]
        columns = (column.codes[start:end] for column in (found.images, found.model_of, found.prompts))
        for one, other in zip(*_repeated(*columns), strict=True):
            if ids[one] != ids[other]:
                names, image = found.pair_ids.things, found.images.things[found.images.codes[start + one]]
                raise RatingError(
                    f"{path}: the image {image} stands under two ids, {names[ids[one]]} and {names[ids[other]]}; "
                    "it would count twice, keep one of them"
                )
    _, again = _repeated(found.pair_ids.codes, found.model_of.codes)
    names, models = found.pair_ids.things, found.model_of.things
    codes = zip(found.pair_ids.codes[again], found.model_of.codes[again], strict=True)
    refuse_duplicates(", ".join(map(str, paths)), {f"{names[pair]} ({models[model]})": 2 for pair, model in codes})


def _repeated(*columns: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that are alike in all columns, each with the one before it."""
    # One whole number a row, whose digits are the numbers of its values; sorting it brings equal rows together.
    key = columns[0].astype(np.int64)
    for column in columns[1:]:
        key = key * (int(column.max(initial=0)) + 1) + column
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    return order[:-1][same], order[1:][same]


def _model_name(path: Path, where: str, record: ScoreRecord, model_from: ModelFrom) -> str:
    if model_from == "file":
        return path.stem
    folder, _, _ = record.image.replace("\\", "/").lstrip("/").partition("/")
    if folder == record.image:
        raise DataFileError(f"{where}: image {record.image} lies in no folder named by model")
    return folder


def _check_record(
    found: ScoredSet, path: Path, where: str, record: ScoreRecord
) -> tuple[float, dict[ScoreName, float]]:
    """The score of a record that ranks, and its three scores.

    Raises:
        DataFileError: a score is missing, or it is by another evaluator than those before, whatever its folder's name.
    """
    name = f"{record.model}, template {record.template}"
    identity = f"{record.revision or record.model}, template {record.template}"
    found.evaluator, found.identity = found.evaluator or name, found.identity or identity
    if found.identity != identity:
        raise DataFileError(f"{path}: is by {name}, the scores before it by {found.evaluator}; they do not compare")
    if other := other_settings(found.settings, record.settings):
        raise DataFileError(
            f"{path}: its scores were made with other settings than those before ({other}); they do not compare"
        )
    if record.t2ia is None or record.iqa is None or record.overall is None:
        raise DataFileError(f"{where} has the score of one part only; a leaderboard needs T2IA and IQA")
    ranked = score_of(record, found.ranked_by)
    if ranked is None:
        raise DataFileError(f"{where} has no score {found.ranked_by}; choose another with --score")
    return ranked, {"t2ia": record.t2ia, "iqa": record.iqa, "overall": record.overall}


def _categories(
    record: ScoreRecord, prompt: str, pair: KnownPair | None, listed: Mapping[str, PromptEntry] | None
) -> tuple[str, ...]:
    if pair:
        return pair.categories
    entry = (listed or {}).get(prompt)
    # A prompt that is not in the list has no category, and the board would be over other prompts than its title says.
    if listed is not None and entry is None:
        raise DataFileError(f"{record.pair_id}: its prompt is not in the prompt list: {record.prompt[:80]!r}")
    return entry.categories if entry else ()


def _expected(found: ScoredSet, pairs: Sequence[KnownPair], listed: Mapping[str, PromptEntry] | None) -> dict[str, int]:
    """How many images each model should have: its pairs, the prompt list, or the prompts of its tier's models."""
    if pairs:
        return dict(Counter(pair.generation_model for pair in pairs))
    if listed is not None:
        return dict.fromkeys(found.models, len(listed))
    # With neither, every model of a tier is taken to have been given all prompts that any of them has.
    tier_of = np.array([found.models[name].tier or 0 for name in found.model_of.things])[found.model_of.codes]
    prompts = {tier: len(np.unique(found.prompts.codes[tier_of == tier])) for tier in np.unique(tier_of)}
    return {name: prompts[info.tier or 0] for name, info in found.models.items()}
