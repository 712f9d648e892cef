"""All parts of `benchmarks/gpu.sh`: other benchmark programs, one after the other, each with a limit of time.

A rented GPU is paid by the minute and may be taken away, so the parts come by their worth, each line is written at
once, and a part that fails or takes too long leaves the others their time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT
from shapes import write_shape

HERE = Path(__file__).parent
# vLLM wants another transformers than training, hence an environment of its own.
OWN = ROOT / ".venv-vllm" / "bin" / "python"


@dataclass(frozen=True)
class TimedCommand:
    """A part of the run: a command, and the most seconds that it may take."""

    name: str
    seconds: int
    command: list[object]


def parts(folder: Path, dry: bool) -> Iterator[TimedCommand]:
    """The parts by their worth. Checkpoints are written when the first part that needs one is asked for."""
    python = Path(sys.executable)
    # The Python that is named, else that of an environment beside this one, else this one; none has to have vLLM.
    here = python if importlib.util.find_spec("vllm") else None
    vllm = os.environ.get("VLLM_PYTHON") or (OWN if OWN.exists() else here)
    small, large = ("tiny", "tiny") if dry else ("2b", "4b")
    yield TimedCommand("environment", 60, [python, "-m", "dyneval", "doctor"])

    alike = [python, HERE / "engines.py", "--pairs", 3 if dry else 16, "--rows", "bfloat16"]
    alike += [] if dry else ["cuda"]
    yield TimedCommand("parity with transformers on the CPU", 120, alike)
    if vllm and not dry:
        yield TimedCommand("parity with vLLM", 150, [vllm, HERE / "engines.py", "--pairs", 16, "--rows", "here"])

    student = folder / small
    write_shape(student, small, device="cpu" if dry else "cuda")
    pairs = ["--images", 2 if dry else 128, "--batch-size", 2 if dry else 64, "--checkpoint", student]
    kind = ["--dtype", "float32" if dry else "bfloat16", "--side", 256, *["--short"] * dry]
    score = [python, HERE / "scoring.py", "--baseline-images", 1 if dry else 2, *pairs, *kind]
    yield TimedCommand(f"scoring, {small}", 150, score)
    if vllm and not dry:
        served = [vllm, HERE / "scoring.py", "--engine", "vllm", "--baseline-images", 0, *pairs, *kind]
        yield TimedCommand(f"scoring by vLLM, {small}", 180, served)

    steps = ["--steps", "2", "--batch", "1", "--batches", "1"] if dry else ["--steps", "12"]
    # A pack of 8,192 tokens would take a CPU 14 GiB.
    short = ["env", "MODEL_MAX_LENGTH=1024"] * dry
    train = [*short, python, HERE / "training_gpu.py", *steps, "--checkpoint"]
    variants = ["packed_sdpa", "packed", "lora", "plain"] if dry else ["auto", "packed_sdpa", "packed", "lora", "plain"]
    yield TimedCommand(f"training, {small}", 240, [*train, student, "--shape", small, "--variants", *variants])

    clients = ["--clients", 4 if dry else 64, "--seconds", 3 if dry else 20, "--no-baseline"]
    clients += ["--device", "cpu" if dry else "cuda", "--checkpoint", student]
    yield TimedCommand(f"server, {small}", 90, [python, HERE / "serving.py", *clients])

    if not dry:
        # Both would take 13 GB of disk.
        shutil.rmtree(student)
        student = folder / large
        write_shape(student, large, device="cuda")
        yield TimedCommand(f"training, {large}", 200, [*train, student, "--shape", large, "--variants", "auto", "lora"])
        score = [python, HERE / "scoring.py", "--baseline-images", 1, *pairs[:-1], student, *kind]
        yield TimedCommand(f"scoring, {large}", 150, score)


def run_all(arguments: argparse.Namespace) -> Iterator[str]:
    """Run the parts and yield what they print, line by line. Raises SystemExit where one failed or was left out."""
    until = time.monotonic() + 60 * arguments.minutes
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(Path(folder), arguments.dry):
            seconds, begun, wrong = min(part.seconds, until - time.monotonic()), time.monotonic(), ""
            yield f"\n## {part.name}\n\n"
            # `timeout` also ends what the command has started. In less than 10 s no part gets past its imports.
            command = ["timeout", "--kill-after", "5", f"{seconds:.0f}", *map(str, part.command)]
            if seconds <= 10:
                wrong = "left out: no time is left"
            else:
                with tempfile.TemporaryFile("w+") as told:
                    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=told, text=True)
                    yield from process.stdout
                    if process.wait():
                        told.seek(0)
                        last = (told.read().strip().splitlines() or [""])[-1]
                        is_late = process.returncode in (124, 137)
                        wrong = f"stopped after {seconds:.0f} s" if is_late else f"failed: {last[:500]}"
            failed |= bool(wrong)
            yield f"\n({wrong or 'done'}, {time.monotonic() - begun:.0f} s)\n"
    if failed:
        raise SystemExit(1)


def main() -> None:
    """Run the parts; each line goes to standard output and to --output at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="on the CPU, with tiny models")
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("gpu.txt"), help="default: %(default)s")
    arguments = parser.parse_args()
    with arguments.output.open("w") as file:
        for line in run_all(arguments):
            for target in (file, sys.stdout):
                target.write(line)
                # Whoever takes the machine away must not take the figures.
                target.flush()


if __name__ == "__main__":
    main()
