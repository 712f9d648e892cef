"""What a student's scores become behind other engines and when quantised: the demo judge beside engine transformers.

    python benchmarks/engines.py --pairs 48 --rows vllm bnb4

All rows score the same new drawings of the demo world, by `inference/run_inference.py`, on the CPU. Servers and
packages come from the environments of the tests, which are made where they are missing (1.5 GB). Rows for a GPU are
`cuda`, and `here`: the vLLM of the Python that runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from harness import ROOT, Flags, Results
from scipy.stats import spearmanr

from dyneval.demo.prompts import demo_prompts
from dyneval.demo.weights import write_judge
from dyneval.files.jsonl import read_jsonl
from tests.environments import environment
from tests.real_engines.conftest import SMALL_VLLM, free_port, llama_server, score, serving, vllm_server, write_pairs

HERE = Path(sys.executable)
QUANTISE = ROOT / "tests" / "real_engines" / "quantise.py"
MODELS = ("demo-painter", "demo-sketcher", "demo-doodler")
QUANTISED = {"bnb8": "bitsandbytes 8 bits", "bnb4": "bitsandbytes nf4", "torchao8": "torchao int8"}


class EngineRun(NamedTuple):
    """A row of the table: the Python that scores, its flags, and student or server where it needs others."""

    name: str
    python: Path
    flags: tuple[str, ...] = ()
    student: Path | None = None
    server: list[Any] | None = None


def engine_runs(names: list[str], judge: Path, folder: Path) -> list[EngineRun]:
    """The engines that are asked for, their quantised students made."""
    found = []
    if "bfloat16" in names:
        found.append(EngineRun("transformers, bfloat16", HERE, ("--device", "cpu", "--dtype", "bfloat16")))
    for dtype in ("float32", "bfloat16"):
        if "cuda" in names:
            found.append(EngineRun(f"transformers on the GPU, {dtype}", HERE, ("--device", "cuda", "--dtype", dtype)))
        if "here" in names:
            flags = ("--engine", "vllm", "--dtype", dtype, *SMALL_VLLM)
            found.append(EngineRun(f"vLLM of this Python, {dtype}", HERE, flags))
    for kind, told in QUANTISED.items():
        if kind in names:
            python = environment("quantised")
            subprocess.run([python, QUANTISE, kind, judge, folder / kind], check=True, capture_output=True)
            found.append(EngineRun(f"transformers, {told}", python, (), folder / kind))
    for kind in ("f32", "q8_0", "q4_0"):
        if kind in names:
            found.append(EngineRun(f"llama.cpp server, {kind.upper()}", HERE, server=llama_server(judge, folder, kind)))
    return [*found, *(vllm_runs(judge) if "vllm" in names else ())]


def vllm_runs(judge: Path) -> list[EngineRun]:
    """VLLM for CPUs, behind its server and in process."""
    python = environment("vllm")
    server = [*vllm_server(python, judge), "--dtype", "float32"]
    found = [EngineRun("vLLM server, float32", HERE, server=server)]
    for dtype in ("float32", "bfloat16"):
        flags = ("--engine", "vllm", "--dtype", dtype, *SMALL_VLLM)
        found.append(EngineRun(f"vLLM in process, {dtype}", python, flags))
    return found


def score_by(run: EngineRun, judge: Path, metadata: Path, output: Path) -> tuple[dict[str, Any], float]:
    """Records by pair_id, and seconds with the start of engine or server."""
    started = time.perf_counter()
    served: AbstractContextManager[Any] = nullcontext()
    flags = run.flags
    if run.server:
        port = free_port()
        served = serving([*run.server, "--port", str(port)], port, output.with_suffix(".log"))
        flags = ("--engine", "openai", "--base-url", f"http://127.0.0.1:{port}/v1")
    with served:
        done = score(run.python, run.student or judge, metadata, output, *flags)
    if done.returncode:
        raise SystemExit(f"{run.name}: {done.stderr[-2000:]}")
    return {one["pair_id"]: one for one in read_jsonl(output)}, time.perf_counter() - started


def main() -> None:
    """Print the table, a row as soon as it is known."""
    kinds = ["bfloat16", *QUANTISED, "f32", "q8_0", "q4_0", "vllm"]
    flags = Flags(__doc__)
    flags.add_argument("--pairs", type=int, default=48, smoke=3)
    flags.add_argument("--rows", nargs="+", choices=[*kinds, "cuda", "here"], default=kinds, smoke=["bfloat16"])
    arguments = flags.parse_args()
    # The judge is tiny: more threads only wait for each other.
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    results = Results(arguments)
    columns = {"engine": "", "seconds": ".0f", "scores equal": "", "soft: mean difference": ".3f", "largest": ".3f"}
    results.table(columns | {"SRCC with the truth": ".3f"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judge = folder / "demo_judge"
        write_judge(judge)
        # Seed 41 makes another demo world than that of the demo's own run.
        prompts = demo_prompts(arguments.pairs, 41)
        metadata, known = write_pairs(folder, [(MODELS[n % 3], prompt, 128) for n, prompt in enumerate(prompts)])
        truth = {name: (one.truth_t2ia + one.truth_iqa) / 2 for name, one in known.items()}
        # The first row is the reference of all others.
        first = EngineRun("transformers, float32", HERE, ("--device", "cpu"))
        reference: dict[str, Any] = {}
        for number, run in enumerate((first, *engine_runs(arguments.rows, judge, folder))):
            found, seconds = score_by(run, judge, metadata, folder / f"{number}.jsonl")
            reference = reference or found
            equal = sum(one["overall"] == reference[name]["overall"] for name, one in found.items())
            soft = {name: one["soft"]["overall"] for name, one in found.items()}
            apart = [abs(score - reference[name]["soft"]["overall"]) for name, score in soft.items()]
            srcc = float(spearmanr(list(soft.values()), [truth[name] for name in soft])[0])
            results.row(run.name, seconds, f"{equal} of {len(found)}", fmean(apart), max(apart), srcc)


if __name__ == "__main__":
    main()
