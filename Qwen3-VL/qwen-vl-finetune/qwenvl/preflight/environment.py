"""Checks packages, devices, disk space and the state of the output folders."""

from __future__ import annotations

import os
import shutil

from qwenvl.preflight import CheckResult, Recipe
from qwenvl.train.checkpoints import newest_complete, steps_of
from qwenvl.train.run_record import LOG, installed_version

REQUIRED = ("torch", "transformers", "accelerate", "deepspeed", "safetensors", "tokenizers", "pillow")
OPTIONAL = {"flash-attn": "attention falls back to SDPA", "peft": "no LoRA", "tensorboard": "", "wandb": ""}
STAGES = ("stage1_t2ia", "stage2_iqa")


def check_packages() -> CheckResult:
    """Check required packages and their versions."""
    found = {name: installed_version(name) for name in (*REQUIRED, *OPTIONAL)}
    missing = [name for name in REQUIRED if found[name] is None]
    shown = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    if missing:
        message = f"not installed: {', '.join(missing)}; run: pip install -e '.[train]'"
        return CheckResult(name="packages", status="error", message=message, details=dict(found))
    # transformers 5 builds the attention boundaries of flat batches by itself; 4 needed patches for it.
    if int(str(found["transformers"]).split(".")[0]) < 5:
        message = f"transformers {found['transformers']} is too old; DynEval needs 5.3 or newer"
        return CheckResult(name="packages", status="error", message=message, details=dict(found))
    if str(found["torch"]).startswith("2.9."):
        # https://github.com/pytorch/pytorch/issues/174051
        message = f"torch {found['torch']} has a Conv3d that slows the patch embedding 10-20 times; use another version"
        return CheckResult(name="packages", status="warning", message=message, details=dict(found))
    return CheckResult(name="packages", status="ok", message=shown, details=dict(found))


def check_devices() -> CheckResult:
    """Check the GPUs: their memory, and that they compute in bf16."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        cores = len(os.sched_getaffinity(0))
        message = f"no GPU: training will run on {cores} CPU cores, for tiny models only"
        return CheckResult(name="devices", status="warning", message=message, details={"gpus": 0, "cores": cores})
    names = [torch.cuda.get_device_name(index) for index in range(count)]
    memory = [torch.cuda.get_device_properties(index).total_memory / 2**30 for index in range(count)]
    details = {"gpus": count, "names": names, "memory_gib": [round(size, 1) for size in memory]}
    if not torch.cuda.is_bf16_supported():
        message = f"{names[0]} does not compute in bf16, which the recipe trains in; set BF16=False"
        return CheckResult(name="devices", status="error", message=message, details=details)
    return CheckResult(
        name="devices", status="ok", message=f"{count} x {names[0]}, {memory[0]:.0f} GiB, bf16", details=details
    )


def check_disk(recipe: Recipe, parameters: int, trained: int) -> CheckResult:
    """Check that two checkpoints fit on the disk.

    Args:
        recipe: names the folder of the runs, which need not exist yet.
        parameters: of the model, adapters among them.
        trained: how many of them are trained.
    """
    # Two, since an old checkpoint is deleted only when the next one is complete. Each has 2 bytes a parameter for
    # weights, and 12 a trained one for the optimizer: float32 weights and Adam's two moments.
    folder = recipe.output_root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    needed = 2 * (2 * parameters + 12 * trained)
    details = {"free_gib": round(free / 2**30, 1), "needed_gib": round(needed / 2**30, 1)}
    message = f"{details['free_gib']} GiB free for {recipe.output_root}, two checkpoints need {details['needed_gib']}"
    if free < needed:
        return CheckResult(name="disk", status="error", message=message, details=details)
    return CheckResult(name="disk", status="ok", message=message, details=details)


def check_outputs(recipe: Recipe) -> CheckResult:
    """Report what the output folders hold already, and what a run would do there."""
    states = {}
    for folder in sorted(recipe.output_root.glob("dyneval_*_stage*")):
        if folder.name.endswith(STAGES):
            state = "interrupted checkpoint only, starts anew" if steps_of(folder) else "nothing trained yet"
            if newest := newest_complete(folder):
                state = f"will resume from {newest.name}"
            states[folder.name] = "finished, will be kept" if (folder / LOG).is_file() else state
    shown = "; ".join(f"{name}: {state}" for name, state in states.items())
    message = shown or f"{recipe.output_root}: empty, both stages start anew"
    return CheckResult(name="outputs", status="ok", message=message, details=states)
