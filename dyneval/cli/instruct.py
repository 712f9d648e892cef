"""Build DynEvalInstruct from the teacher's annotations: one training file a stage, and the held-out pairs.

    dyneval instruct --metadata gendb/metadata.jsonl --annotations annotations --output instruct

Writes dynevalinstruct_t2ia.json (Stage 1: T2IA and EVALUATION), dynevalinstruct_iqa.json (Stage 2: IQA and
EVALUATION), heldout.jsonl (pairs whose prompts are in neither), their samples (dynevalinstruct_*_heldout.json),
rejects.jsonl, summary.json, README.md (the dataset card) and report.html.

Each of a pair's four annotations stands on its own: one that is missing or bad is a line of rejects.jsonl, and the
others give their samples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval.cli.running import run, shared
from dyneval.cli.tables import AnnotationFolder
from dyneval.errors import SettingError
from dyneval.files.hub import HubOptions
from dyneval.flags import Parser, arg
from dyneval.instruct.curation import PUBLISHED_DELTA, Curation
from dyneval.records import TIERS
from dyneval.replies import DEFAULT_FORM, ReplyForm
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion

if TYPE_CHECKING:
    from dyneval.instruct.chunks import BuildConfig

# Files that are uploaded: without the summary, which tells the folders of this machine.
PUBLISHED_FILES = ("README.md", "dynevalinstruct_*.json", "dynevalinstruct_*.jsonl", "heldout.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructOptions:
    """What is built, and from what."""

    metadata: Annotated[Path, arg("metadata.jsonl of the pairs")]
    annotations: AnnotationFolder
    output: Annotated[Path, arg("folder of the training files")]
    heldout: Annotated[float, arg("share of prompts kept back")] = 0.1
    delta: Annotated[
        tuple[float, ...],
        arg(
            "keep pairs with S below this: one value, or one for each of three tiers (then pairs without a tier are "
            f"kept below {PUBLISHED_DELTA:g})",
            nargs="+",
        ),
    ] = (PUBLISHED_DELTA,)
    template: Annotated[
        TemplateVersion, arg("wording of the questions' request, as in the published README or builder")
    ] = DEFAULT_TEMPLATE
    reply_form: Annotated[ReplyForm, arg("JSON of the answers to questions, as in the published README or builder")] = (
        DEFAULT_FORM
    )
    check_images: Annotated[
        Literal["none", "exists", "decode"], arg("look whether each image is there, or decode it")
    ] = "exists"
    tokenizer: Annotated[
        Path | None, arg("student's checkpoint folder or tokenizer.json: count tokens, reject long samples")
    ] = None
    max_tokens: Annotated[int, arg("with --tokenizer")] = 8192
    max_pixels: Annotated[int, arg("with --tokenizer")] = 50176
    jsonl: Annotated[
        bool, arg("write the training files as JSONL too; without it, those of an earlier build are removed")
    ] = False
    workers: Annotated[int, arg("processes", ge=1)] = os.cpu_count() or 1
    hub: Annotated[HubOptions, arg("")] = field(default_factory=HubOptions)

    def __post_init__(self) -> None:
        if len(self.delta) not in (1, 3):
            raise SettingError(f"--delta takes one value or three, not {len(self.delta)}")

    def config(self) -> BuildConfig:
        """What the step takes."""
        from dyneval.instruct.chunks import BuildConfig
        from dyneval.instruct.token_length import TokenLimit

        # Without a tokenizer no tokens can be counted.
        limit = None
        if self.tokenizer:
            limit = TokenLimit(tokenizer=self.tokenizer, tokens=self.max_tokens, max_pixels=self.max_pixels)
        # One value holds for all tiers and for pairs without one; three are by tier, 1 to 3, and say nothing of those.
        curation = Curation(
            delta=dict(zip(TIERS, self.delta * (3 // len(self.delta)), strict=True)),
            untiered=self.delta[0] if len(self.delta) == 1 else PUBLISHED_DELTA,
            heldout=self.heldout,
        )
        return BuildConfig(**shared(self, BuildConfig), curation=curation, limit=limit, lines=self.jsonl)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(InstructOptions, argv)
    return run(parser, _build, options)


def _build(options: InstructOptions) -> int:
    from dyneval.instruct.builder import build

    # The repository first: a wrong token must not be told after the build.
    config, repository = options.config(), options.hub.open("dataset")
    summary = build(config)
    print(json.dumps({key: value for key, value in summary.items() if key != "statistics"}, indent=2))
    if repository:
        print(repository.upload(options.output, "DynEvalInstruct", PUBLISHED_FILES))
    return 0
