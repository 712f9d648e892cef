"""Step 2: read prompts, share them out among models, draw what is not there yet, and say what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from dyneval import records
from dyneval.errors import ClusterError, GenerationError
from dyneval.files.atomic import write_summary
from dyneval.files.parts import Shard
from dyneval.generation import allocation, workers
from dyneval.generation.allocation import Allocation
from dyneval.generation.engine import Result
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, ImageRequest, ModelBroken, ModelSpec, NoImage, RunOptions
from dyneval.generation.prompts import read_prompts
from dyneval.generation.saving import ImageFormat
from dyneval.hashing import fingerprint
from dyneval.records import RunSummary
from dyneval.work import progress
from dyneval.work.executors import Ray

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One run of Step 2.

    Attributes:
        limit: images a model, the first by prompt_id; None is all.
        any_tier: let prompts go to models of other tiers.
        replace: make images anew that were made with other settings.
        retry_refused: ask again for what a model refused for good.
        devices: such as ("cuda:0", "cuda:1"); empty is every visible GPU, or the CPU.
        cluster: draw on Ray, rather than on the devices of this machine.
    """

    prompts: Path
    output: Path
    limit: int | None = None
    any_tier: bool = False
    allocation: Allocation = "share"
    shard: Shard | None = None
    replace: bool = False
    retry_refused: bool = False
    image_format: ImageFormat = "png"
    devices: tuple[str, ...] = ()
    cluster: Ray | None = None
    build: BuildOptions = field(default_factory=BuildOptions)
    run: RunOptions = field(default_factory=RunOptions)


@dataclass(kw_only=True, slots=True)
class ModelSummary:
    """What became of the images planned for one model.

    `missing` is planned less existing, made and refused; `cost_usd` what this run spent, where costs are recorded;
    `devices` are those that drew for `seconds`; `first_reason` is why this run did not make the first image that it did
    not.
    """

    slug: str
    planned: int = 0
    existing: int = 0
    made: int = 0
    refused: int = 0
    missing: int = 0
    seconds: float = 0
    devices: list[str] = field(default_factory=list)
    cost_usd: float = 0
    error: str | None = None
    first_reason: str | None = None


@dataclass(kw_only=True, slots=True)
class GenerationSummary:
    """Counts of a run; `rejected_prompts` are rows of the prompt file that cannot be used."""

    models: list[ModelSummary] = field(default_factory=list)
    rejected_prompts: int = 0

    def total(self, name: str) -> int:
        """Sum of one count over the models."""
        return sum(getattr(model, name) for model in self.models)

    @property
    def exit_status(self) -> int:
        """0: every image is there; 1: some are missing and a rerun may help; 3: only refused ones are missing."""
        if self.total("missing") or self.rejected_prompts:
            return 1
        return 3 if self.total("refused") else 0


def generate(chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], config: Config) -> GenerationSummary:
    """Draw with each of the `chosen` models what is its share among the `roster`; of its tier all, if it is not in it.

    Prompts without a tier are shared out among the chosen models.
    A model that cannot run is reported and counted as missing; the others still draw.

    Raises:
        GenerationError: the prompts cannot be used, none of them is for the chosen models, or the only model does not
            know what is asked of it.
    """
    if len(chosen) == 1:
        chosen[0].check(config.build)
    prompts = read_prompts(config.prompts)
    plans = {spec.slug: frame for spec, frame in _plan(prompts.frame, chosen, roster, config)}
    if all(frame.is_empty() for frame in plans.values()) and config.shard is None:
        raise GenerationError(_nothing(prompts.frame, chosen, config))
    summary = GenerationSummary(rejected_prompts=len(prompts.rejects))
    with GenDB(config.output, _run_name(chosen, config.shard)) as db:
        for reject in prompts.rejects:
            db.pairs.reject(reject)
        for spec in chosen:
            requests = _requests(plans.pop(spec.slug), spec, config.build.base_seed)
            summary.models.append(_run_model(db, spec, requests, config))
    _report(summary, config)
    return summary


def _plan(
    frame: pl.DataFrame, chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], config: Config
) -> Iterator[tuple[ModelSpec, pl.DataFrame]]:
    """For each chosen model the prompts it is to draw, limited, then cut to this shard."""
    hashes = allocation.prompt_hashes(frame["prompt_id"].to_list())
    frame = frame.with_columns(pl.Series("hash", hashes, dtype=pl.UInt64))
    if config.allocation == "share":
        frame = frame.with_columns(_owner(frame, chosen, roster, config.any_tier))
    shared = {spec.slug for spec in roster}
    untiered = pl.col("tier").is_null()
    for spec in chosen:
        mask = pl.lit(True) if config.any_tier else untiered | (pl.col("tier") == spec.tier)
        if config.allocation == "share":
            is_own = pl.col("owner") == spec.slug
            mask &= is_own if spec.slug in shared else is_own | ~untiered
        part = frame.filter(mask).head(len(frame) if config.limit is None else config.limit)
        if config.shard:
            part = part.filter(pl.Series(map(config.shard.holds, part["prompt_id"]), dtype=pl.Boolean))
        yield spec, part


def _owner(frame: pl.DataFrame, chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], any_tier: bool) -> pl.Series:
    """Slug of the model that draws each prompt; empty where no model has the prompt's tier."""
    owner = pl.Series("owner", [""] * len(frame), dtype=pl.String)
    tier = frame["tier"]
    groups = [(tier.is_null(), [spec.slug for spec in chosen])]
    if any_tier:
        groups.append((tier.is_not_null(), [spec.slug for spec in roster]))
    else:
        groups += [((tier == one).fill_null(False), [s.slug for s in roster if s.tier == one]) for one in records.TIERS]
    for here, slugs in groups:
        if slugs and here.any():
            slugs.sort()
            owner = pl.Series(slugs)[allocation.owners(frame["hash"].to_numpy(), slugs)].zip_with(here, owner)
    return owner.alias("owner")


def _requests(frame: pl.DataFrame, spec: ModelSpec, base_seed: int) -> list[ImageRequest]:
    return [
        ImageRequest(
            pair_id=records.pair_id(row["prompt_id"], spec.slug),
            prompt_id=row["prompt_id"],
            prompt=row["prompt"],
            seed=allocation.image_seed(row["prompt_id"], spec.slug, base_seed),
            tier=row["tier"] or spec.tier,
            categories=tuple(dict.fromkeys(category for category in row["categories"] if category)),
        )
        for row in frame.iter_rows(named=True)
    ]


def _nothing(frame: pl.DataFrame, chosen: Sequence[ModelSpec], config: Config) -> str:
    counts = ", ".join(f"{count} of tier {tier}" for tier, count in sorted(frame["tier"].value_counts().iter_rows()))
    models = ", ".join(f"{spec.slug} (tier {spec.tier})" for spec in chosen)
    if config.any_tier or not {spec.tier for spec in chosen}.isdisjoint(frame["tier"]):
        of_tier = "" if config.any_tier else " of its tier"
        advice = f"Each goes to one model{of_tier}, here to others: --allocation all sends it to every one."
    else:
        advice = "--any-tier lets them go to models of other tiers; with --allocation all, too, these draw all of them."
    return f"{config.prompts}: no prompt is for {models}; the file has {counts}. {advice}"


def _run_model(db: GenDB, spec: ModelSpec, requests: list[ImageRequest], config: Config) -> ModelSummary:
    summary = ModelSummary(slug=spec.slug, planned=len(requests))
    try:
        _draw_missing(db, spec, requests, config, summary)
    except (GenerationError, ClusterError, ModelBroken) as error:
        log.error("%s", _named(spec.slug, str(error)))
        summary.error = str(error)
    summary.missing = summary.planned - summary.existing - summary.made - summary.refused
    return summary


def _draw_missing(
    db: GenDB, spec: ModelSpec, requests: list[ImageRequest], config: Config, summary: ModelSummary
) -> None:
    spec.check(config.build)
    settings, build = _as_before(db, spec, config.build)
    existing = db.sort(requests, settings, replace=config.replace, retry_refused=config.retry_refused)
    summary.existing, summary.refused = existing.done, len(existing.refused)
    if not existing.pending:
        return
    mark = fingerprint(settings)
    task = workers.DeviceTask(
        spec=spec,
        root=config.output.resolve(),  # other machines have another current folder
        build=build,
        run=config.run,
        settings=settings,
        image_format=config.image_format,
        recorded=db.settings.get(mark, {}),
    )
    executor = workers.choose_executor(task, len(existing.pending), config.devices, config.cluster)
    summary.devices = list(executor.devices)
    start = time.perf_counter()
    try:
        with (
            progress.bar(spec.slug, len(existing.pending), "img") as bar,
            closing(workers.draw(task, existing.pending, executor)) as results,
        ):
            for result in results:
                _record(db, mark, summary, result)
                bar.update()
    finally:
        summary.seconds = round(time.perf_counter() - start, 3)


def _as_before(db: GenDB, spec: ModelSpec, build: BuildOptions) -> tuple[Mapping[str, Any], BuildOptions]:
    """Settings of a run, and what is built: the weights that images of the folder were made from, even if a repo moved.

    A --revision that names the commit which is recorded is no other setting than the one by which it was found then.
    """
    settings = spec.settings(build)
    for mark, recorded in db.settings.items():
        if build.revision and recorded.get("revision") == build.revision:
            as_then = spec.settings(replace(build, revision=recorded.get("requested_revision")))
            settings = as_then if fingerprint(as_then) == mark else settings
    recorded = db.settings.get(fingerprint(settings), {})
    weights = recorded.get("weights")
    commits = {spec.repo(build): recorded.get("revision"), **(weights if isinstance(weights, dict) else {})}
    pins = {repo: commit for repo, commit in commits.items() if commit and commit != "local"}
    return settings, replace(build, pins=pins)


def _record(db: GenDB, mark: str, summary: ModelSummary, result: Result) -> None:
    if isinstance(result, NoImage):
        db.refuse(result, mark)
        summary.refused += result.permanent
        summary.first_reason = summary.first_reason or result.reason
        details = result.details
    else:
        db.add(result)
        summary.made += 1
        details = result.settings.get("details", {})
    summary.cost_usd = round(summary.cost_usd + details.get("cost_usd", 0), 6)


def _run_name(chosen: Sequence[ModelSpec], shard: Shard | None) -> str:
    """Name of a run: the same models and shard again are the same run, and do not run twice at once."""
    slugs = sorted(spec.slug for spec in chosen)
    models = slugs[0] if len(slugs) == 1 else f"{len(slugs)}-models-{fingerprint({'slugs': slugs})}"
    return models + (f".{shard.index}-of-{shard.count}" if shard else "")


def _named(slug: str, error: str) -> str:
    return error if error.startswith(slug) else f"{slug}: {error}"


def _report(summary: GenerationSummary, config: Config) -> None:
    for model in summary.models:
        log.info(
            "%-22s planned %d, there %d, made %d, refused %d, missing %d (%.1f s)",
            *(model.slug, model.planned, model.existing, model.made, model.refused, model.missing, model.seconds),
        )
    if summary.exit_status:
        log.warning(
            "%d images are missing, %d refused, %d prompts unusable",
            *(summary.total("missing"), summary.total("refused"), summary.rejected_prompts),
        )
        for model in summary.models:
            if model.error:
                log.warning("%s", _named(model.slug, model.error))
            elif model.first_reason:
                log.warning("%s, the first: %s", model.slug, model.first_reason)
        if summary.rejected_prompts or any(model.first_reason or model.refused for model in summary.models):
            files = [config.output / name for name in ("metadata.rejects.jsonl", "refused.jsonl")]
            log.warning("reasons, one by one: %s", ", ".join(str(path) for path in files if path.exists()))
    totals = {name: summary.total(name) for name in ("planned", "existing", "made", "refused", "missing", "cost_usd")}
    models = [asdict(model) for model in summary.models]
    report = {**totals, "rejected_prompts": summary.rejected_prompts, "models": models}
    run = RunSummary(
        made=summary.total("made"),
        there_before=summary.total("existing"),
        rejected=summary.total("missing") + summary.total("refused") + summary.rejected_prompts,
        seconds=round(summary.total("seconds"), 3),
        devices=tuple(device for model in summary.models for device in model.devices),
    )
    write_summary(config.output / "summary.json", run, report)
