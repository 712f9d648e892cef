"""Files of a run: what it was asked to do (`run.json`), did (`training_log.json`) and left out (`rejects.jsonl`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dyneval.files.atomic import read_json, write_json
from dyneval.hashing import file_sha256
from qwenvl.data import DatasetSource
from qwenvl.data.dataset import DatasetStats
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import DataArguments, ModelArguments, TrainingArguments

LOG = "training_log.json"
REJECTS = "rejects.jsonl"
_TRAINING = [
    *["model_max_length", "learning_rate", "mm_projector_lr", "vision_tower_lr", "weight_decay", "max_grad_norm"],
    *["lr_scheduler_type", "warmup_ratio", "num_train_epochs", "max_steps", "seed", "world_size"],
]


def settings(
    model: ModelArguments, data: DataArguments, training: TrainingArguments, sources: list[DatasetSource]
) -> dict[str, Any]:
    """Everything that the trained weights depend on, as JSON."""
    chosen = {name: getattr(training, name) for name in _TRAINING}
    chosen["lr_scheduler_type"] = str(getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type))
    # Which samples make a step; in how many batches they come does not matter, and memory may ask for more of them.
    chosen["per_device_train_batch_size * gradient_accumulation_steps"] = (
        training.per_device_train_batch_size * training.gradient_accumulation_steps
    )
    samples = [{"annotation": file_sha256(source.annotation), "rate": source.rate} for source in sources]
    # A stage that is trained again leaves another log: what started from it is then another run too.
    base = Path(model.model_name_or_path, LOG)
    trained = {"base_run": file_sha256(base) if base.is_file() else None}
    return {**vars(model), **vars(data), **chosen, "samples": samples, **trained}


def check_run(output_dir: Path, wanted: dict[str, Any]) -> bool:
    """True when this very run is already finished in `output_dir`; a new or unfinished one is recorded there.

    Raises:
        TrainingInputError: the folder holds a run with other settings.
    """
    path = output_dir / "run.json"
    if path.is_file():
        found = read_json(path)
        changed = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
        if changed:
            name = changed[0]
            raise TrainingInputError(
                f"{output_dir} holds a run with other settings ({name}: {found.get(name)} there, {wanted.get(name)} "
                "here); delete it or name another output folder"
            )
        return (output_dir / LOG).is_file()
    write_json(path, wanted)
    return False


def append_reject(output_dir: Path, reason: str) -> None:
    """Note a sample that was not trained on; `reason` names its file, number and problem."""
    with (output_dir / REJECTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"reason": reason}, ensure_ascii=False) + "\n")


def write_log(
    output_dir: Path,
    history: list[dict[str, Any]],
    stats: DatasetStats,
    heldout: DatasetStats | None,
    wanted: dict[str, Any],
    gpus: int,
) -> None:
    """Write `training_log.json`, the last file of a run: with it there, the run is finished.

    `gpus` worked on it, 0 on the CPU; the history's rates are those of all of them together.
    """
    losses = [entry for entry in history if "loss" in entry]
    evaluated = [entry for entry in history if "eval_loss" in entry]
    log = {
        "steps": losses[-1]["step"] if losses else 0,
        "gpus": gpus,
        "loss_first": losses[0]["loss"] if losses else None,
        "loss_last": losses[-1]["loss"] if losses else None,
        "eval_loss_first": evaluated[0]["eval_loss"] if evaluated else None,
        "eval_loss_last": evaluated[-1]["eval_loss"] if evaluated else None,
        "samples": asdict(stats),
        "eval_samples": asdict(heldout) if heldout else None,
        "model_name_or_path": wanted["model_name_or_path"],
        "dataset_use": wanted["dataset_use"],
        "log_history": history,
    }
    write_json(output_dir / LOG, log)
