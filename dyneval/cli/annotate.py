"""Step 3: let the teacher annotate every pair, image by image, while the server has the image in its caches.

    dyneval annotate --metadata gendb/metadata.jsonl --output annotations --base-url http://localhost:8000/v1
    dyneval annotate --metadata gendb/metadata.jsonl --output annotations --dry-run    # print the requests, ask nothing

Writes t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl; with --workflow only one of
them. Run again, it goes on where it stopped; what could not be annotated stands in the *.rejects.jsonl beside them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.cli.running import run
from dyneval.errors import DataFileError, SettingError
from dyneval.flags import Parser, positive
from dyneval.llm.registry import ENGINES, make_engine
from dyneval.records import WORKFLOWS
from dyneval.work.executors import Ray, add_cluster, cluster_of
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.structs import Row
    from dyneval.teacher.runner import AnnotateConfig

logger = logging.getLogger(__name__)

TEACHER_MODEL = "Qwen/Qwen3-VL-235B-A22B-Instruct-FP8"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb.

    Returns:
        Exit status, see `exit_status`; 2 for a wrong command line or engine; 130 when interrupted.
    """
    parser = _parser(prog)
    args = ENGINES.parse(parser, argv)
    return run(
        parser, lambda: _annotate(args, parser.prog), status=lambda error: 2 if isinstance(error, SettingError) else 1
    )


def _annotate(args: argparse.Namespace, prog: str) -> int:
    from dyneval.teacher.dry_run import render
    from dyneval.teacher.runner import annotate

    logging.getLogger("openai").setLevel(logging.WARNING)  # one line a request
    config = _config(args)
    if args.dry_run:
        sys.stdout.write(render(config, args.model))
        return 0
    cluster = cluster_of(args)
    if cluster is not None:
        run_it = _on_ray(config, cluster, args)
    else:
        options = ENGINES.given(args, concurrency=args.concurrency)
        engine = make_engine(args.engine, args.model, **options)
        config = replace(config, gpus=config.gpus or _gpus_of(args.engine, options))
        run_it = partial(annotate, config, lambda: engine)
    interrupt_on_sigterm()
    summary = run_it()
    logger.info("summary: %s", json.dumps(summary, ensure_ascii=False))
    if status := exit_status(summary):
        logger.error("%s: %s", prog, _lost(config, summary))
    return status


def _on_ray(config: AnnotateConfig, cluster: Ray, args: argparse.Namespace) -> Callable[[], Row]:
    """What annotates on a cluster. Raises SettingError where the engine's flags do not fit."""
    from dyneval.teacher.runner import annotate

    options = ENGINES.given(args, concurrency=args.concurrency)
    ENGINES.options(args.engine, **options)
    if args.engine == "vllm" and not cluster.gpus:
        raise SettingError("--ray with --engine vllm needs --ray-gpus: the GPUs of one copy of the teacher")
    config = replace(config, gpus=config.gpus or cluster.gpus * cluster.actors)
    return lambda: annotate(config, partial(make_engine, args.engine, args.model, **options), cluster)


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
    runs = summary["workflows"].values()
    if any(run["rejected"].get(kind) for run in runs for kind in ("engine", "reply")):
        return 1
    is_empty = any(run["rejected"] and not run["in_file"] for run in runs)
    return int(is_empty or (summary["run"]["rejected"] > 0 and not any(run["in_file"] for run in runs)))


def _lost(config: AnnotateConfig, summary: Row) -> str:
    """What a run has to say that could not do all of its job."""
    kinds: dict[str, int] = {}
    for workflow in summary["workflows"].values():
        for kind, number in workflow["rejected"].items():
            kinds[kind] = kinds.get(kind, 0) + number
    counts = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    return (
        f"annotations are missing ({counts or 'bad rows'}): the reasons stand in {config.folder}/*.rejects.jsonl; the "
        "same command asks again after failures of the engine, with --retry-rejects after all others too"
    )


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl; images are relative to its folder")
    data.add_argument("--output", type=Path, required=True, help="folder of the annotation files")
    data.add_argument(
        "--workflow",
        action="append",
        default=[],
        choices=WORKFLOWS,
        help="only this one of the four; those that it builds on must be there; may be repeated",
    )
    data.add_argument("--limit", type=positive, help="only the first so many pairs")
    data.add_argument("--shard", metavar="I/N", help="only part I of N (from 1), split by prompt, to OUTPUT/shards")
    data.add_argument("--force", action="store_true", help="annotate finished records again")
    data.add_argument("--retry-rejects", action="store_true", help="ask again for what an earlier run gave up on")
    data.add_argument("--dry-run", action="store_true", help="print the requests about one pair, ask nothing")
    teacher = parser.add_argument_group("teacher")
    ENGINES.add_engine(teacher)
    teacher.add_argument("--model", default=TEACHER_MODEL, help="model name or folder; default: %(default)s")
    teacher.add_argument("--attempts", type=positive, default=3, help="replies asked for at most; default: %(default)s")
    teacher.add_argument("--concurrency", type=positive, default=64, help="requests at once; default: %(default)s")
    teacher.add_argument("--gpus", type=float, default=0, help="GPUs behind a server, for the GPU hours")
    ENGINES.add_flags(teacher, parser)
    add_cluster(parser, "pairs", gpus=0, batch=64)
    return parser


def _config(args: argparse.Namespace) -> AnnotateConfig:
    from dyneval.files.parts import Shard
    from dyneval.teacher.runner import AnnotateConfig

    if not args.metadata.is_file():
        raise DataFileError(f"{args.metadata}: no such file; it is written by Step 2")
    return AnnotateConfig(
        metadata=args.metadata,
        output=args.output,
        workflows=tuple(args.workflow or WORKFLOWS),
        # Some pairs wait for their images or are between two requests: a few more than there are slots.
        concurrency=args.concurrency + max(2, args.concurrency // 4),
        attempts=args.attempts,
        limit=args.limit,
        shard=Shard.parse(args.shard) if args.shard else None,
        force=args.force,
        retry_rejects=args.retry_rejects,
        gpus=args.gpus,
    )
