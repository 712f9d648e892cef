"""Compute another metric's scores of the same images, to stand beside DynEval's in one table.

    dyneval rival --list                                      # who there is, what each rates, its package and licence
    dyneval rival clipscore --metadata gendb/metadata.jsonl --output clip.jsonl
    dyneval rival pyiqa --model musiq --benchmark agiqa-3k --annotations data.csv --images AGIQA-3K --output musiq.jsonl
    dyneval rival chat --model qwen3-vl --base-url http://gpu-machine:8000/v1 --metadata m.jsonl --output qwen.jsonl
    dyneval benchmark --benchmark tifa --annotations human_annotations.json --scores scores.jsonl \
        --compare CLIPScore=clip.jsonl ImageReward=reward.jsonl --output agreement/

Each package is an extra of its own, since some do not go together: a rival is best computed in an environment of its
own, and its table compared anywhere. The same command with the same --output goes on where it was; a pair is scored
again only if its image, its prompt, the model, or the package's version has changed. Pairs without a score are named on
stderr and in <output>.rejects.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.cli.running import run
from dyneval.evaluation.benchmarks import BENCHMARKS
from dyneval.flags import Parser, add_flags, given_flags, positive
from dyneval.llm.registry import ENGINES, ServerOptions
from dyneval.rivals.registry import RIVALS
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.files.pairs import PairRef
    from dyneval.records import Reject, RunSummary
    from dyneval.rivals.run import RivalRun

_SERVER = ENGINES.entries["openai"].flags
_CHAT_FLAGS = ("instruction",)
_LOCAL_FLAGS = ("device",)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    if arguments.list:
        return _list()
    _refuse(parser, arguments)
    return run(parser, lambda: _rival(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("name", nargs="?", choices=list(RIVALS), metavar="NAME", help=", ".join(RIVALS))
    add("--list", action="store_true", help="name the rivals, what they rate, their packages and licences")
    add("--metadata", type=Path, help="table (JSONL, CSV, Parquet) with file_name and prompt, or an ImageFolder")
    add("--image-root", type=Path, help="folder that file_name is relative to; default: the folder of --metadata")
    add("--limit", type=positive, help="only so many rows of --metadata, from its beginning")
    add("--benchmark", choices=list(BENCHMARKS), help="in place of --metadata: the images of a published benchmark")
    add("--annotations", type=Path, help="the benchmark's files, see dyneval benchmark --list")
    add("--rating", help="which rating, where a benchmark has several; default: its first")
    add("--images", type=Path, help="folder of the benchmark's images")
    add("--output", type=Path, help="JSONL file of scores; pairs whose score in it still holds are skipped")
    add("--model", help="of the rival, by its package's or server's name; default: as --list says")
    add("--batch-size", type=positive, help="images at a time, of a server requests in flight; default: the rival's")
    add("--device", help="torch device; default: a GPU where there is one")
    group = parser.add_argument_group("chat judges")
    group.add_argument("--instruction", type=Path, help="text file with {prompt} in it, in place of our wording")
    add_flags(group, ServerOptions, _SERVER)
    return parser


def _refuse(parser: Parser, arguments: argparse.Namespace) -> None:
    if not (arguments.name and arguments.output):
        parser.error("name a rival and --output, or --list")
    if bool(arguments.metadata) == bool(arguments.benchmark):
        parser.error("name either --metadata, or --benchmark with --annotations and --images")
    if arguments.benchmark and not (arguments.annotations and arguments.images):
        parser.error("--benchmark needs --annotations and --images")
    is_chat = RIVALS[arguments.name].is_chat
    server = {"base_url" if name == "base_urls" else name for name in _SERVER or ()}
    foreign = set(_LOCAL_FLAGS) if is_chat else {*_CHAT_FLAGS, *server}
    if given := sorted(foreign & parser.given):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        whom = "packages in this process" if is_chat else "chat judges (unifiedreward, chat)"
        parser.error(f"{flags}: goes with {whom}, not with {arguments.name}")
    if is_chat and not (arguments.model or RIVALS[arguments.name].model):
        parser.error(f"{arguments.name} needs --model, its name on the server")


def _list() -> int:
    """Print every rival with what it rates, its package and licence, and how it is called."""
    from dyneval.extras import install

    for name, rival in RIVALS.items():
        model = f", --model {rival.model}" if rival.model else ""
        versions = ", ".join(" ".join(found) for found in rival.versions.items())
        print(f"{name}: {rival.title}, rates {rival.rates}, {rival.scale}{model}")
        print(f"  package: {install(rival.extra)}{f' (here: {versions})' if versions else ''}")
        print(f"  licence: {rival.licence}\n  from: {rival.source}\n  how: {rival.call}")
    return 0


def _rival(arguments: argparse.Namespace) -> int:
    from dyneval.rivals.run import RivalRun

    interrupt_on_sigterm()
    rival = RIVALS[arguments.name]
    rejects: list[Reject] = []
    pairs = _pairs(arguments, rejects)
    task = RivalRun(
        name=arguments.name,
        rival=rival,
        model=arguments.model or rival.model,
        pairs=pairs,
        rejects=rejects,
        output=arguments.output,
        inputs=[arguments.metadata or arguments.annotations],
        root=arguments.images or arguments.image_root or _folder(arguments.metadata),
    )
    summary = _by_chat(arguments, task) if rival.is_chat else _here(arguments, task)
    if summary.made or summary.there_before:
        table = shlex.quote(f"{rival.title.replace(' ', '-')}={arguments.output}")
        sys.stderr.write(f"next: dyneval benchmark ... --scores scores.jsonl --compare {table}\n")
    return 1 if summary.rejected else 0


def _pairs(arguments: argparse.Namespace, rejects: list[Reject]) -> list[PairRef]:
    """The pairs of the table, or the images of the benchmark."""
    from dyneval.files.pairs import PairRef, read_pairs
    from dyneval.records import prompt_id

    if arguments.metadata:
        return list(read_pairs(arguments.metadata, PairRef, rejects.append, limit=arguments.limit))
    from dyneval.evaluation.unscored import rated_images

    found = rated_images(BENCHMARKS[arguments.benchmark], arguments.annotations, arguments.rating)
    return [PairRef(one.pair_id, one.prompt, one.file_name, prompt_id(one.prompt)) for one in found[: arguments.limit]]


def _folder(metadata: Path) -> Path:
    from dyneval.files.pairs import metadata_file

    return metadata_file(metadata).parent


def _here(arguments: argparse.Namespace, task: RivalRun) -> RunSummary:
    from dyneval.rivals.run import score_here

    return score_here(task, arguments.device, arguments.batch_size)


def _by_chat(arguments: argparse.Namespace, task: RivalRun) -> RunSummary:
    from dyneval.hashing import short_id
    from dyneval.rivals.chat import INSTRUCTIONS
    from dyneval.rivals.run import score_by_chat

    instruction = INSTRUCTIONS[arguments.name]
    if arguments.instruction:
        instruction = instruction.with_text(arguments.instruction)
    concurrency = arguments.batch_size or task.rival.batch_size
    options = ENGINES.options("openai", **given_flags(arguments, ServerOptions, _SERVER), concurrency=concurrency)
    settings = {"instruction": short_id(instruction.text), "max_pixels": options.max_pixels}
    task = replace(task, settings=settings)
    return score_by_chat(task, lambda: ENGINES.make("openai", task.model, options), instruction, concurrency)
