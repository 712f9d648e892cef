"""Step 1: filter, deduplicate, score, tier and categorise prompts, and select a diverse part of them.

    dyneval prompts --input metadata-large.parquet --output prompts/
    dyneval prompts --input 'data/*.txt' --output prompts/ --exclude bench.txt --count 500000

Writes prompts.parquet, tier-{1,2,3}-prompts.txt, clusters.parquet, summary.json and report.html into the output folder.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.cli.running import run
from dyneval.errors import UserError
from dyneval.flags import Parser

if TYPE_CHECKING:
    from dyneval.prompts.config import FilterConfig


class ListFilters(argparse.Action):
    """Prints the filters and exits, whatever else stands on the command line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from dyneval.prompts.filters import listing

        print(listing())
        parser.exit()


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument_group("data").add_argument
    add(
        "--input",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="files (.parquet, .txt, .csv, .tsv, .jsonl, .json, .xlsx; text may be packed as .gz or .zst), globs, "
        "folders or Hugging Face dataset ids",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--column", default="prompt", help="column or key that holds the prompt (default: %(default)s)")
    add("--split", default="train", help="split of a Hugging Face dataset (default: %(default)s)")
    add("--jsonl", action="store_true", help="write prompts.jsonl beside prompts.parquet")
    add("--write-dropped", action="store_true", help="write dropped rows with their reason to dropped.jsonl")
    add("--quiet", action="store_true", help="no progress bar")
    add = parser.add_argument_group("what is dropped").add_argument
    add("--min-chars", type=int, default=30, help="drop shorter prompts (default: %(default)s, as published)")
    add("--max-chars", type=int, default=4096, help="drop longer prompts (default: %(default)s)")
    add("--max-prompt-nsfw", type=float, default=0.5, help="drop rows with a higher prompt_nsfw (default: %(default)s)")
    add("--max-image-nsfw", type=float, default=0.5, help="drop rows with a higher image_nsfw (default: %(default)s)")
    add(
        "--filter",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a filter, or your own as module:function; repeat for several, in the order in which they see a prompt",
    )
    add("--list-filters", action=ListFilters, nargs=0, help="print the filters and exit")
    add(
        "--dedup",
        type=float,
        default=0.8,
        metavar="J",
        help="drop near-duplicates: word pairs with this Jaccard similarity or more (default: %(default)s, which finds "
        "95, 99.1, 99.95 %% of the pairs of similarity 0.8, 0.85, 0.9)",
    )
    add("--no-dedup", action="store_const", const=None, dest="dedup", help="keep near-duplicates")
    add(
        "--exclude",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="benchmark prompts: drop what is near to them and report it in leakage.jsonl",
    )
    add("--exclude-column", metavar="NAME", help="column of the exclusion files, where it is not --column")
    add = parser.add_argument_group("tiers and selection").add_argument
    add(
        "--tiering",
        choices=("threshold", "rank"),
        default="threshold",
        help="by the thresholds on H, or by thirds of the ranking (default: %(default)s)",
    )
    add("--tau1", type=float, default=200.0, help="tier 1 from this H on (default: %(default)s)")
    add("--tau2", type=float, default=100.0, help="tier 2 from this H on (default: %(default)s)")
    add("--count", type=int, metavar="N", help="select N prompts (default: keep all)")
    add(
        "--balance",
        default="category,tier,diversity",
        help="spread the selection over these evenly, diversity by MinHash distance (default: %(default)s)",
    )
    add("--seed", type=int, default=42, help="seed of everything random (default: %(default)s)")
    add = parser.add_argument_group("categories").add_argument
    add("--labeller", choices=("rules", "llm", "none"), default="rules", help="default: %(default)s")
    add("--engine", default="openai", help="with --labeller llm: openai, vllm or transformers (default: %(default)s)")
    add("--model", default="Qwen/Qwen3-VL-4B-Instruct", help="with --labeller llm (default: %(default)s)")
    add("--base-url", action="append", default=[], help="server of the engine openai; repeat for several")
    add("--api-key-env", metavar="NAME", help="environment variable that holds the API key")
    add("--concurrency", type=int, default=64, help="requests at once (default: %(default)s)")
    return parser


def to_config(args: argparse.Namespace) -> FilterConfig:
    """Turn the command line into a configuration. Raises SettingError when it contradicts itself."""
    from dyneval.prompts.clean import Limits
    from dyneval.prompts.config import FilterConfig, LlmConfig

    return FilterConfig(
        inputs=tuple(args.input),
        output=args.output,
        column=args.column,
        split=args.split,
        limits=Limits(
            min_chars=args.min_chars,
            max_chars=args.max_chars,
            max_prompt_nsfw=args.max_prompt_nsfw,
            max_image_nsfw=args.max_image_nsfw,
        ),
        filters=tuple(args.filter),
        dedup=args.dedup,
        exclude=tuple(args.exclude),
        exclude_column=args.exclude_column,
        labeller=args.labeller,
        llm=LlmConfig(
            engine=args.engine,
            model=args.model,
            base_urls=tuple(args.base_url),
            api_key_env=args.api_key_env,
            concurrency=args.concurrency,
        ),
        tiering=args.tiering,
        tau_1=args.tau1,
        tau_2=args.tau2,
        count=args.count,
        balance=tuple(name for name in args.balance.split(",") if name),
        seed=args.seed,
        jsonl=args.jsonl,
        write_dropped=args.write_dropped,
        progress=not args.quiet,
    )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    args = parser.parse_args(argv)
    return run(parser, lambda: _filter(args))


def _filter(args: argparse.Namespace) -> int:
    from dyneval.prompts.pipeline import filter_prompts

    if args.quiet:
        logging.getLogger("dyneval").setLevel(logging.WARNING)
    summary = filter_prompts(to_config(args))
    print(json.dumps({key: summary[key] for key in ("rows_read", "dropped", "kept", "tiers", "seconds")}, indent=2))
    if unlabelled := summary["dropped"].get("unlabelled", 0):
        raise UserError(f"{unlabelled} prompts got no labels, see labels.rejects.jsonl; run again")
    return 0
