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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval.cli.running import run, shared
from dyneval.errors import UserError
from dyneval.flags import Parser, arg
from dyneval.llm.registry import ENGINES
from dyneval.registry import EngineChoice

if TYPE_CHECKING:
    from dyneval.prompts.config import FilterConfig


class ListFilters(argparse.Action):
    """Prints the filters and exits, as --help does: --input and --output need not be given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        from dyneval.prompts.filters import listing

        print(listing())
        parser.exit()


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsOptions:
    """What is read, dropped, kept and written; by the names of `FilterConfig`, `Limits` and `LlmConfig`."""

    inputs: Annotated[
        tuple[str, ...],
        arg(
            "files (.parquet, .txt, .csv, .tsv, .jsonl, .json, .xlsx; text may be packed as .gz or .zst), globs, "
            "folders or Hugging Face dataset ids",
            flag="input",
            nargs="+",
            metavar="SOURCE",
            heading="data",
        ),
    ]
    output: Annotated[Path, arg("folder for the results", metavar="DIR")]
    column: Annotated[str, arg("column or key that holds the prompt")] = "prompt"
    split: Annotated[str, arg("split of a Hugging Face dataset")] = "train"
    jsonl: Annotated[bool, arg("write prompts.jsonl beside prompts.parquet")] = False
    write_dropped: Annotated[bool, arg("write dropped rows with their reason to dropped.jsonl")] = False
    quiet: Annotated[bool, arg("no progress bar")] = False
    # The least length here and the thresholds --tau1 and --tau2 below are the published ones.
    min_chars: Annotated[int, arg("drop shorter prompts, as published", heading="what is dropped")] = 30
    max_chars: Annotated[int, arg("drop longer prompts")] = 4096
    max_prompt_nsfw: Annotated[float, arg("drop rows with a higher prompt_nsfw")] = 0.5
    max_image_nsfw: Annotated[float, arg("drop rows with a higher image_nsfw")] = 0.5
    filters: Annotated[
        tuple[str, ...],
        arg(
            "a filter, or your own as module:function; repeat for several, in the order in which they see a prompt",
            flag="filter",
            metavar="NAME[=VALUE]",
        ),
    ] = ()
    dedup: Annotated[
        float | None,
        arg(
            "drop near-duplicates: word pairs with this Jaccard similarity or more; 0.8 finds 95, 99.1, 99.95 % of the "
            "pairs of similarity 0.8, 0.85, 0.9",
            metavar="J",
            off="keep near-duplicates",
        ),
    ] = 0.8
    exclude: Annotated[
        tuple[str, ...],
        arg("benchmark prompts: drop what is near to them and report it in leakage.jsonl", nargs="+", metavar="SOURCE"),
    ] = ()
    exclude_column: Annotated[
        str | None, arg("column of the exclusion files, where it is not --column", metavar="NAME")
    ] = None
    tiering: Annotated[
        Literal["threshold", "rank"],
        arg("by the thresholds on H, or by thirds of the ranking", heading="tiers and selection"),
    ] = "threshold"
    tau_1: Annotated[float, arg("tier 1 from this H on", flag="tau1")] = 200.0
    tau_2: Annotated[float, arg("tier 2 from this H on", flag="tau2")] = 100.0
    count: Annotated[int | None, arg("select N prompts (default: keep all)", metavar="N")] = None
    balance: Annotated[
        tuple[str, ...],
        arg("spread the selection over these evenly, diversity by MinHash distance", split=True),
    ] = ("category", "tier", "diversity")
    seed: Annotated[int, arg("seed of everything random")] = 42
    labeller: Annotated[Literal["rules", "llm", "none"], arg("who categorises", heading="categories")] = "rules"
    engine: Annotated[EngineChoice, arg("with --labeller llm: who labels", part=ENGINES)] = ENGINES.default
    model: Annotated[str, arg("with --labeller llm")] = "Qwen/Qwen3-VL-4B-Instruct"
    concurrency: Annotated[int, arg("requests at once")] = 64

    def config(self) -> FilterConfig:
        """What the step takes. Raises SettingError where it contradicts itself."""
        from dyneval.prompts.clean import Limits
        from dyneval.prompts.config import FilterConfig, LlmConfig

        limits = Limits(**shared(self, Limits))
        options = ENGINES.filled(self.engine, concurrency=self.concurrency)
        if self.labeller == "llm":
            # An engine that lacks an option is told before hours of filtering.
            ENGINES.options(self.engine.name, **options)
        llm = LlmConfig(engine=self.engine.name, model=self.model, options=options, concurrency=self.concurrency)
        return FilterConfig(**shared(self, FilterConfig), limits=limits, llm=llm, progress=not self.quiet)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    parser.add_argument("--list-filters", action=ListFilters, nargs=0, help="print the filters and exit")
    options = parser.parse_options(PromptsOptions, argv)
    return run(parser, _filter, options)


def _filter(options: PromptsOptions) -> int:
    from dyneval.prompts.pipeline import filter_prompts

    if options.quiet:
        logging.getLogger("dyneval").setLevel(logging.WARNING)
    summary = filter_prompts(options.config())
    print(json.dumps({key: summary[key] for key in ("rows_read", "dropped", "kept", "tiers", "seconds")}, indent=2))
    # Their rows are left out of the outputs, so a run with some of them is not done.
    if unlabelled := summary["dropped"].get("unlabelled", 0):
        raise UserError(f"{unlabelled} prompts got no labels, see labels.rejects.jsonl; run again")
    return 0
