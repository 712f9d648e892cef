"""Runs all checks and prints them, for people or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from qwenvl.preflight import Check, launched


def run_checks(arguments: Sequence[str], chosen: argparse.Namespace) -> list[Check]:
    """All checks in order; later ones use what earlier ones found."""
    from dyneval.processing import TRAINING_LIMITS
    from qwenvl.preflight.environment import check_devices, check_disk, check_outputs, check_packages

    packages = check_packages()
    if packages.status == "error":
        return [packages]
    from qwenvl.preflight.arguments import check_arguments
    from qwenvl.preflight.data import check_stage, stages
    from qwenvl.preflight.model import check_memory, check_model, check_tokens
    from qwenvl.preflight.weights import check_weights

    root = Path(chosen.output_root or os.environ.get("OUTPUT_ROOT") or "./output")
    given, read = check_arguments(launched(arguments, chosen.model, root), root)
    if read is None:
        return [packages, given]
    recipe, model_arguments, data_arguments = read
    devices = check_devices()
    model, sizes = check_model(recipe, model_arguments)
    weights = [check_weights(model_arguments, data_arguments)] if model.status == "ok" else []
    tokens, processor = check_tokens(recipe)
    ranks = max(1, int(devices.details["gpus"]))
    data = [
        check for name in stages() for check in check_stage(name, recipe, processor, chosen.full, chosen.workers, ranks)
    ]
    # Where no sample was counted, an EVALUATION sample of 20 questions stands for all.
    largest = max((check.details["largest_batch"] for check in data if "largest_batch" in check.details), default=0)
    largest = largest or recipe.per_device_train_batch_size * 1032
    pixels = processor.max_pixels if processor else recipe.max_pixels or TRAINING_LIMITS.max_pixels
    memory = check_memory(recipe, sizes, devices.details, pixels, largest)
    disk = [check_disk(recipe, sizes.everything, sizes.trained)] if sizes else []
    return [packages, given, devices, model, *weights, tokens, memory, *disk, check_outputs(recipe), *data]


def main(arguments: list[str] | None = None) -> int:
    """Command line of `scripts/validate_dyneval_train_setup.py`; returns 1 when a check found an error."""
    parser = argparse.ArgumentParser(
        description="Check machine, model and data before training; changes nothing. All other arguments are those of "
        "the run, as the launch script takes them; its variables count as well.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", help="checkpoint folder or id; default: MODEL_NAME_OR_PATH")
    parser.add_argument("--output-root", help="folder of the runs; default: OUTPUT_ROOT or ./output")
    parser.add_argument("--full", action="store_true", help="decode every image and count the tokens of every sample")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    chosen, rest = parser.parse_known_args(arguments)
    checks = run_checks(rest, chosen)
    errors = sum(check.status == "error" for check in checks)
    sys.stdout.write(_as_json(checks) if chosen.json else _as_text(checks, errors))
    return 1 if errors else 0


def _as_json(checks: list[Check]) -> str:
    errors = any(check.status == "error" for check in checks)
    return json.dumps({"ok": not errors, "checks": [asdict(check) for check in checks]}, indent=2) + "\n"


def _as_text(checks: list[Check], errors: int) -> str:
    marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
    lines = [f"{marks[check.status]}  {check.name}: {check.message}" for check in checks]
    verdict = "ready to train" if not errors else f"{errors} error(s); do not start the training"
    return "\n".join([*lines, verdict]) + "\n"
