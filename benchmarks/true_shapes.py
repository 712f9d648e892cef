"""Memory and seconds of Qwen3-VL-2B and 4B as they are, with random weights, by phase.

    python benchmarks/true_shapes.py train --shape 2b --lora             # Step 4's launcher, two steps of one sample
    python benchmarks/true_shapes.py train --shape 2b --layers 4         # the first layers, where memory is short
    python benchmarks/true_shapes.py score --shape 2b                    # one pair through `Scorer`

A phase is told with its seconds and with the most memory that the processes held in it, files in the page cache not
counted. Memory and time are straight lines in the layers. What the run told before stands above the table.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from shapes import write_shape
from training_gpu import Step, launch, write_data

GIB = 2**30
HELD = re.compile(rb"^Pss_(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
"""Memory that no file stands behind; what processes share is counted once."""


class Watch(threading.Thread):
    """The most memory that a process and its children held in each phase, looked at ten times a second."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(process)
        self.phase = "load"
        self.begun = {"load": time.perf_counter()}
        self.peaks: dict[str, float] = {}
        self.start()

    def begin(self, phase: str) -> None:
        """A phase begins, and the one before ends."""
        self.phase = phase
        self.begun[phase] = time.perf_counter()

    def run(self) -> None:
        """Look until the process ends."""
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            held = 0
            for one in (self.process, *self.process.children(recursive=True)):
                try:
                    held += sum(map(int, HELD.findall(Path(f"/proc/{one.pid}/smaps_rollup").read_bytes())))
                except OSError:  # it has just ended
                    continue
            self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), held / 2**20)
            time.sleep(0.1)

    def rows(self) -> list[str]:
        """A line a phase."""
        ends = [*list(self.begun.values())[1:], time.perf_counter()]
        return [
            f"| {phase} | {end - begun:.0f} | {self.peaks.get(phase, 0):.2f} |"
            for (phase, begun), end in zip(self.begun.items(), ends, strict=True)
        ]


def train(checkpoint: Path, root: Path, flags: list[str], tokens: int) -> list[str]:
    """One run of the launcher; what its log says tells the phases."""
    annotation = write_data(root, 2, tokens)
    process = subprocess.Popen(
        **launch(checkpoint, annotation, root / "output", Step(2, 1, 1), ["--dataloader_num_workers", "0", *flags]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    for line in process.stderr:
        sys.stderr.write(line)
        if line.startswith("memory:"):
            print(line.strip())
        elif line.startswith("parameters:"):
            watch.begin("step")
        elif line.startswith("step 2 of 2"):
            watch.begin("save")
        elif line.startswith("merging"):
            watch.begin("merge")
    if process.wait():
        raise SystemExit(f"the run ended with status {process.returncode}")
    return watch.rows()


def score(checkpoint: Path, root: Path) -> list[str]:
    """One pair through `Scorer`, with short bounds on its replies: random weights write no list or text that ends."""
    code = (
        "import sys\nfrom PIL import Image\nfrom dyneval import Scorer\n"
        "from dyneval.replies import ReplyLimits\nfrom dyneval.scorer.settings import ScorerSettings\n"
        "settings = ScorerSettings(limits=ReplyLimits().capped(3, 20))\n"
        "scorer = Scorer.from_pretrained(sys.argv[1], settings=settings)\nprint('loaded', flush=True)\n"
        "print(scorer.score([Image.new('RGB', (512, 512))], ['a red square']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, checkpoint], stdout=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    for line in process.stdout:
        sys.stderr.write(line)
        if line.startswith("loaded"):
            watch.begin("score")
    if process.wait():
        raise SystemExit(f"scoring ended with status {process.returncode}")
    return watch.rows()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument("--shape", choices=["2b", "4b"], default="2b")
    parser.add_argument("--layers", type=int, help="the first of the language model's layers (default: all)")
    parser.add_argument("--lora", action="store_true", help="adapters in place of the whole model")
    parser.add_argument("--tokens", type=int, default=700, help="of a training sample, a third of them targets")
    parser.add_argument("--checkpoint", type=Path, help="one that is there already")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        checkpoint = chosen.checkpoint or root / "checkpoint"
        if not chosen.checkpoint:
            write_shape(checkpoint, chosen.shape, chosen.layers)
        flags = ["--lora_enable", "True"] if chosen.lora else []
        rows = train(checkpoint, root, flags, chosen.tokens) if chosen.what == "train" else score(checkpoint, root)
    layers = f", {chosen.layers} layers" if chosen.layers else ""
    print(f"Qwen3-VL-{chosen.shape.upper()}{layers}, {chosen.what}{' LoRA' * chosen.lora}")
    print("| phase | seconds | peak GiB |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
