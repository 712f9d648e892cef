"""Step 2: draw images with text-to-image models; the script of every model is `run_model`.

dyneval generate --list                  # what there is, and what this machine lacks to run it
dyneval generate --model sdxl --prompts prompts/prompts.parquet --output gendb/
dyneval generate --all --family demo --prompts prompts.txt --output gendb/     # needs no GPU
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyneval.cli.running import run
from dyneval.errors import SettingError, UserError
from dyneval.files.parts import Shard
from dyneval.flags import Parser, positive
from dyneval.generation import catalogue
from dyneval.generation.model import ENVIRONMENTS, PRESET_NAMES, BuildOptions, ModelSpec, RunOptions
from dyneval.work import processes
from dyneval.work.executors import add_cluster, cluster_of

log = logging.getLogger(__name__)
EPILOG = """\
exit status: 0 every image is there; 1 images are missing, a rerun may make them; 2 the run could not start;
3 nothing is missing but what the models refuse to make (output/refused.jsonl)
"""


def run_model(slug: str, argv: Sequence[str] | None = None) -> int:
    """Command line of one model's script: `raise SystemExit(run_model("sdxl"))`; returns the exit status."""
    from dyneval.generation.listing import describe_presets

    early = _early_parser()
    given = early.parse_known_args(_parser(early, "").with_config(argv))[0]
    try:
        specs = catalogue.load(given.models)
        (spec,) = catalogue.choose(specs, slugs=[slug])
    except UserError as error:
        early.exit(2, f"{early.prog}: error: {error}\n")
    purpose = f"{spec.name}: draw its share of the prompts of tier {spec.tier}. It is {spec.about}."
    parser = _parser(early, purpose, describe_presets(spec))
    return _run(parser, parser.parse_args(argv), specs, [spec])


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Command line of `dyneval generate` and of generate.py; returns the exit status."""
    early = _early_parser()
    add = early.add_argument
    add("--list", action="store_true", help="list the models and what this machine lacks to run them, and exit")
    add("--setup", metavar="SLUG", help="make the environment of an external model, and exit")
    parser = _parser(early, __doc__ or "", prog=prog)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", action="append", default=[], metavar="SLUG", help="a model; may be repeated")
    which.add_argument("--tier", type=int, choices=(1, 2, 3), help="all models of a tier")
    which.add_argument("--all", action="store_true", help="all models")
    parser.add_argument("--family", help="of these, only one family: diffusers, transformers, hosted, external or demo")
    given = early.parse_known_args(parser.with_config(argv))[0]
    try:
        if given.list:
            from dyneval.generation.listing import list_models

            specs = catalogue.load(given.models)
            sys.stdout.write(list_models(specs, RunOptions(external_env=given.external_env)) + "\n")
            return 0
        if given.setup:
            from dyneval.generation.setup import set_up

            logging.basicConfig(level=logging.INFO, format="%(message)s")
            (spec,) = catalogue.choose(catalogue.load(given.models), slugs=[given.setup])
            set_up(spec, given.external_env)
            return 0
        args = parser.parse_args(argv)  # before the models, whose modules are heavy: --help ends here
        specs = catalogue.load(given.models)
        chosen = catalogue.choose(specs, slugs=args.model, tier=args.tier, family=args.family, roster=args.roster)
    except UserError as error:
        parser.error(str(error))
    return _run(parser, args, specs, chosen)


def _early_parser() -> argparse.ArgumentParser:
    """Flags that are read before the others, since those depend on them."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = early.add_argument
    add("--models", type=Path, help="TOML file that adds models, or changes those that are known")
    add(
        *("--external-env",),
        type=Path,
        default=ENVIRONMENTS,
        help="environment of an external model, or folder with one for each slug (default: %(default)s)",
    )
    return early


def _parser(early: argparse.ArgumentParser, description: str, details: str = "", prog: str | None = None) -> Parser:
    parser = Parser(prog, description, parents=[early], epilog=f"{details}\n\n{EPILOG}".lstrip())
    add = parser.add_argument
    add("--prompts", type=Path, required=True, help="prompts.parquet of Step 1, a .jsonl, or a .txt, one a line")
    add("--output", type=Path, required=True, help="GenDB folder; what is there already is kept")
    add("--limit", type=positive, metavar="N", help="at most N images a model, the first by prompt_id")
    add("--any-tier", action="store_true", help="let prompts go to models of other tiers too")
    add(
        *("--allocation",),
        choices=("share", "all"),
        default="share",
        help="share: each prompt to one model of its tier (default); all: to every one, as a benchmark needs",
    )
    add(
        *("--roster",),
        choices=("paper", "all"),
        default="paper",
        help="models that share the prompts out: the paper's 36 (default), or all that are known",
    )
    add(
        "--contact-sheet",
        action="store_true",
        help="then draw OUTPUT/contact_sheet.png to look at",
    )
    add("--shard", metavar="I/N", help="do part I (from 1) of N, split by prompt, for instance one a machine")
    _add_model_options(parser)
    _add_machine_options(parser)
    add_cluster(parser, "images", gpus=1, batch=16)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is drawn (recorded, and compared before an image is kept)").add_argument
    add("--preset", choices=PRESET_NAMES, help="authors' recommendation or the published scripts' settings")
    add("--variant", help="which of the model's checkpoints")
    add("--repo", help="other weights: a repo id or a folder")
    add("--revision", help="commit, tag or branch of the weights")
    add("--part", type=_part, action="append", default=[], metavar="NAME=REPO", help="other weights for a part of it")
    add("--base-seed", type=int, default=0, help="changes the seed of every image (default 0)")
    add("--set", type=_override, action="append", default=[], metavar="NAME=VALUE", help="replace a call argument")
    add("--replace", action="store_true", help="make images anew that were made with other settings")
    add("--retry-refused", action="store_true", help="ask again for what a model refused for good")


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it is drawn").add_argument
    add("--devices", type=lambda text: tuple(text.split(",")), default=(), help="cuda:0,cuda:1 (default: all visible)")
    add("--batch-size", type=positive, help="prompts a call (default: the model's own); halved when memory runs out")
    placements = ("auto", "resident", "model_offload", "sequential_offload")
    add("--placement", choices=placements, default="auto", help="where weights lie; auto measures what fits")
    add("--concurrency", type=positive, default=8, help="requests in flight to a hosted API (default 8)")
    add("--base-url", help="another server that speaks the hosted API")
    add("--prices", type=_prices, metavar="IN/OUT", help="US dollars a million tokens; records what each image cost")
    add("--format", dest="image_format", choices=("png", "webp"), default="png", help="both are lossless")


def _run(parser: Parser, args: argparse.Namespace, specs: catalogue.Specs, chosen: list[ModelSpec]) -> int:
    processes.interrupt_on_sigterm()
    return run(parser, lambda: _generate(args, specs, chosen), status=2)


def _generate(args: argparse.Namespace, specs: catalogue.Specs, chosen: list[ModelSpec]) -> int:
    from dyneval.generation.runner import Config, generate

    args.shard = Shard.parse(args.shard) if args.shard else None
    args.cluster = cluster_of(args)
    if args.cluster and args.devices:
        raise SettingError("--devices are those of this machine; with --ray there are --ray-actors and --ray-gpus")
    options = {name: getattr(args, name) for name in Config.__dataclass_fields__ if hasattr(args, name)}
    config = Config(**options, build=_build_options(args), run=_run_options(args))
    status = generate(chosen, catalogue.sharing(specs, chosen, args.roster), config).exit_status
    if args.contact_sheet:
        _draw_contact_sheet(config.output)
    return status


def _draw_contact_sheet(output: Path) -> None:
    from dyneval.generation.contact_sheet import draw_contact_sheet

    try:
        draw_contact_sheet(output, output / "contact_sheet.png")
    except UserError as error:  # no image: what became of the run is its status
        log.warning("no contact sheet: %s", error)


def _build_options(args: argparse.Namespace) -> BuildOptions:
    return BuildOptions(
        preset=args.preset,
        variant=args.variant,
        repo=args.repo,
        revision=args.revision,
        base_seed=args.base_seed,
        parts=dict(args.part),
        overrides=dict(args.set),
    )


def _run_options(args: argparse.Namespace) -> RunOptions:
    return RunOptions(
        batch_size=args.batch_size,
        placement=args.placement,
        concurrency=args.concurrency,
        base_url=args.base_url,
        prices=args.prices,
        external_env=args.external_env,
    )


def _prices(text: str) -> tuple[float, float]:
    try:
        given, taken = (float(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not IN/OUT, such as 5/40") from None
    return given, taken


def _part(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.replace(".", "_").isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    return name, value


def _override(text: str) -> tuple[str, Any]:
    name, value = _part(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
