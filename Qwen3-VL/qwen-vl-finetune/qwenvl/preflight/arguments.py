"""Checks the arguments of a run with the parser of the training itself.

Everything that `train_qwen.py` would refuse at its start is refused here, on a machine without GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dyneval.errors import SettingError
from qwenvl.preflight import CheckResult, Recipe
from qwenvl.train.argument import DataArguments, ModelArguments
from qwenvl.train.parsing import build, parse
from qwenvl.train.usage import first_look

Read = tuple[Recipe, ModelArguments, DataArguments]


def check_arguments(line: Sequence[str], output_root: Path) -> tuple[CheckResult, Read | None]:
    """Read the command line of a run. The settings are None where training would refuse it."""
    try:
        first_look(line)
        values = parse(line)
        recipe = Recipe.of(values, output_root)
        # DeepSpeed's configuration would change how models are loaded from here on; its file is read with the memory.
        model, data, _ = build(values | {"deepspeed": None, "use_cpu": not torch.cuda.is_available()})
    except SettingError as error:
        return CheckResult(name="arguments", status="error", message=str(error)), None
    return CheckResult(name="arguments", status="ok", message="the training takes them"), (recipe, model, data)
