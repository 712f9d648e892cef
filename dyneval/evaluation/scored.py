"""The scored images behind a leaderboard: DynEval's score files joined with what is known of prompts and T2I models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dyneval import model_table
from dyneval.errors import DataFileError
from dyneval.evaluation import published
from dyneval.evaluation.benchmarks.base import RatingError, refuse_duplicates
from dyneval.evaluation.scores import other_settings, read_records
from dyneval.files.pairs import metadata_file
from dyneval.files.tables import cell, rows, text_of, texts_of, whole_of
from dyneval.records import TIERS, ScoreRecord

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


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredImage:
    """The scores (1-5) of one image; `source` and `row` say where the whole record stands."""

    pair_id: str
    model: str
    prompt: str
    categories: tuple[str, ...]
    t2ia: float
    iqa: float
    overall: float
    image: str
    source: Path
    row: int


class KnownPair(NamedTuple):
    """What metadata say of a pair."""

    generation_model: str
    tier: int | None
    categories: tuple[str, ...]


@dataclass(slots=True)
class ScoredSet:
    """All scored images of a board, the T2I models, how many images each should have, and who scored."""

    images: list[ScoredImage] = field(default_factory=list)
    models: dict[str, ModelInfo] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    evaluator: str = ""
    identity: str = ""
    """The evaluator's weights and template, which must be the same in all files."""
    settings: dict[str, object] = field(default_factory=dict)
    """What else the scores depend on, which must be the same as well."""


def read_scored(
    paths: Sequence[Path],
    *,
    metadata: Sequence[Path] = (),
    prompts: Path | None = None,
    models: Path | None = None,
    model_from: ModelFrom = "file",
) -> ScoredSet:
    """Read score files and join them with metadata or a prompt list.

    Args:
        paths: JSONL files of ScoreRecords, all by one evaluator.
        metadata: metadata.jsonl of GenDB, its folder, or a table with `pair_id` and
            `generation_model`; tells T2I model, tier and categories of each pair_id.
        prompts: a prompt list with categories (see `read_prompts`), for scores without metadata.
        models: CSV with `model` and, optionally, `tier` and `year`; the models of the paper are known.
        model_from: where the T2I model's name stands when there is no metadata.

    Raises:
        DataFileError: a file cannot be read, a score has no metadata, or the files are by different evaluators.
        SchemaError: a row is no ScoreRecord.
        RatingError: a model has one pair_id twice.
    """
    pairs = _read_pairs(metadata)
    listed = {entry.prompt: entry for entry in read_prompts(prompts)} if prompts else None
    known = _read_models(models)
    found = ScoredSet()
    seen = Counter[str]()
    tiers: dict[str, int] = {}
    for path in paths:
        for number, record in enumerate(read_records(path), 1):
            _check_evaluator(found, path, record)
            pair = pairs.get(record.pair_id)
            if pairs and pair is None:
                raise DataFileError(f"{path}:{number}: {record.pair_id} is not in {', '.join(map(str, metadata))}")
            model = pair.generation_model if pair else _model_name(path, number, record, model_from)
            seen[f"{record.pair_id} ({model})"] += 1
            if pair and pair.tier is not None:
                tiers.setdefault(model, pair.tier)
            found.images.append(_scored(path, number, record, model, _categories(record, pair, listed)))
    if not found.images:
        raise DataFileError(f"{', '.join(map(str, paths))}: no scores")
    refuse_duplicates(", ".join(str(path) for path in paths), seen)
    names = dict.fromkeys(image.model for image in found.images)
    found.models = {name: _info(name, known, tiers) for name in names}
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
        refuse_duplicates(str(path), Counter(entry.prompt for entry in entries))
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
    return f"{int(number):04d}.png" if number.isdecimal() else None


def _read_pairs(paths: Sequence[Path]) -> dict[str, KnownPair]:
    pairs: dict[str, KnownPair] = {}
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
            if pairs.setdefault(name, pair) != pair:
                raise DataFileError(f"{where}: {name} stands there before with another model, tier or categories")
    return pairs


def _tier(row: Mapping[str, Any], where: str) -> int | None:
    tier = cell(row, "tier", whole_of, where)
    if tier not in (None, *TIERS):
        raise DataFileError(f"{where}: tier: expected 1, 2 or 3, found {tier}")
    return tier


def _read_models(path: Path | None) -> dict[str, ModelInfo]:
    if path is None:
        return {}
    found = {}
    for number, row in enumerate(rows(path), 1):
        where = f"{path}: row {number}"
        name = cell(row, "model", text_of, where)
        if name is None:
            raise DataFileError(f"{where}: expected the columns model, tier, year, found {', '.join(row)}")
        info = ModelInfo(name=name, tier=_tier(row, where), year=cell(row, "year", whole_of, where))
        found[model_table.model_key(info.name)] = info
    return found


def _info(name: str, known: Mapping[str, ModelInfo], tiers: Mapping[str, int]) -> ModelInfo:
    own, paper = known.get(model_table.model_key(name)), published.find_model(name)
    tier = (own and own.tier) or tiers.get(name) or (paper and paper.tier)
    year = (own and own.year) or (paper and paper.year)
    return ModelInfo(name=own.name if own else paper.name if paper else name, tier=tier or None, year=year or None)


def _refuse_one_name(models: Mapping[str, ModelInfo]) -> None:
    """Two spellings of one model would be two rows of a board that nobody can tell apart."""
    first: dict[str, str] = {}
    for found, info in models.items():
        if first.setdefault(info.name, found) != found:
            raise DataFileError(
                f"{first[info.name]} and {found} are both {info.name}; name them alike, or leave one out"
            )


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
    record: ScoreRecord, pair: KnownPair | None, listed: Mapping[str, PromptEntry] | None
) -> tuple[str, ...]:
    if pair:
        return pair.categories
    entry = (listed or {}).get(record.prompt.strip())
    if listed is not None and entry is None:
        raise DataFileError(f"{record.pair_id}: its prompt is not in the prompt list: {record.prompt[:80]!r}")
    return entry.categories if entry else ()


def _scored(path: Path, number: int, record: ScoreRecord, model: str, categories: tuple[str, ...]) -> ScoredImage:
    if record.t2ia is None or record.iqa is None or record.overall is None:
        raise DataFileError(f"{path}:{number}: {record.pair_id} was scored by half; a leaderboard needs T2IA and IQA")
    return ScoredImage(
        pair_id=record.pair_id,
        model=model,
        prompt=record.prompt,
        categories=categories,
        t2ia=record.t2ia,
        iqa=record.iqa,
        overall=record.overall,
        image=record.image,
        source=path,
        row=number,
    )


def _expected(
    found: ScoredSet, pairs: Mapping[str, KnownPair], listed: Mapping[str, PromptEntry] | None
) -> dict[str, int]:
    """How many images each model should have: its pairs, the prompt list, or the prompts of its tier's models."""
    if pairs:
        return dict(Counter(pair.generation_model for pair in pairs.values()))
    if listed is not None:
        return dict.fromkeys(found.models, len(listed))
    prompts: dict[int | None, set[str]] = {}
    for image in found.images:
        prompts.setdefault(found.models[image.model].tier, set()).add(image.prompt)
    return {name: len(prompts[info.tier]) for name, info in found.models.items()}
