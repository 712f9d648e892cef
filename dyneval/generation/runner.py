"""Step 2 from end to end: read prompts, share them out among models, draw what is missing, say what could not be made.

`generate` is called by `dyneval generate` and by every script of `image_gen_scripts/`. One model that cannot run never
stops the others, and what was drawn is recorded at once, so the same command goes on after any stop.
"""

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
        prompts: file of prompts, see `dyneval.generation.prompts`.
        output: folder of the GenDB.
        limit: images a model, the first by prompt_id; None is all.
        any_tier: let prompts go to models of other tiers.
        allocation: a prompt goes to one model, or to all.
        shard: draw only this part of the prompts, the same ones as in the other steps.
        replace: make images anew that were made with other settings.
        retry_refused: ask again for what a model refused for good.
        devices: such as ("cuda:0", "cuda:1"); empty is every visible GPU, or the CPU.
        cluster: draw on Ray, rather than on the devices of this machine.
        build: what images look like.
        run: where and how fast they are made.
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
    """What became of the images planned for one model; written to summary.json.

    Attributes:
        planned: images that are its share.
        existing: those that were there before.
        refused: those that the model will not make, by this run or an earlier one.
        missing: planned less existing, made and refused.
        seconds: time that `devices` drew.
        cost_usd: what this run spent in US dollars, where costs are recorded.
        error: why the model drew no more.
        first_reason: why the first image that this run could not make was not made.
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
        """Return the sum of one count of ModelSummary over the models."""
        return sum(getattr(model, name) for model in self.models)

    @property
    def exit_status(self) -> int:
        """0: every image is there; 1: some are missing and a rerun may help; 3: only refused ones are missing."""
        if self.total("missing") or self.rejected_prompts:
            return 1
        return 3 if self.total("refused") else 0


def generate(chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], config: Config) -> GenerationSummary:
    """Draw with each chosen model the prompts that are its share.

    A model that cannot run is reported and its images count as missing; the others still draw. Every image that is
    made, and every one that is not, is recorded in the folder when it is known.

    Args:
        chosen: models to draw with.
        roster: models among which the prompts of a tier are shared out, whether they run now or not. A chosen model
            that is not in it draws all prompts of its tier. Prompts without a tier are shared among the chosen models.
        config: everything else.

    Returns:
        Counts, as they are written to `config.output`/summary.json.

    Raises:
        GenerationError: the prompts cannot be used, none of them is for the chosen models, or the only model does not
            know what is asked of it.
    """
    # With one model, a wrong setting ends the run before prompts are read. With several, the others still draw.
    if len(chosen) == 1:
        chosen[0].check(config.build)
    prompts = read_prompts(config.prompts)
    plans = dict(_plan(prompts.frame, chosen, roster, config))
    if all(frame.is_empty() for frame in plans.values()) and config.shard is None:
        raise GenerationError(_nothing(prompts.frame, chosen, config))
    summary = GenerationSummary(rejected_prompts=len(prompts.rejects))
    # The same models and shard again are the same run: it cannot run twice at once, and it replaces its old rejects.
    slugs = sorted(spec.slug for spec in chosen)
    run = slugs[0] if len(slugs) == 1 else f"{len(slugs)}-models-{fingerprint({'slugs': slugs})}"
    run += f".{config.shard.index}-of-{config.shard.count}" if config.shard else ""
    with GenDB(config.output, run) as db:
        for reject in prompts.rejects:
            db.pairs.reject(reject)
        for spec in chosen:
            # Popped: 500,000 prompts as requests take 183 MiB, and a plan is needed once.
            requests = [
                ImageRequest(
                    pair_id=records.pair_id(row["prompt_id"], spec.slug),
                    prompt_id=row["prompt_id"],
                    prompt=row["prompt"],
                    seed=allocation.image_seed(row["prompt_id"], spec.slug, config.build.base_seed),
                    tier=row["tier"] or spec.tier,
                    categories=tuple(dict.fromkeys(category for category in row["categories"] if category)),
                )
                for row in plans.pop(spec.slug).iter_rows(named=True)
            ]
            counts = ModelSummary(slug=spec.slug, planned=len(requests))
            # What is wrong with one model costs its own images only; a full disk ends the whole run.
            try:
                _draw_missing(db, spec, requests, config, counts)
            except (GenerationError, ClusterError, ModelBroken) as error:
                log.error("%s", _named(spec.slug, str(error)))
                counts.error = str(error)
            counts.missing = counts.planned - counts.existing - counts.made - counts.refused
            summary.models.append(counts)
    _report(summary, config)
    return summary


def _plan(
    frame: pl.DataFrame, chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], config: Config
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the slug of each chosen model, and the prompts it is to draw.

    The limit comes before the shard: all shards together then draw the same images as a run that is not split.
    """
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
        yield spec.slug, part


def _owner(frame: pl.DataFrame, chosen: Sequence[ModelSpec], roster: Sequence[ModelSpec], any_tier: bool) -> pl.Series:
    """Return the slug of the model that draws each prompt; empty where no model has the prompt's tier."""
    owner = pl.Series("owner", [""] * len(frame), dtype=pl.String)
    tier = frame["tier"]
    groups = [(tier.is_null(), [spec.slug for spec in chosen])]
    if any_tier:
        groups.append((tier.is_not_null(), [spec.slug for spec in roster]))
    else:
        groups += [((tier == one).fill_null(False), [s.slug for s in roster if s.tier == one]) for one in records.TIERS]
    for here, slugs in groups:
        if slugs and here.any():
            slugs.sort()  # the order of the models on the command line must not show in the result
            owner = pl.Series(slugs)[allocation.owners(frame["hash"].to_numpy(), slugs)].zip_with(here, owner)
    return owner.alias("owner")


def _nothing(frame: pl.DataFrame, chosen: Sequence[ModelSpec], config: Config) -> str:
    """Return the message that no prompt is for the chosen models, with the flag that would change it."""
    counts = ", ".join(f"{count} of tier {tier}" for tier, count in sorted(frame["tier"].value_counts().iter_rows()))
    models = ", ".join(f"{spec.slug} (tier {spec.tier})" for spec in chosen)
    if config.any_tier or not {spec.tier for spec in chosen}.isdisjoint(frame["tier"]):
        of_tier = "" if config.any_tier else " of its tier"
        advice = f"Each goes to one model{of_tier}, here to others: --allocation all sends it to every one."
    else:
        advice = "--any-tier lets them go to models of other tiers; with --allocation all, too, these draw all of them."
    return f"{config.prompts}: no prompt is for {models}; the file has {counts}. {advice}"


def _draw_missing(
    db: GenDB, spec: ModelSpec, requests: list[ImageRequest], config: Config, summary: ModelSummary
) -> None:
    """Draw with one model what the folder lacks; `summary` is counted on the way, so that an error leaves it right."""
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
    # In a `finally`, so that a run that was interrupted tells how long it drew, too.
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
    """Return the settings of a run, and the options to build with.

    The options pin the weights that images of this folder were made from, even if their branch has moved since.
    """
    settings = spec.settings(build)
    # A --revision that names the commit which is recorded asks for the same weights as the branch did then. Without
    # this the advice "draw with what it was" could not be followed: the revision is itself a setting.
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
    """Write one result to the folder and count it; a failed request of a hosted model may have cost money, too."""
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


def _named(slug: str, error: str) -> str:
    return error if error.startswith(slug) else f"{slug}: {error}"


def _report(summary: GenerationSummary, config: Config) -> None:
    """Log what was made and why the rest was not, and write summary.json."""
    for model in summary.models:
        log.info(
            "%-22s planned %d, there %d, made %d, refused %d, missing %d (%.1f s)",
            *(model.slug, model.planned, model.existing, model.made, model.refused, model.missing, model.seconds),
        )
    # What went wrong comes last, where it is still on the screen after a run of hours.
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
