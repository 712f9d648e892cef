"""Figures out of the summaries that runs leave behind, to put in the place of assumptions (`dyneval plan --measured`).

It reads `summary.json` of a GenDB, `annotate.summary.json`, `training_log.json` and `<scores>.summary.json`. Each kind
is known by a key that only it has; a summary that gains another kind's key would be read as the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import msgspec

from dyneval.errors import DataFileError
from dyneval.files.atomic import read_json
from dyneval.planning.assumptions import Assumptions
from dyneval.records import RunSummary
from dyneval.structs import Row

Figures = Iterator[tuple[str, float]]


def take_over(path: Path, assumptions: Assumptions) -> None:
    """Replace what the summary at `path` tells; each figure then names the file as its source.

    Raises:
        DataFileError: the file cannot be read, is no summary of a run, or its run tells nothing (no work done, no GPU).
    """
    summary = read_json(path)
    # By the key that tells a kind of summary from the others.
    readers = {"made": _images, "pairs_annotated": _annotations, "log_history": _training, "scored": _scores}
    kinds = [key for key in readers if isinstance(summary, dict) and key in summary]
    if not kinds:
        raise DataFileError(f"{path}: is no summary of Step 2 or 3, of training or of scoring")
    try:
        # All of them before the first is replaced: a broken summary changes nothing.
        figures = list(readers[kinds[0]](summary))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path}: is not a whole summary ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise DataFileError(f"{path}: {error}") from error
    for name, value in figures:
        assumptions.replace(name, value, "measured", str(path))


def _images(summary: Row) -> Figures:
    # `seconds` are wall time, and all devices of a model worked in it. A model that made nothing tells of no speed.
    models = [(model["made"], model["seconds"] * _count_gpus(model["devices"])) for model in summary["models"]]
    made = [(images, seconds) for images, seconds in models if images and seconds]
    if not made:
        raise ValueError("its run drew no image on a GPU")
    yield "image_gpu_seconds", sum(seconds for _, seconds in made) / sum(images for images, _ in made)


def _annotations(summary: Row) -> Figures:
    pairs, tokens = summary["pairs_annotated"], summary["prompt_tokens"] + summary["completion_tokens"]
    if len(summary["workflows"]) < 4:
        raise ValueError("is of a part of the four annotations; name the summary of a run of all of them")
    if not pairs or not tokens:
        raise ValueError("its run annotated no pair, or its engine counts no tokens")
    yield "teacher_tokens_in", summary["prompt_tokens"] / pairs
    yield "teacher_tokens_out", summary["completion_tokens"] / pairs
    # 0 where --gpus was not named: the run then tells nothing of throughput.
    if summary["gpu_hours"]:
        yield "teacher_tokens_per_gpu_second", tokens / (summary["gpu_hours"] * 3600)


def _training(summary: Row) -> Figures:
    rates = [entry["tokens_per_second"] for entry in summary["log_history"] if "tokens_per_second" in entry]
    if not rates or not summary["gpus"]:
        raise ValueError("its run logged no step, or trained without a GPU")
    # The median, which single slow steps such as the first do not move.
    yield "train_tokens_per_gpu_second", median(rates) / summary["gpus"]


def _scores(summary: Row) -> Figures:
    run = msgspec.convert(summary["run"], RunSummary)
    gpus = _count_gpus(run.devices)
    if not run.made or not gpus or not run.seconds:
        raise ValueError("its run scored no pair, or not on a GPU")
    yield "score_gpu_seconds", run.seconds * gpus / run.made


def _count_gpus(devices: Sequence[str]) -> float:
    """GPUs of the workers whose devices are named: "cuda:0" has one, "cuda:0 x 2" of a Ray actor has two."""
    shares = [device.partition(" x ")[2] for device in devices if device.startswith("cuda")]
    return sum(float(share or 1) for share in shares)
