"""Preflight: finds what is wrong with machine, model and data before GPU hours are spent. It changes nothing.

Each check returns a `CheckResult`, and calls the functions that training itself calls: a check with rules of its own
would pass what training refuses. `cli` runs them all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "note", "warning", "error"]
SCRIPTS = Path(__file__).parents[2] / "scripts"


@dataclass(kw_only=True, slots=True)
class CheckResult:
    """What one check found: its name, the status, and a message with the remedy where something is wrong."""

    name: str
    status: Status
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The settings that the checks depend on."""

    model: str
    output_root: Path
    dataset_use: str
    eval_split: str | None = None
    deepspeed: Path
    max_pixels: int | None = None
    min_pixels: int | None = None
    model_max_length: int = 8192
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 4
    num_train_epochs: float = 0.5
    tune_mm_vision: bool = False
    tune_mm_mlp: bool = True
    tune_mm_llm: bool = True
    lora_enable: bool = False
    lora_r: int = 64
    lora_modules: str = "q_proj,k_proj,v_proj,o_proj"
    loss_chunks: int = 8
    data_packing: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any], output_root: Path) -> Recipe:
        """Take the values of the run's options, see `qwenvl.train.parsing.parse`."""
        taken = {field.name for field in fields(cls)} & values.keys() - {"deepspeed"}
        deepspeed = Path(values["deepspeed"] or SCRIPTS / "zero3.json")
        model = values["model_name_or_path"]
        return cls(model=model, output_root=output_root, deepspeed=deepspeed, **{name: values[name] for name in taken})


VARIABLES = (
    *("TUNE_MM_VISION", "TUNE_MM_MLP", "TUNE_MM_LLM", "LORA_ENABLE", "LORA_R", "LORA_ALPHA", "LORA_DROPOUT"),
    *("DATA_FLATTEN", "DATA_PACKING", "MAX_PIXELS", "MIN_PIXELS", "MODEL_MAX_LENGTH", "LEARNING_RATE"),
    *("LR_SCHEDULER_TYPE", "WARMUP_RATIO", "WEIGHT_DECAY", "MAX_GRAD_NORM", "NUM_TRAIN_EPOCHS"),
    *("PER_DEVICE_TRAIN_BATCH_SIZE", "GRADIENT_ACCUMULATION_STEPS", "GRADIENT_CHECKPOINTING", "SAVE_STEPS"),
    *("SAVE_TOTAL_LIMIT", "LOGGING_STEPS", "DATALOADER_NUM_WORKERS", "SEED", "REPORT_TO", "DEEPSPEED", "BF16"),
    *("LOSS_CHUNKS", "EVAL_SPLIT"),
)
"""Environment variables that `scripts/sft_common.sh` turns into options of the same name in small letters."""


def launched(arguments: Sequence[str], model: str | None, output_root: Path) -> list[str]:
    """Return the command line that the launcher would give to the training.

    Args:
        arguments: further options; they come last, so that they win over the variables.
        model: checkpoint; default: MODEL_NAME_OR_PATH.
        output_root: folder of the runs.
    """
    chosen = model or os.environ.get("MODEL_NAME_OR_PATH") or "Qwen/Qwen3-VL-2B-Instruct"
    # Both stages, since a mistake in the data of the second would only show after the first was trained.
    whole = os.environ.get("DYNEVALINSTRUCT_ANNOTATION") or os.environ.get("DYNEVALINSTRUCT_DATA")
    parts = any(os.environ.get(f"DYNEVALINSTRUCT_{part}_ANNOTATION") for part in ("T2IA", "IQA"))
    stages = "dynevalinstruct" if whole and not parts else "dynevalinstruct_t2ia,dynevalinstruct_iqa"
    datasets = os.environ.get("DATASET_USE") or stages
    line = ["--model_name_or_path", chosen, "--dataset_use", datasets, "--output_dir", str(output_root)]
    for name in VARIABLES:
        if value := os.environ.get(name):
            line += [f"--{name.lower()}", value]
    if os.environ.get("EVAL_SPLIT"):
        line += ["--eval_steps", os.environ.get("EVAL_STEPS") or "1000"]
    return [*line, *arguments]
