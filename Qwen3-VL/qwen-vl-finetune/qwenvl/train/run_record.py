"""The files of a run: what it was asked to do (`run.json`), did (`training_log.json`) and left out (`rejects.jsonl`).

The same command, given again, goes on with a run or finds it finished. `run.json` decides whether it is the same run:
a checkpoint that went on with another learning rate or other data would be a model that no command describes.
"""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dyneval.files.atomic import read_json
from dyneval.hashing import file_sha256
from qwenvl.data import DatasetSource
from qwenvl.data.dataset import DatasetStats
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import DataArguments, ModelArguments
from qwenvl.train.options import SAMPLES_A_STEP, SCHEDULE, TRANSFORMERS, fate_of, own_fields
from qwenvl.train.parsing import TrainingArguments

RECORD = "run.json"
LOG = "training_log.json"
"""Written last: with it there, a run is finished."""
REJECTS = "rejects.jsonl"
_PACKAGES = ("dyneval", "torch", "transformers", "accelerate", "deepspeed", "peft", "tokenizers")
Record = dict[str, Any]


def record_of(
    model: ModelArguments, data: DataArguments, training: TrainingArguments, sources: list[DatasetSource]
) -> Record:
    """Return what a run was asked to do, as JSON: `fixed` is what the trained weights depend on, `free` may change.

    Args:
        model: the model, and what of it is trained.
        data: the samples; its pixel limits are those in use.
        training: how it is trained.
        sources: the annotation files, which are hashed: contents count, not names.
    """
    values = {**vars(training), **vars(model), **vars(data)}
    names = [name for name in dict.fromkeys([*own_fields(), *TRANSFORMERS]) if fate_of(name) != "refused"]
    fixed = {name: _plain(values[name]) for name in names if fate_of(name) == "fixed"}
    free = {name: _plain(values[name]) for name in names if fate_of(name) == "free"}
    free["gradient_checkpointing"] = training.activation_checkpointing
    del free["output_dir"], free["local_rank"]  # the folder of the file itself, and a number of the launcher
    del fixed["warmup_ratio"]  # is in warmup_steps
    # The samples of a step are fixed. Into how many batches and devices they are divided changes no gradient, so a run
    # may go on with half the devices and twice the accumulation.
    batch, accumulated = (fixed.pop(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    fixed[SAMPLES_A_STEP] = batch * accumulated * training.world_size
    free |= {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    name = model.model_name_or_path
    # A folder by its one true path, an id of the Hub as it is: the same model may be written in several ways.
    fixed["model_name_or_path"] = str(Path(name).resolve()) if Path(name).is_dir() else name
    # Stage 2 starts from the folder of Stage 1. If that is trained again, its log differs, and Stage 2 is another run.
    base = Path(model.model_name_or_path, LOG)
    fixed["base_run"] = file_sha256(base) if base.is_file() else None
    fixed["samples"] = [{"annotation": file_sha256(source.annotation), "rate": source.rate} for source in sources]
    annotations = [{"name": one.name, "annotation": str(one.annotation), "data": str(one.data)} for one in sources]
    return {
        "fixed": fixed,
        "free": free | {"model_name_or_path": model.model_name_or_path},
        "datasets": annotations,
        "processes": training.world_size,
        "resumed_from": None,
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: installed_version(name) for name in _PACKAGES},
    }


def check_run(output_dir: Path, wanted: Record) -> bool:
    """Return True when this very run is already finished in `output_dir`.

    Of an unfinished run, `resumed_from` is taken over into `wanted`.

    Args:
        output_dir: folder of the run.
        wanted: record of the run that is asked for.

    Raises:
        TrainingInputError: the folder holds a run with other settings.
    """
    path = output_dir / RECORD
    if not path.is_file():
        return False
    found = read_json(path)
    if "fixed" not in found:
        raise TrainingInputError(
            f"{path}: is the record of a run of an older version; delete {output_dir} or name another output folder"
        )
    if told := _differences(found["fixed"], wanted["fixed"]):
        raise TrainingInputError(
            f"{output_dir} holds a run with other settings ({told}); delete it or name another output folder"
        )
    wanted["resumed_from"] = found.get("resumed_from")
    return (output_dir / LOG).is_file()


def check_origin(checkpoint: Path, wanted: Record) -> None:
    """Check that a run can go on from the checkpoint of another: with the same model, data and order of samples.

    Raises:
        TrainingInputError: they differ in more than the schedule; the message names what.
    """
    path = checkpoint.parent / RECORD
    if not path.is_file():
        raise TrainingInputError(f"{checkpoint}: beside it is no {RECORD}, so it is unknown what it was trained with")
    found = read_json(path).get("fixed", {})
    if told := _differences(found, wanted["fixed"], leave_out=SCHEDULE):
        raise TrainingInputError(f"{checkpoint} is of a run with other settings ({told}); a run cannot go on from it")


def _differences(found: Record, wanted: Record, leave_out: tuple[str, ...] = ()) -> str:
    changed = [name for name in sorted({*found, *wanted} - {*leave_out}) if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name}: {found.get(name)} there, {wanted.get(name)} here" for name in changed[:3])


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _commit() -> str | None:
    """Commit of this code, with a plus sign where files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def append_reject(output_dir: Path, reason: str) -> None:
    """Note a sample that was not trained on; `reason` names its file, number and problem."""
    with (output_dir / REJECTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"reason": reason}, ensure_ascii=False) + "\n")


def log_of(
    steps: int,
    history: list[dict[str, Any]],
    stats: DatasetStats,
    heldout: DatasetStats | None,
    record: Record,
    gpus: int,
    best_step: int | None,
) -> Record:
    """Return what a run did, the content of `training_log.json`.

    Args:
        steps: optimizer steps.
        history: Trainer's log; its rates are those of all devices together.
        stats: of the training data.
        heldout: of the held-out data.
        record: what the run was asked to do.
        gpus: that worked on it, 0 on the CPU.
        best_step: step of the weights that were kept, if they are not the last.
    """
    losses = [entry for entry in history if "loss" in entry]
    evaluated = [entry for entry in history if "eval_loss" in entry]
    return {
        "steps": steps,
        "samples_a_step": record["fixed"][SAMPLES_A_STEP],
        "gpus": gpus,
        "loss_first": losses[0]["loss"] if losses else None,
        "loss_last": losses[-1]["loss"] if losses else None,
        "eval_loss_first": evaluated[0]["eval_loss"] if evaluated else None,
        "eval_loss_last": evaluated[-1]["eval_loss"] if evaluated else None,
        "best_step": best_step,
        "samples": asdict(stats),
        "eval_samples": asdict(heldout) if heldout else None,
        "model_name_or_path": record["free"]["model_name_or_path"],
        "dataset_use": record["free"]["dataset_use"],
        "log_history": history,
    }
