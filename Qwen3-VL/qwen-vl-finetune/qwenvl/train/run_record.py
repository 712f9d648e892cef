"""Files of a run: what it was asked to do (`run.json`), did (`training_log.json`) and left out (`rejects.jsonl`)."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dyneval.files.atomic import read_json, write_json
from dyneval.hashing import file_sha256
from qwenvl.data import DatasetSource
from qwenvl.data.dataset import DatasetStats
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import DataArguments, ModelArguments
from qwenvl.train.options import SAMPLES_A_STEP, SCHEDULE, TRANSFORMERS, fate_of, own_fields
from qwenvl.train.parsing import TrainingArguments

RECORD = "run.json"
LOG = "training_log.json"
REJECTS = "rejects.jsonl"
_PACKAGES = ("dyneval", "torch", "transformers", "accelerate", "deepspeed", "peft", "tokenizers")
Record = dict[str, Any]


def record_of(
    model: ModelArguments, data: DataArguments, training: TrainingArguments, sources: list[DatasetSource]
) -> Record:
    """What a run was asked to do, as JSON: `fixed` is what the trained weights depend on, `free` may change."""
    values = {**vars(training), **vars(model), **vars(data)}
    names = [name for name in dict.fromkeys([*own_fields(), *TRANSFORMERS]) if fate_of(name) != "refused"]
    fixed = {name: _plain(values[name]) for name in names if fate_of(name) == "fixed"}
    free = {name: _plain(values[name]) for name in names if fate_of(name) == "free"}
    free["gradient_checkpointing"] = training.activation_checkpointing
    del free["output_dir"], free["local_rank"]  # where this stands, and what the launcher counts
    del fixed["warmup_ratio"]  # is in warmup_steps
    # Which samples make a step; in how many batches and on how many devices they come does not matter.
    batch, accumulated = (fixed.pop(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    fixed[SAMPLES_A_STEP] = batch * accumulated * training.world_size
    free |= {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    fixed["model_name_or_path"] = _place(model.model_name_or_path)
    # A stage that is trained again leaves another log: what started from it is then another run too.
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
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
    }


def check_run(output_dir: Path, wanted: Record) -> bool:
    """True when this very run is already finished in `output_dir`.

    A run that is there and not finished goes on: where its `resumed_from` is known, it is taken over into `wanted`.

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
    """Look whether a run can go on from the checkpoint of another: with the same model, data and order of samples.

    Raises:
        TrainingInputError: they differ in more than the schedule; the message names what.
    """
    path = checkpoint.parent / RECORD
    if not path.is_file():
        raise TrainingInputError(f"{checkpoint}: beside it is no {RECORD}, so it is unknown what it was trained with")
    found = read_json(path).get("fixed", {})
    if told := _differences(found, wanted["fixed"], leave_out=SCHEDULE):
        raise TrainingInputError(f"{checkpoint} is of a run with other settings ({told}); a run cannot go on from it")


def write_record(output_dir: Path, record: Record) -> None:
    """Write `run.json`."""
    write_json(output_dir / RECORD, record)


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


def _place(name: str) -> str:
    """A folder by its one true path; an id of the Hub as it is."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _commit() -> str | None:
    """Commit of this code, with a plus sign where files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _version(name: str) -> str | None:
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
    """What a run did. `gpus` worked on it, 0 on the CPU; the history's rates are those of all of them together."""
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


def write_log(output_dir: Path, log: Record) -> None:
    """Write `training_log.json`, the last file of a run: with it there, the run is finished."""
    write_json(output_dir / LOG, log)
