"""Step 2: draw images with text-to-image models; the script of every model is `run_model`.

dyneval generate --list                  # what there is, and what this machine lacks to run it
dyneval generate --model sdxl --prompts prompts/prompts.parquet --output gendb/
dyneval generate --all --family demo --prompts prompts.txt --output gendb/     # needs no GPU
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from dyneval.cli.running import local, run, shared
from dyneval.errors import SettingError, UserError
from dyneval.files.parts import Shard
from dyneval.flags import Parser, arg
from dyneval.generation import catalogue
from dyneval.generation.model import BuildOptions, ModelSpec, RunOptions
from dyneval.work import processes
from dyneval.work.executors import ClusterOptions, Ray

log = logging.getLogger(__name__)
# Shown by --help of the verb and of every model's script, where people look for what a status means.
EPILOG = """\
exit status: 0 every image is there; 1 images are missing, a rerun may make them; 2 the run could not start;
3 nothing is missing but what the models refuse to make (output/refused.jsonl)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """What one or several models draw, and how."""

    models: Annotated[Path | None, arg("TOML file that adds models, or changes those that are known")] = None
    prompts: Annotated[Path | None, arg("prompts.parquet of Step 1, a .jsonl, or a .txt, one a line")] = None
    output: Annotated[Path | None, arg("GenDB folder; what is there already is kept")] = None
    limit: Annotated[int | None, arg("at most N images a model, the first by prompt_id", metavar="N", ge=1)] = None
    any_tier: Annotated[bool, arg("let prompts go to models of other tiers too")] = False
    allocation: Annotated[
        Literal["share", "all"],
        arg("share: each prompt to one model of its tier; all: to every one, as a benchmark needs"),
    ] = "share"
    roster: Annotated[
        Literal["paper", "all"], arg("models that share the prompts out: the paper's 36, or all that are known")
    ] = "paper"
    contact_sheet: Annotated[bool, arg("then draw OUTPUT/contact_sheet.png to look at")] = False
    shard: Annotated[
        Shard | None,
        arg("do part I (from 1) of N, split by prompt, for instance one a machine", metavar="I/N", parse=Shard.parse),
    ] = None
    build: Annotated[
        BuildOptions, arg("", heading="what is drawn (recorded, and compared before an image is kept)")
    ] = field(default_factory=BuildOptions)
    replace: Annotated[bool, arg("make images anew that were made with other settings")] = False
    retry_refused: Annotated[bool, arg("ask again for what a model refused for good")] = False
    devices: Annotated[
        tuple[str, ...], arg("cuda:0,cuda:1 (default: all visible)", heading="how it is drawn", split=True)
    ] = ()
    run: Annotated[RunOptions, arg("")] = field(default_factory=RunOptions)
    image_format: Annotated[Literal["png", "webp"], arg("both are lossless", flag="format")] = "png"
    ray: Annotated[ClusterOptions, arg("")] = field(default_factory=lambda: ClusterOptions(gpus=1, batch=16))

    # Not fields without a default: --list and --setup go without them.
    def __post_init__(self) -> None:
        if missing := [f"--{name}" for name in ("prompts", "output") if getattr(self, name) is None]:
            raise SettingError(f"the following arguments are required: {', '.join(missing)}")
        if self.ray.ray and self.devices:
            raise SettingError("--devices are those of this machine; with --ray there are --ray-actors and --ray-gpus")

    @property
    def cluster(self) -> Ray | None:
        """The cluster, if there is one."""
        return self.ray.ray


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateOptions(ModelOptions):
    """Which models draw."""

    list: Annotated[
        bool,
        arg("list the models and what this machine lacks to run them, and exit", heading=""),
    ] = False
    setup: Annotated[str | None, arg("make the environment of an external model, and exit", metavar="SLUG")] = None
    model: Annotated[tuple[str, ...], arg("a model; may be repeated", metavar="SLUG", either=True)] = ()
    tier: Annotated[Literal[1, 2, 3] | None, arg("all models of a tier", either=True)] = None
    all: Annotated[bool, arg("all models", either=True)] = False
    family: Annotated[
        str | None, arg("of these, only one family: diffusers, transformers, hosted, external or demo")
    ] = None

    def __post_init__(self) -> None:
        if self.list or self.setup:
            return
        ModelOptions.__post_init__(self)
        if not (self.model or self.tier or self.all):
            raise SettingError("one of the arguments --model --tier --all is required")


def run_model(slug: str, argv: Sequence[str] | None = None) -> int:
    """Command line of one model's script: `raise SystemExit(run_model("sdxl"))`; returns the exit status."""
    from dyneval.generation.listing import describe_presets

    parser = Parser()
    # The help text names the presets of the model, which a table of one's own may change.
    models = parser.early("--models", argv)
    try:
        specs = catalogue.load(local(Path(models) if models else None))
        (spec,) = catalogue.choose(specs, slugs=[slug])
    except UserError as error:
        parser.error(str(error))
    parser.description = f"{spec.name}: draw its share of the prompts of tier {spec.tier}. It is {spec.about}."
    parser.epilog = f"{describe_presets(spec)}\n\n{EPILOG}"
    options = parser.parse_options(ModelOptions, argv)
    processes.interrupt_on_sigterm()
    return run(parser, partial(_generate, specs=specs, chosen=[spec]), options, status=2)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Command line of `dyneval generate` and of generate.py; returns the exit status."""
    parser = Parser(prog, __doc__, epilog=EPILOG)
    options = parser.parse_options(GenerateOptions, argv)
    try:
        specs = catalogue.load(local(options.models))
        slugs = [options.setup] if options.setup else options.model
        # --list shows all models, whatever else is said. Models that are named win over --tier and --family.
        which = {"tier": options.tier, "family": options.family, "roster": options.roster}
        chosen = [] if options.list else catalogue.choose(specs, slugs=slugs, **which)  # type: ignore[arg-type]
    except UserError as error:
        parser.error(str(error))
    if options.list:
        from dyneval.generation.listing import list_models

        sys.stdout.write(list_models(specs, options.run) + "\n")
        return 0
    processes.interrupt_on_sigterm()
    return run(parser, partial(_generate, specs=specs, chosen=chosen), options, status=2)


def _generate(options: ModelOptions, specs: catalogue.Specs, chosen: list[ModelSpec]) -> int:
    from dyneval.generation.runner import Config, generate

    if isinstance(options, GenerateOptions) and options.setup:
        from dyneval.generation.setup import set_up

        set_up(chosen[0], options.run.external_env)
        return 0
    config = Config(**shared(options, Config))
    status = generate(chosen, catalogue.sharing(specs, chosen, options.roster), config).exit_status
    if options.contact_sheet:
        from dyneval.generation.contact_sheet import draw_contact_sheet

        try:
            draw_contact_sheet(config.output, config.output / "contact_sheet.png")
        except UserError as error:
            # No image was drawn. The status of the run tells what became of them; a second error would hide it.
            log.warning("no contact sheet: %s", error)
    return status
