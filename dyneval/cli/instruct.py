"""Build DynEvalInstruct from the teacher's annotations: one training file a stage, and the held-out pairs.

    dyneval instruct --metadata gendb/metadata.jsonl --annotations annotations --output instruct

Writes dynevalinstruct_t2ia.json (Stage 1: T2IA and EVALUATION), dynevalinstruct_iqa.json (Stage 2: IQA and
EVALUATION), heldout.jsonl (pairs whose prompts are in neither), their samples (dynevalinstruct_*_heldout.json),
rejects.jsonl, summary.json, README.md (the dataset card) and report.html.

Each of a pair's four annotations stands on its own: one that is missing or bad is a line of rejects.jsonl, and the
others give their samples.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.running import run
from dyneval.flags import Parser
from dyneval.instruct.curation import PUBLISHED_DELTA, Curation
from dyneval.records import TIERS
from dyneval.replies import DEFAULT_FORM, REPLY_FORMS
from dyneval.tokens import DEFAULT_TEMPLATE, TEMPLATE_VERSIONS

PUBLISHED_FILES = ("README.md", "dynevalinstruct_*.json", "dynevalinstruct_*.jsonl", "heldout.jsonl")
"""Without the summary, which tells the folders of this machine."""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    parser.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the four annotation files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the training files")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of prompts kept back; default: %(default)s")
    parser.add_argument(
        "--delta",
        type=float,
        nargs="+",
        default=[PUBLISHED_DELTA],
        help="keep pairs with S below this: one value, or one for each of three tiers (then pairs without a tier are "
        f"kept below {PUBLISHED_DELTA:g}); default: {PUBLISHED_DELTA:g}",
    )
    parser.add_argument(
        "--template",
        choices=TEMPLATE_VERSIONS,
        default=DEFAULT_TEMPLATE,
        help="wording of the questions' request, as in the published README or builder; default: %(default)s",
    )
    parser.add_argument(
        "--reply-form",
        choices=REPLY_FORMS,
        default=DEFAULT_FORM,
        help="JSON of the answers to questions, as in the published README or builder; default: %(default)s",
    )
    parser.add_argument(
        "--check-images",
        choices=("none", "exists", "decode"),
        default="exists",
        help="look whether each image is there, or decode it; default: %(default)s",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="student's checkpoint folder or tokenizer.json: count tokens, reject long samples",
    )
    parser.add_argument("--max-tokens", type=int, default=8192, help="with --tokenizer; default: %(default)s")
    parser.add_argument("--max-pixels", type=int, default=50176, help="with --tokenizer; default: %(default)s")
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="write the training files as JSONL too; without it, those of an earlier build are removed",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: %(default)s")
    text = "then upload it as a dataset; the token comes from HF_TOKEN"
    parser.add_argument("--push-to-hub", "--push_to_hub", metavar="USER/NAME", help=text)
    parser.add_argument("--private", action="store_true", help="make that dataset private")
    args = parser.parse_args(argv)
    if len(args.delta) not in (1, 3):
        parser.error(f"--delta takes one value or three, not {len(args.delta)}")
    if args.workers < 1:
        parser.error(f"--workers {args.workers}: expected at least 1")
    return run(parser, lambda: _build(args))


def _build(args: argparse.Namespace) -> int:
    from dyneval.files.hub import open_dataset, push_dataset
    from dyneval.instruct.builder import build
    from dyneval.instruct.chunks import BuildConfig
    from dyneval.instruct.token_length import TokenLimit

    limit = TokenLimit(tokenizer=args.tokenizer, tokens=args.max_tokens, max_pixels=args.max_pixels)
    config = BuildConfig(
        metadata=args.metadata,
        annotations=args.annotations,
        output=args.output,
        curation=Curation(
            delta=dict(zip(TIERS, args.delta * (3 // len(args.delta)), strict=True)),
            untiered=args.delta[0] if len(args.delta) == 1 else PUBLISHED_DELTA,
            heldout=args.heldout,
        ),
        template=args.template,
        reply_form=args.reply_form,
        check_images=args.check_images,
        limit=limit if args.tokenizer else None,
        lines=args.jsonl,
        workers=args.workers,
    )
    repository = open_dataset(args.push_to_hub, args.private) if args.push_to_hub else None
    summary = build(config)
    print(json.dumps({key: value for key, value in summary.items() if key != "statistics"}, indent=2))
    if repository:
        print(push_dataset(args.output, repository, PUBLISHED_FILES, "DynEvalInstruct"))
    return 0
