"""All parts of `benchmarks/gpu.sh`, which says what they are for."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shapes import write_shape

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
OWN = ROOT / ".venv-vllm" / "bin" / "python"


@dataclass(frozen=True)
class Part:
    """A command, and the most seconds that it may take."""

    name: str
    seconds: int
    command: list[object]


def vllm_python() -> Path | None:
    """A Python that has vLLM; None where there is none."""
    if named := os.environ.get("VLLM_PYTHON"):
        return Path(named)
    if OWN.exists():
        return OWN
    return Path(sys.executable) if importlib.util.find_spec("vllm") else None


def parts(folder: Path, dry: bool) -> Iterator[Part]:
    """The parts by their worth. Checkpoints are written when the first part that needs one is asked for."""
    python, vllm = Path(sys.executable), vllm_python()
    small, large = ("tiny", "tiny") if dry else ("2b", "4b")
    yield Part("environment", 60, [python, "-m", "dyneval", "doctor"])

    alike = [python, HERE / "engines.py", "--pairs", 3 if dry else 16, "--rows", "bfloat16"]
    alike += [] if dry else ["cuda"]
    yield Part("parity with transformers on the CPU", 120, alike)
    if vllm and not dry:
        yield Part("parity with vLLM", 150, [vllm, HERE / "engines.py", "--pairs", 16, "--rows", "here"])

    student = folder / small
    write_shape(student, small, device="cpu" if dry else "cuda")
    pairs = ["--images", 2 if dry else 128, "--batch-size", 2 if dry else 64, "--checkpoint", student]
    kind = ["--dtype", "float32" if dry else "bfloat16", "--side", 256, *["--short"] * dry]
    score = [python, HERE / "scoring.py", "--baseline-images", 1 if dry else 2, *pairs, *kind]
    yield Part(f"scoring, {small}", 150, score)
    if vllm and not dry:
        served = [vllm, HERE / "scoring.py", "--engine", "vllm", "--baseline-images", 0, *pairs, *kind]
        yield Part(f"scoring by vLLM, {small}", 180, served)

    steps = ["--steps", "2", "--batch", "1", "--batches", "1"] if dry else ["--steps", "12"]
    # A pack of 8,192 tokens would take a CPU 14 GiB.
    short = ["env", "MODEL_MAX_LENGTH=1024"] * dry
    train = [*short, python, HERE / "training_gpu.py", *steps, "--checkpoint"]
    variants = ["packed_sdpa", "packed", "lora", "plain"] if dry else ["auto", "packed_sdpa", "packed", "lora", "plain"]
    yield Part(f"training, {small}", 240, [*train, student, "--shape", small, "--variants", *variants])

    clients = ["--clients", 4 if dry else 64, "--seconds", 3 if dry else 20, "--no-baseline"]
    clients += ["--device", "cpu" if dry else "cuda", "--checkpoint", student]
    yield Part(f"server, {small}", 90, [python, HERE / "serving.py", *clients])

    if not dry:
        shutil.rmtree(student)
        student = folder / large
        write_shape(student, large, device="cuda")
        yield Part(f"training, {large}", 200, [*train, student, "--shape", large, "--variants", "auto", "lora"])
        score = [python, HERE / "scoring.py", "--baseline-images", 1, *pairs[:-1], student, *kind]
        yield Part(f"scoring, {large}", 150, score)


def main() -> int:
    """Run the parts; returns 1 where one failed or was left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on the CPU, with tiny models")
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("gpu.txt"), help="default: %(default)s")
    chosen = parser.parse_args()
    until = time.monotonic() + 60 * chosen.minutes
    failed = False
    with tempfile.TemporaryDirectory() as folder, chosen.output.open("w") as file:

        def tell(line: str) -> None:
            file.write(line)
            file.flush()
            sys.stdout.write(line)
            sys.stdout.flush()

        for part in parts(Path(folder), chosen.dry):
            left = min(part.seconds, until - time.monotonic())
            tell(f"\n## {part.name}\n\n")
            begun = time.monotonic()
            said = run(part, left, tell) if left > 10 else "left out: no time is left"
            failed |= bool(said)
            tell(f"\n({said or 'done'}, {time.monotonic() - begun:.0f} s)\n")
    return int(failed)


def run(part: Part, seconds: float, tell: Callable[[str], None]) -> str:
    """Pass a command's output on line by line; returns what went wrong."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = ["timeout", "--kill-after", "5", f"{seconds:.0f}", *map(str, part.command)]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=told, text=True)
        for line in process.stdout:
            tell(line)
        if not process.wait():
            return ""
        told.seek(0)
        last = (told.read().strip().splitlines() or [""])[-1]
    return f"stopped after {seconds:.0f} s" if process.returncode in (124, 137) else f"failed: {last[:500]}"


if __name__ == "__main__":
    sys.exit(main())
