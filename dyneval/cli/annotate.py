"""Step 3: let the teacher annotate every pair, image by image, while the server has the image in its caches.

    dyneval annotate --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1
    dyneval annotate --metadata gendb/metadata.jsonl --output annotations --dry-run    # print the requests, ask nothing

Writes t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl; with --workflow only one of
them. Run again, it goes on where it stopped; what could not be annotated stands in the *.rejects.jsonl beside them.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dyneval.cli.running import run, shared
from dyneval.errors import DataFileError, SettingError, made_by
from dyneval.files.parts import Shard
from dyneval.flags import Parser, arg
from dyneval.llm.registry import ENGINES, make_engine
from dyneval.records import WORKFLOWS, Workflow
from dyneval.registry import EngineChoice
from dyneval.work.executors import ClusterOptions
from dyneval.work.processes import interrupt_on_sigterm
from dyneval.work.progress import span

if TYPE_CHECKING:
    from dyneval.structs import Row
    from dyneval.teacher.runner import AnnotateConfig

logger = logging.getLogger(__name__)

# The teacher that annotated the published data, in its FP8 form.
TEACHER_MODEL = "Qwen/Qwen3-VL-235B-A22B-Instruct-FP8"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateOptions:
    """What is annotated, and by whom."""

    metadata: Annotated[Path, arg("metadata.jsonl; images are relative to its folder", heading="data")]
    output: Annotated[Path, arg("folder of the annotation files")]
    workflow: Annotated[
        tuple[Workflow, ...],
        arg("only this one of the four; those that it builds on must be there; may be repeated"),
    ] = ()
    limit: Annotated[int | None, arg("only the first so many pairs", ge=1)] = None
    shard: Annotated[
        Shard | None,
        arg("only part I of N (from 1), split by prompt, to OUTPUT/shards", metavar="I/N", parse=Shard.parse),
    ] = None
    force: Annotated[bool, arg("annotate finished records again")] = False
    retry_rejects: Annotated[bool, arg("ask again for what an earlier run gave up on")] = False
    dry_run: Annotated[bool, arg("print the requests about one pair, ask nothing")] = False
    engine: Annotated[EngineChoice, arg("", part=ENGINES, heading="teacher")] = ENGINES.default
    model: Annotated[str, arg("model name or folder")] = TEACHER_MODEL
    attempts: Annotated[int, arg("replies asked for at most", ge=1)] = 3
    concurrency: Annotated[int, arg("requests at once", ge=1)] = 64
    gpus: Annotated[float, arg("GPUs behind a server, for the GPU hours")] = 0
    cluster: Annotated[ClusterOptions, arg("")] = field(default_factory=ClusterOptions)

    def engine_options(self) -> dict[str, Any]:
        """Options of the engine. Raises SettingError: it lacks one, or one is out of its range."""
        options = ENGINES.filled(self.engine, concurrency=self.concurrency)
        ENGINES.options(self.engine.name, **options)
        return options

    def config(self) -> AnnotateConfig:
        """What the step takes."""
        from dyneval.teacher.runner import AnnotateConfig

        if not self.metadata.is_file():
            raise DataFileError(f"{self.metadata}: no such file{made_by(self.metadata)}")
        # Pairs in work: some wait for their images or are between two requests, so a few more than requests at once
        # keep all of those busy.
        at_once = self.concurrency + max(2, self.concurrency // 4)
        workflows = self.workflow or WORKFLOWS
        return AnnotateConfig(**shared(self, AnnotateConfig) | {"workflows": workflows, "concurrency": at_once})


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb.

    Returns:
        Exit status, see `exit_status`; 2 for a wrong command line or engine; 130 when interrupted.
    """
    parser = Parser(prog, __doc__)
    options = parser.parse_options(AnnotateOptions, argv)
    annotate = partial(_annotate, prog=parser.prog)
    return run(parser, annotate, options, status=lambda error: 2 if isinstance(error, SettingError) else 1)


def _annotate(options: AnnotateOptions, prog: str) -> int:
    from dyneval.teacher.dry_run import render
    from dyneval.teacher.runner import annotate

    # Its client logs a line a request, which would hide the progress.
    logging.getLogger("openai").setLevel(logging.WARNING)
    config, cluster = options.config(), options.cluster.ray
    if options.dry_run:
        sys.stdout.write(render(config, options.model))
        return 0
    name, settings = options.engine.name, options.engine_options()
    if cluster is not None:
        # Each actor makes its own engine: a client or a model cannot be sent to another machine.
        if name == "vllm" and not cluster.gpus:
            raise SettingError("--ray with --engine vllm needs --ray-gpus: the GPUs of one copy of the teacher")
        config = replace(config, gpus=config.gpus or cluster.gpus * cluster.actors)
        run_it = partial(annotate, config, partial(make_engine, name, options.model, **settings), cluster)
    else:
        engine = make_engine(name, options.model, **settings)
        run_it = partial(annotate, replace(config, gpus=config.gpus or _gpus_of(name, settings)), lambda: engine)
    interrupt_on_sigterm()
    summary = run_it()
    told = [f"{name} {one['in_file']}" for name, one in summary["workflows"].items()]
    logger.info(
        "%d pairs annotated in %s, %d requests; rows in the files: %s -> %s",
        summary["pairs_annotated"],
        span(summary["seconds"]),
        summary["requests"],
        ", ".join(told),
        config.folder / f"{config.name}.summary.json",
    )
    if status := exit_status(summary):
        kinds: Counter[str] = Counter()
        for workflow in summary["workflows"].values():
            kinds.update(workflow["rejected"])
        counts = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        logger.error(
            "%s: annotations are missing (%s): the reasons stand in %s/*.rejects.jsonl; the same command asks again "
            "after failures of the engine, with --retry-rejects after all others too",
            prog,
            counts or "bad rows",
            config.folder,
        )
    return status


def _gpus_of(engine: str, options: dict[str, Any]) -> int:
    """GPUs that an engine in this process takes; of a server nobody knows, and 0 stands for that."""
    if engine == "vllm":
        return int(options.get("tensor_parallel_size", 1) * options.get("data_parallel_size", 1))
    if engine != "transformers":
        return 0
    import torch

    device = options.get("device")
    return torch.cuda.device_count() if device is None else int(device.startswith("cuda"))


def exit_status(summary: Row) -> int:
    """0 when the run did its job, also where single images, rows or requests were refused.

    1 when answers were lost: the engine failed, or replies came that could not be used; or when a workflow has nothing
    in its file though something was to do.
    """
    # "engine" and "reply": an answer was asked for and lost. Other kinds, such as a refused prompt, are final.
    runs = summary["workflows"].values()
    if any(run["rejected"].get(kind) for run in runs for kind in ("engine", "reply")):
        return 1
    is_empty = any(run["rejected"] and not run["in_file"] for run in runs)
    return int(is_empty or (summary["run"]["rejected"] > 0 and not any(run["in_file"] for run in runs)))
