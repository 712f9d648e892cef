"""Compute another metric's scores of the same images, to stand beside DynEval's in one table.

    dyneval rival --list                                      # who there is, what each rates, its package and licence
    dyneval rival clipscore --metadata gendb/metadata.jsonl --output clip.jsonl
    dyneval rival pyiqa --model musiq --benchmark agiqa-3k --annotations data.csv --images AGIQA-3K --output musiq.jsonl
    dyneval rival chat --model qwen3-vl --base-url http://gpu-machine:8000/v1 --metadata m.jsonl --output qwen.jsonl
    dyneval benchmark --benchmark tifa --annotations human_annotations.json --scores scores.jsonl \
        --compare CLIPScore=clip.jsonl ImageReward=reward.jsonl --output agreement/

Each package is an extra of its own, since some do not go together: a rival is best computed in an environment of its
own, and its table compared anywhere. The same command with the same --output goes on where it was; a pair is scored
again only if its image, its prompt, the model (of a local one, its weights), or the package's version has changed.
Pairs without a score are named on stderr and in clip.rejects.jsonl beside clip.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dyneval.cli.running import run
from dyneval.cli.tables import ImageRoot, PairTable
from dyneval.errors import SettingError
from dyneval.evaluation.benchmarks import BENCHMARKS
from dyneval.flags import Parser, arg, flags_of
from dyneval.llm.registry import ENGINES, ServerOptions
from dyneval.registry import EngineChoice, OptionsOf
from dyneval.rivals.registry import RIVALS
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.files.pairs import PairRef
    from dyneval.records import Reject, RunSummary
    from dyneval.rivals.run import RivalRun


@dataclass(frozen=True, kw_only=True, slots=True)
class RivalOptions:
    """Who scores which images."""

    name: Annotated[str | None, arg(", ".join(RIVALS), position=True, choices=tuple(RIVALS), metavar="NAME")] = None
    list: Annotated[bool, arg("name the rivals, what they rate, their packages and licences")] = False
    metadata: PairTable = None
    image_root: ImageRoot = None
    limit: Annotated[int | None, arg("only so many rows of --metadata, from its beginning", ge=1)] = None
    benchmark: Annotated[
        str | None, arg("in place of --metadata: the images of a published benchmark", choices=tuple(BENCHMARKS))
    ] = None
    annotations: Annotated[Path | None, arg("the benchmark's files, see dyneval benchmark --list")] = None
    rating: Annotated[str | None, arg("which rating, where a benchmark has several; default: its first")] = None
    images: Annotated[Path | None, arg("folder of the benchmark's images", folder=True)] = None
    output: Annotated[Path | None, arg("JSONL file of scores; pairs whose score in it still holds are skipped")] = None
    model: Annotated[str | None, arg("of the rival, by its package's or server's name; default: as --list says")] = None
    batch_size: Annotated[
        int | None, arg("images at a time, of a server requests in flight; default: the rival's", ge=1)
    ] = None
    device: Annotated[str | None, arg("torch device; default: a GPU where there is one")] = None
    instruction: Annotated[
        Path | None, arg("text file with {prompt} in it, in place of our wording", heading="chat judges")
    ] = None
    server: Annotated[EngineChoice, arg("", part=OptionsOf(ENGINES, "openai"))] = field(
        default_factory=lambda: EngineChoice("openai")
    )

    def __post_init__(self) -> None:
        if self.list:
            return
        if not (self.name and self.output):
            raise SettingError("name a rival and --output, or --list")
        if bool(self.metadata) == bool(self.benchmark):
            raise SettingError("name either --metadata, or --benchmark with --annotations and --images")
        if self.benchmark and not (self.annotations and self.images):
            raise SettingError("--benchmark needs --annotations and --images")
        # A flag that does nothing is refused: its user believes that it changed the scores.
        is_chat = RIVALS[self.name].is_chat
        if is_chat and self.device:
            raise SettingError(f"--device: goes with packages in this process, not with {self.name}")
        if not is_chat and (self.instruction or self.server.options):
            given = [flag.name for flag in flags_of(ServerOptions) if flag.option in self.server.options]
            flag = "--instruction" if self.instruction else given[0]
            whom = ", ".join(name for name, rival in RIVALS.items() if rival.is_chat)
            raise SettingError(f"{flag}: goes with chat judges ({whom}), not with {self.name}")
        if is_chat and not (self.model or RIVALS[self.name].model):
            raise SettingError(f"{self.name} needs --model, its name on the server")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(RivalOptions, argv)
    return run(parser, _rival, options)


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


def _rival(options: RivalOptions) -> int:
    if options.list:
        return _list()
    from dyneval.files.pairs import metadata_file
    from dyneval.rivals.run import RivalRun, score_here

    interrupt_on_sigterm()
    name, output, data = options.name, options.output, options.metadata or options.annotations
    assert name is not None and output is not None and data is not None
    rival = RIVALS[name]
    rejects: list[Reject] = []
    pairs = _pairs(options, rejects)
    task = RivalRun(
        name=name,
        rival=rival,
        model=options.model or rival.model,
        pairs=pairs,
        rejects=rejects,
        output=output,
        inputs=[data],
        root=options.images or options.image_root or metadata_file(data).parent,
    )
    summary = _by_chat(options, task) if rival.is_chat else score_here(task, options.device, options.batch_size)
    if summary.made or summary.there_before:
        table = shlex.quote(f"{rival.title.replace(' ', '-')}={output}")
        sys.stderr.write(f"next: dyneval benchmark ... --scores scores.jsonl --compare {table}\n")
    return 1 if summary.rejected else 0


def _pairs(options: RivalOptions, rejects: list[Reject]) -> list[PairRef]:
    """The pairs of the table, or the images of the benchmark."""
    from dyneval.files.pairs import PairRef, read_pairs
    from dyneval.records import prompt_id

    if options.metadata:
        return list(read_pairs(options.metadata, PairRef, rejects.append, limit=options.limit))
    from dyneval.evaluation.unscored import rated_images

    assert options.benchmark is not None and options.annotations is not None
    # A metric of quality alone can rate images whose prompt is not known.
    needs_prompts = RIVALS[options.name or ""].rates != "quality"
    found = rated_images(BENCHMARKS[options.benchmark], options.annotations, options.rating, needs_prompts)
    return [PairRef(one.pair_id, one.prompt, one.file_name, prompt_id(one.prompt)) for one in found[: options.limit]]


def _by_chat(options: RivalOptions, task: RivalRun) -> RunSummary:
    from dyneval.hashing import short_id
    from dyneval.rivals.chat import INSTRUCTIONS
    from dyneval.rivals.run import score_by_chat

    instruction = INSTRUCTIONS[task.name]
    if options.instruction:
        instruction = instruction.with_text(options.instruction)
    concurrency = options.batch_size or task.rival.batch_size
    server = ENGINES.options("openai", **options.server.options, concurrency=concurrency)
    # What a score depends on: with another of them a pair is scored again.
    settings = {
        "instruction": short_id(instruction.text),
        "max_pixels": server.max_pixels,
        "server_options": list(server.server_options),
    }
    task = replace(task, settings=settings)
    return score_by_chat(task, lambda: ENGINES.make("openai", task.model, server), instruction, concurrency)
