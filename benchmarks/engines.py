"""What a student's scores become behind other engines and when quantised: the demo judge beside engine transformers.

    python benchmarks/engines.py [--pairs 48] [--rows vllm bnb4 ...]

All rows score the same new drawings of the demo world, by `inference/run_inference.py`, on the CPU. Servers and
packages come from the environments of the tests, which are made where they are missing (1.5 GB). Rows for a GPU are
`cuda`, and `here`: the vLLM of the Python that runs this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from scipy.stats import spearmanr

from dyneval.demo.prompts import demo_prompts
from dyneval.demo.weights import write_judge
from dyneval.files.jsonl import read_jsonl
from tests.environments import environment
from tests.real_engines.conftest import SMALL_VLLM, free_port, llama_server, score, serving, vllm_server, write_pairs

QUANTISE = Path(__file__).resolve().parents[1] / "tests" / "real_engines" / "quantise.py"
MODELS = ("demo-painter", "demo-sketcher", "demo-doodler")
QUANTISED = {"bnb8": "bitsandbytes 8 bits", "bnb4": "bitsandbytes nf4", "torchao8": "torchao int8"}


class Row(NamedTuple):
    """One engine: the Python that scores, its flags, and the student where that is another folder than the judge."""

    name: str
    python: Path
    flags: tuple[str, ...] = ()
    student: Path | None = None
    server: list[Any] | None = None


def rows(names: list[str], judge: Path, folder: Path) -> list[Row]:
    """The engines that are asked for, their quantised students made."""
    here = Path(sys.executable)
    found = [Row("transformers, bfloat16", here, ("--device", "cpu", "--dtype", "bfloat16"))] * ("bfloat16" in names)
    for dtype in ("float32", "bfloat16"):
        if "cuda" in names:
            found.append(Row(f"transformers on the GPU, {dtype}", here, ("--device", "cuda", "--dtype", dtype)))
        if "here" in names:
            flags = ("--engine", "vllm", "--dtype", dtype, *SMALL_VLLM)
            found.append(Row(f"vLLM of this Python, {dtype}", here, flags))
    for kind, told in QUANTISED.items():
        if kind in names:
            python = environment("quantised")
            subprocess.run([python, QUANTISE, kind, judge, folder / kind], check=True, capture_output=True)
            found.append(Row(f"transformers, {told}", python, (), folder / kind))
    for kind in ("f32", "q8_0", "q4_0"):
        if kind in names:
            found.append(Row(f"llama.cpp server, {kind.upper()}", here, server=llama_server(judge, folder, kind)))
    return [*found, *(vllm_rows(judge) if "vllm" in names else ())]


def vllm_rows(judge: Path) -> list[Row]:
    """VLLM for CPUs, behind its server and in process."""
    python = environment("vllm")
    server = [*vllm_server(python, judge), "--dtype", "float32"]
    flags = {dtype: ("--engine", "vllm", "--dtype", dtype, *SMALL_VLLM) for dtype in ("float32", "bfloat16")}
    inside = [Row(f"vLLM in process, {dtype}", python, flags[dtype]) for dtype in flags]
    return [Row("vLLM server, float32", Path(sys.executable), server=server), *inside]


def score_by(row: Row, judge: Path, metadata: Path, output: Path) -> tuple[dict[str, Any], float]:
    """Records by pair_id, and seconds with the start of engine or server."""
    started = time.perf_counter()
    served: AbstractContextManager[Any] = nullcontext()
    flags = row.flags
    if row.server:
        port = free_port()
        served = serving([*row.server, "--port", str(port)], port, output.with_suffix(".log"))
        flags = ("--engine", "openai", "--base-url", f"http://127.0.0.1:{port}/v1")
    with served:
        done = score(row.python, row.student or judge, metadata, output, *flags)
    if done.returncode:
        raise SystemExit(f"{row.name}: {done.stderr[-2000:]}")
    return {one["pair_id"]: one for one in read_jsonl(output)}, time.perf_counter() - started


def main() -> None:
    """Print the table, a row as soon as it is known."""
    kinds = ["bfloat16", "bnb8", "bnb4", "torchao8", "f32", "q8_0", "q4_0", "vllm"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--rows", nargs="+", choices=[*kinds, "cuda", "here"], default=kinds)
    chosen = parser.parse_args()
    # The judge is tiny: more threads only wait for each other.
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge = folder / "demo_judge"
        write_judge(judge)
        # A demo world of their own.
        prompts = demo_prompts(chosen.pairs, 41)
        metadata, known = write_pairs(folder, [(MODELS[n % 3], prompt, 128) for n, prompt in enumerate(prompts)])
        truth = {name: (one.truth_t2ia + one.truth_iqa) / 2 for name, one in known.items()}
        print("| engine | seconds | scores equal | soft: mean, largest difference | SRCC with the truth |")
        print("|---|---|---|---|---|")
        reference: dict[str, Any] = {}
        first = Row("transformers, float32", Path(sys.executable), ("--device", "cpu"))
        for number, row in enumerate((first, *rows(chosen.rows, judge, folder))):
            found, seconds = score_by(row, judge, metadata, folder / f"{number}.jsonl")
            reference = reference or found
            print(
                f"| {row.name} | {seconds:.0f} | {compared(found, reference)} | {agreement(found, truth):.3f} |",
                flush=True,
            )


def compared(found: dict[str, Any], reference: dict[str, Any]) -> str:
    """Cells: how many overall scores are equal, and how far the soft ones are apart."""
    equal = sum(one["overall"] == reference[name]["overall"] for name, one in found.items())
    apart = [abs(one["soft"]["overall"] - reference[name]["soft"]["overall"]) for name, one in found.items()]
    return f"{equal} of {len(found)} | {fmean(apart):.3f}, {max(apart):.3f}"


def agreement(found: dict[str, Any], truth: dict[str, float]) -> float:
    """Spearman correlation of the soft overall scores with the truth."""
    return float(spearmanr([one["soft"]["overall"] for one in found.values()], [truth[name] for name in found])[0])


if __name__ == "__main__":
    main()
