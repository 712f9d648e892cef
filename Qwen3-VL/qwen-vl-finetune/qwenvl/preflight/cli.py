"""Runs all checks and prints their findings, for people or as JSON (`scripts/validate_dyneval_train_setup.py`)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from qwenvl.preflight import CheckResult, launched

_MARKS = {"ok": "ok     ", "note": "note   ", "warning": "warning", "error": "ERROR  "}


def run_checks(arguments: Sequence[str], chosen: argparse.Namespace) -> Iterator[CheckResult]:
    """Yield the finding of each check as soon as it is done; later checks use what earlier ones found."""
    # Quick checks come first: downloading a model, or failing to reach the Hub, takes minutes. Imports stand between
    # them because qwenvl.preflight.arguments needs torch and transformers, and packages are checked before.
    from dyneval.processing import TRAINING_LIMITS
    from qwenvl.preflight.environment import check_devices, check_disk, check_outputs, check_packages

    packages = check_packages()
    yield packages
    if packages.status == "error":
        return
    from qwenvl.preflight.arguments import check_arguments
    from qwenvl.preflight.data import check_source, find_sources
    from qwenvl.preflight.model import check_memory, check_model, check_tokens
    from qwenvl.preflight.weights import check_weights

    root = Path(chosen.output_root or os.environ.get("OUTPUT_ROOT") or "./output")
    given, read = check_arguments(launched(arguments, chosen.model, root), root)
    yield given
    if read is None:
        return
    recipe, model_arguments, data_arguments = read
    devices = check_devices()
    yield devices
    yield check_outputs(recipe)
    problems, sources = find_sources(recipe)
    yield from problems
    model, sizes = check_model(recipe, model_arguments)
    yield model
    tokens, processor = check_tokens(recipe)
    yield tokens
    ranks = max(1, int(devices.details["gpus"]))
    largest = 0
    for source, samples in sources:
        for check in check_source(source, samples, recipe, processor, chosen.full, chosen.workers, ranks):
            yield check
            largest = max(largest, check.details.get("largest_batch", 0))
    # Where no sample could be counted, assume EVALUATION samples of 20 questions: 1,032 tokens each.
    largest = largest or recipe.per_device_train_batch_size * 1032
    pixels = processor.max_pixels if processor else recipe.max_pixels or TRAINING_LIMITS.max_pixels
    memory = check_memory(recipe, sizes, devices.details, pixels, largest)
    yield memory
    if sizes:
        yield check_disk(recipe, sizes.everything, sizes.trained)
    if model.status == "ok" and memory.status != "error":
        yield check_weights(model_arguments, data_arguments)
    else:
        yield CheckResult(name="weights", status="note", message="not loaded: see model and memory")


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
    checks = []
    for check in run_checks(rest, chosen):
        checks.append(check)
        if not chosen.json:
            _tell(f"{_MARKS[check.status]}  {check.name}: {check.message}")
    errors = sum(check.status == "error" for check in checks)
    if chosen.json:
        _tell(json.dumps({"ok": not errors, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _tell(f"{errors} error(s); do not start the training" if errors else "ready to train")
    return 1 if errors else 0


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
