"""The scored images behind a leaderboard: DynEval's score files joined with what is known of prompts and T2I models."""

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

_UNNAMED = -1
ModelFrom = Literal["file", "folder"]
"""Where the T2I model's name stands when there is no metadata: the score file's name, or the image's first folder."""


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
    """A column of things of which many are alike: each is kept once, a row holds its number."""

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
        return np.array(self._codes, np.int32)

    def __len__(self) -> int:
        return len(self._codes)


@dataclass(slots=True)
class ScoredSet:
    """All scored images of a board, the T2I models, how many images each should have, and who scored.

    Columns, not a row an image: a million images take 0.3 GB. Spellings of a prompt (`alike_prompt`) are one prompt.
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
        model_from: where the T2I model's name stands when there is no metadata.
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
    for path in paths:
        start = len(found)
        for number, record in enumerate(read_records(path), 1):
            _check_evaluator(found, path, record)
            code = found.pair_ids.number(record.pair_id)
            if pairs and code >= len(pairs):
                raise DataFileError(f"{path}:{number}: {record.pair_id} is not in {', '.join(map(str, metadata))}")
            image = str(PurePosixPath(record.image))
            pair = pairs[code] if pairs else None
            if pair and drawn[code] not in (_UNNAMED, found.images.number(image)):
                _refuse_other_image(f"{path}:{number}: {record.pair_id}", image, found.images.things[drawn[code]])
            model = pair.generation_model if pair else _model_name(path, number, record, model_from)
            if pair and pair.tier is not None:
                tiers.setdefault(model, pair.tier)
            prompt = alike_prompt(record.prompt)
            found.pair_ids.append(record.pair_id)
            found.model_of.append(model)
            found.images.append(image)
            found.prompts.append(spelled.setdefault(prompt, record.prompt))
            found.categories.append(_categories(record, prompt, pair, listed))
            for name, value in _scores(path, number, record).items():
                found.scores[name].append(value)
            if (ranked := score_of(record, score)) is None:
                raise DataFileError(
                    f"{path}:{number}: {record.pair_id} has no score {score}; choose another with --score"
                )
            found.ranked.append(ranked)
        _refuse_images_twice(path, found, start)
    if not len(found):
        raise DataFileError(f"{', '.join(map(str, paths))}: no scores")
    _refuse_ids_twice(paths, found)
    found.models = {name: _info(name, known, tiers) for name in found.model_of.things}
    _refuse_one_name(found.models)
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
        entries.append(PromptEntry(prompt=prompt.strip(), categories=categories, file_name=_file_name(row, where)))
    try:
        refuse_duplicates(str(path), Counter(alike_prompt(entry.prompt) for entry in entries))
    except RatingError as error:
        raise DataFileError(str(error).replace("ids stand", "prompts stand")) from error
    return entries


def _listed(value: Any) -> tuple[str, ...]:
    return texts_of(value.split(",") if isinstance(value, str) else value)


def _file_name(row: Mapping[str, Any], where: str) -> str | None:
    name = cell(row, "filename", text_of, where)
    if name is not None:
        return name
    number = cell(row, "gid" if "gid" in row else "id", text_of, where) or ""
    return f"{int(number):04d}.png" if re.fullmatch(r"\d{1,9}", number) else None


def _read_pairs(paths: Sequence[Path], found: ScoredSet) -> tuple[list[KnownPair], array[int]]:
    """What metadata say of each pair, and the number of its image or `_UNNAMED`, by the pair's number in `found`."""
    pairs: list[KnownPair] = []
    drawn = array("i")
    same: dict[KnownPair, KnownPair] = {}  # of a million pairs, few are of another model, tier or categories
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


def _refuse_other_image(where: str, scored: str, drawn: str) -> None:
    """An id that is of another image gives a model another one's score. The form of the file may have changed."""
    first, second = ((without_suffix(parts) or parts) for parts in map(alike_path, (scored, drawn)))
    if not ends_alike(first, second):
        raise DataFileError(f"{where} was scored from {scored}, and the metadata say that it is {drawn}")


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


def _info(name: str, known: Mapping[str, ModelInfo], tiers: Mapping[str, int]) -> ModelInfo:
    own, paper = known.get(alike_model(name)), published.find_model(name)
    tier = (own and own.tier) or tiers.get(name) or (paper and paper.tier)
    year = (own and own.year) or (paper and paper.year)
    return ModelInfo(name=own.name if own else paper.name if paper else name, tier=tier or None, year=year or None)


def _refuse_one_name(models: Mapping[str, ModelInfo]) -> None:
    """Two spellings of one model would be two rows of a board, of one model each half."""
    if two := two_spellings({found: alike_model(info.name) for found, info in models.items()}):
        first, second = two
        raise DataFileError(f"{first} and {second} are both {models[first].name}; name them alike, or leave one out")


def _refuse_one_stem(paths: Sequence[Path]) -> None:
    first: dict[str, Path] = {}
    for path in paths:
        if (other := first.setdefault(path.stem, path)) is not path:
            raise DataFileError(
                f"{other} and {path} would both be the model {path.stem}; name the files by their models, join the "
                "parts of one with dyneval merge, or give --metadata"
            )


def _refuse_ids_twice(paths: Sequence[Path], found: ScoredSet) -> None:
    _, again = _repeated(found.pair_ids.codes, found.model_of.codes)
    names, models = found.pair_ids.things, found.model_of.things
    ids, of = found.pair_ids.codes[again], found.model_of.codes[again]
    seen = {f"{names[pair]} ({models[model]})": 2 for pair, model in zip(ids, of, strict=True)}
    refuse_duplicates(", ".join(map(str, paths)), seen)


def _refuse_images_twice(path: Path, found: ScoredSet, start: int) -> None:
    """One image under two ids would count twice. Of one file only: those of another may lie in another folder."""
    ids = found.pair_ids.codes[start:]
    before, again = _repeated(*(column.codes[start:] for column in (found.images, found.model_of, found.prompts)))
    for one, other in zip(before, again, strict=True):
        if ids[one] != ids[other]:
            names, image = found.pair_ids.things, found.images.things[found.images.codes[start + one]]
            raise RatingError(
                f"{path}: the image {image} stands under two ids, {names[ids[one]]} and {names[ids[other]]}; "
                "it would count twice, keep one of them"
            )


def _repeated(*columns: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that are alike in all columns, each with the one before it."""
    key = columns[0].astype(np.int64)
    for column in columns[1:]:
        key = key * (int(column.max(initial=0)) + 1) + column
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    return order[:-1][same], order[1:][same]


def _model_name(path: Path, number: int, record: ScoreRecord, model_from: ModelFrom) -> str:
    if model_from == "file":
        return path.stem
    folder, _, _ = record.image.replace("\\", "/").lstrip("/").partition("/")
    if folder == record.image:
        raise DataFileError(f"{path}:{number}: {record.pair_id}: image {record.image} lies in no folder named by model")
    return folder


def _check_evaluator(found: ScoredSet, path: Path, record: ScoreRecord) -> None:
    """Set the evaluator, or make sure that it is the same one, under whatever name its folder has."""
    name = f"{record.model}, template {record.template}"
    identity = f"{record.revision or record.model}, template {record.template}"
    found.evaluator, found.identity = found.evaluator or name, found.identity or identity
    if found.identity != identity:
        raise DataFileError(f"{path}: is by {name}, the scores before it by {found.evaluator}; they do not compare")
    if other := other_settings(found.settings, record.settings):
        raise DataFileError(
            f"{path}: its scores were made with other settings than those before ({other}); they do not compare"
        )


def _categories(
    record: ScoreRecord, prompt: str, pair: KnownPair | None, listed: Mapping[str, PromptEntry] | None
) -> tuple[str, ...]:
    if pair:
        return pair.categories
    entry = (listed or {}).get(prompt)
    if listed is not None and entry is None:
        raise DataFileError(f"{record.pair_id}: its prompt is not in the prompt list: {record.prompt[:80]!r}")
    return entry.categories if entry else ()


def _scores(path: Path, number: int, record: ScoreRecord) -> dict[ScoreName, float]:
    if record.t2ia is None or record.iqa is None or record.overall is None:
        raise DataFileError(f"{path}:{number}: {record.pair_id} was scored by half; a leaderboard needs T2IA and IQA")
    return {"t2ia": record.t2ia, "iqa": record.iqa, "overall": record.overall}


def _expected(found: ScoredSet, pairs: Sequence[KnownPair], listed: Mapping[str, PromptEntry] | None) -> dict[str, int]:
    """How many images each model should have: its pairs, the prompt list, or the prompts of its tier's models."""
    if pairs:
        return dict(Counter(pair.generation_model for pair in pairs))
    if listed is not None:
        return dict.fromkeys(found.models, len(listed))
    tier_of = np.array([found.models[name].tier or 0 for name in found.model_of.things])[found.model_of.codes]
    prompts = {tier: len(np.unique(found.prompts.codes[tier_of == tier])) for tier in np.unique(tier_of)}
    return {name: prompts[info.tier or 0] for name, info in found.models.items()}
