"""Preflight: everything that can be known to be wrong before GPU hours are spent. Nothing is ever changed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dyneval.errors import SettingError

Status = Literal["ok", "warning", "error"]
SCRIPTS = Path(__file__).parents[2] / "scripts"


@dataclass(kw_only=True, slots=True)
class Check:
    """One finding: what was looked at, how it stands, and what to do where it does not."""

    name: str
    status: Status
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The settings that the checks depend on, read from the variables that the launcher reads."""

    model: str
    output_root: Path
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

    @classmethod
    def from_environment(cls, model: str | None = None, output_root: str | None = None) -> Recipe:
        """Read MODEL_NAME_OR_PATH, OUTPUT_ROOT, DEEPSPEED and the recipe's variables; arguments win.

        Raises SettingError where one should be a number and is none.
        """
        chosen: dict[str, Any] = {
            "model": model or os.environ.get("MODEL_NAME_OR_PATH") or "Qwen/Qwen3-VL-2B-Instruct",
            "output_root": Path(output_root or os.environ.get("OUTPUT_ROOT") or "./output"),
            "deepspeed": Path(os.environ.get("DEEPSPEED") or SCRIPTS / "zero3.json"),
        }
        for name in ("max_pixels", "min_pixels", "model_max_length", "lora_r"):
            chosen |= _number(name, int)
        for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
            chosen |= _number(name, int)
        chosen |= _number("num_train_epochs", float)
        for name in ("tune_mm_vision", "tune_mm_mlp", "tune_mm_llm", "lora_enable"):
            if name.upper() in os.environ:
                chosen[name] = os.environ[name.upper()].lower() in ("true", "1", "yes")
        return cls(**chosen)


def _number(name: str, kind: type[int] | type[float]) -> dict[str, Any]:
    value = os.environ.get(name.upper())
    try:
        return {name: kind(value)} if value else {}
    except ValueError:
        raise SettingError(f"{name.upper()} is {value!r}, expected a number") from None
