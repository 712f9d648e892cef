"""Memory and seconds of Qwen3-VL-2B and 4B as they are, with random weights, by phase.

    python benchmarks/true_shapes.py train --shape 2b --lora             # Step 4's launcher, two steps of one sample
    python benchmarks/true_shapes.py train --shape 2b --layers 4         # the first layers, where memory is short
    python benchmarks/true_shapes.py score --shape 2b                    # one pair through `Scorer`

A phase is told with its seconds and with the most memory that the processes held in it, files in the page cache not
counted. Memory and time are straight lines in the layers. What the run told before stands above the table.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Flags, MemoryWatch, Results
from shapes import write_shape
from training_gpu import StepSize, launch, write_data


def train(checkpoint: Path, root: Path, flags: list[str], tokens: int) -> MemoryWatch:
    """One run of the launcher, two steps of one sample; lines of its log tell where a phase begins."""
    annotation = write_data(root, 2, tokens)
    process = subprocess.Popen(
        **launch(checkpoint, annotation, root / "output", StepSize(2, 1, 1), ["--dataloader_num_workers", "0", *flags]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watch = MemoryWatch(process.pid, "load", with_files=False)
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
    watch.over.set()
    watch.join()
    return watch


def score(checkpoint: Path, root: Path) -> MemoryWatch:
    """One pair through `Scorer`, with short bounds on its replies: random weights write no list or text that ends."""
    code = (
        "import sys\nfrom PIL import Image\nfrom dyneval import Scorer\n"
        "from dyneval.replies import ReplyLimits\nfrom dyneval.scorer.settings import ScorerSettings\n"
        "settings = ScorerSettings(limits=ReplyLimits().capped(3, 20))\n"
        "scorer = Scorer.from_pretrained(sys.argv[1], settings=settings)\nprint('loaded', flush=True)\n"
        "print(scorer.score([Image.new('RGB', (512, 512))], ['a red square']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, checkpoint], stdout=subprocess.PIPE, text=True)
    watch = MemoryWatch(process.pid, "load", with_files=False)
    for line in process.stdout:
        sys.stderr.write(line)
        if line.startswith("loaded"):
            watch.begin("score")
    if process.wait():
        raise SystemExit(f"scoring ended with status {process.returncode}")
    watch.over.set()
    watch.join()
    return watch


def main() -> None:
    """Print one table."""
    flags = Flags(__doc__)
    flags.add_argument("what", choices=["train", "score"])
    flags.add_argument("--shape", choices=["tiny", "2b", "4b"], default="2b", smoke="tiny")
    flags.add_argument("--layers", type=int, help="the first of the language model's layers (default: all)")
    flags.add_argument("--lora", action="store_true", help="adapters in place of the whole model")
    flags.add_argument("--tokens", type=int, default=700, smoke=200, help="of a sample, a third of them targets")
    flags.add_argument("--checkpoint", type=Path, help="one that is there already")
    arguments = flags.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        checkpoint = arguments.checkpoint or root / "checkpoint"
        if not arguments.checkpoint:
            write_shape(checkpoint, arguments.shape, arguments.layers)
        lora = ["--lora_enable", "True"] if arguments.lora else []
        if arguments.what == "train":
            watch = train(checkpoint, root, lora, arguments.tokens)
        else:
            watch = score(checkpoint, root)
    layers = f", {arguments.layers} layers" if arguments.layers else ""
    title = f"Qwen3-VL-{arguments.shape.upper()}{layers}, {arguments.what}{' LoRA' * arguments.lora}"
    results.table({"phase": "", "seconds": ".0f", "peak GiB": ".2f"}, title)
    for phase, usage in watch.phases.items():
        results.row(phase, usage.wall, usage.peak / 1024)


if __name__ == "__main__":
    main()
