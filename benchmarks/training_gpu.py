"""The launcher's training at a true shape with random weights, beside a plain padded Trainer: a row a variant.

    python benchmarks/training_gpu.py --shape 2b --checkpoint DIR --variants auto packed_sdpa packed lora plain

Useful tokens a second, model FLOPs utilisation and peak memory, from the steps after the warm-up. Part of
`benchmarks/gpu.sh`; on a CPU it takes the tiny shape.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness import ROOT, Flags, Results, alone
from shapes import SHAPES, write_shape

from qwenvl.train.meter import utilisation

SCRIPT = ROOT / "Qwen3-VL" / "qwen-vl-finetune" / "scripts" / "sft_qwen_3_vl_2b.sh"
# Steps that are not counted: kernels are chosen and memory is taken in them.
WARM_UP = 5
MEASURED = ("tokens_per_second", "padding_share", "mfu")
# Arguments of the launcher; `plain` is transformers' Trainer on padded batches.
VARIANTS: dict[str, tuple[str, ...]] = {
    "auto": (),
    "packed_sdpa": ("--attn_implementation", "packed_sdpa"),
    "packed": ("--data_packing", "True", "--per_device_train_batch_size", "1"),
    "lora": ("--lora_enable", "True", "--learning_rate", "1e-4"),
    "plain": (),
}


class StepSize(NamedTuple):
    """How many steps there are, and the samples of each: `batches` of `batch`."""

    count: int
    batch: int
    batches: int


class PlainRun(NamedTuple):
    """What a plain Trainer reached after its warm-up."""

    tokens_per_second: float
    padding_share: float
    flops_per_second: float
    memory_gib: float


def length_mix(count: int) -> list[tuple[int, int]]:
    """(question and image, answer) tokens of samples like DynEvalInstruct's, at 49 visual tokens an image.

    A third each: T2IA (a prompt, about 8 questions of 20 tokens), EVALUATION (the questions again with scores and a
    sentence of reasoning each), IQA (a scene graph and 5 to 67 questions: 14 on average for 1-5 objects, 67 for 16-20).
    """
    draw = random.Random(0)
    mix = []
    for number in range(count):
        prompt = min(300, int(draw.lognormvariate(3.6, 0.6)))
        questions = draw.randint(4, 12) + (draw.choice([5, 10, 14, 20, 40, 67]) if number % 3 else 0)
        t2ia, iqa = (prompt + 30, 22 * questions), (85, 120 + 28 * questions)
        evaluation = (prompt + 90 + 14 * questions, 35 * questions)
        mix.append((t2ia, evaluation, iqa)[number % 3])
    return mix


def write_data(root: Path, samples: int, tokens: int | None = None, shrink: int = 1) -> Path:
    """Annotations over one photograph-like image; returns their file.

    Lengths are DynEvalInstruct's mix, divided by `shrink`; with `tokens`, each sample has about so many, a third of
    them in its answer.
    """
    from PIL import Image

    from dyneval.tokens import evaluation_turn, t2ia_turn

    Image.effect_noise((1024, 1024), 60).convert("RGB").save(root / "image.jpg")
    rows = []
    lengths = [(tokens - tokens // 3, tokens // 3)] * samples if tokens else length_mix(samples)
    for number, (context, answer) in enumerate((one // shrink, other // shrink) for one, other in lengths):
        prompt = "a" + " cat" * max(1, context - 80)
        # The lengths of IQA samples stand behind EVALUATION turns: stage 1 trains no others.
        human = evaluation_turn(prompt, ["Is there a cat?"]) if number % 3 else t2ia_turn(prompt)
        turns = [{"from": "human", "value": human}, {"from": "gpt", "value": "a" + " cat" * (answer - 1)}]
        rows.append({"conversations": turns} | ({"image": "image.jpg"} if number % 3 else {}))
    annotation = root / "data.json"
    annotation.write_text(json.dumps(rows))
    return annotation


def launch(checkpoint: Path, annotation: Path, output: Path, step: StepSize, flags: Sequence[str]) -> dict[str, Any]:
    """Arguments of a subprocess: the published launcher's stage 1 on one device, of which only the end is saved."""
    names = {"T2IA_ANNOTATION": annotation, "T2IA_DATA": annotation.parent}
    environment = os.environ | {f"DYNEVALINSTRUCT_{name}": str(path) for name, path in names.items()}
    environment |= {"MODEL_NAME_OR_PATH": str(checkpoint), "OUTPUT_ROOT": str(output), "NPROC_PER_NODE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["bash", str(SCRIPT), "1", "--max_steps", str(step.count), "--save_strategy", "no"]
    command += ["--per_device_train_batch_size", str(step.batch), "--gradient_accumulation_steps", str(step.batches)]
    return {"args": [*command, *flags], "env": environment, "cwd": SCRIPT.parents[1]}


def run_plain(checkpoint: Path, annotation: Path, step: StepSize, use_cpu: bool) -> PlainRun:
    """Plain Trainer on padded batches with the model's own loss; frozen like the recipe, in bf16 by autocast."""
    import transformers
    from transformers import Qwen3VLForConditionalGeneration

    from dyneval.processing import Processor
    from qwenvl.data import DatasetSource
    from qwenvl.data.collator import Collator, dummy_example
    from qwenvl.data.dataset import InstructDataset
    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.meter import Work
    from qwenvl.train.modeling import set_trainable

    processor = Processor.from_pretrained(checkpoint, min_pixels=784, max_pixels=50_176)
    source = DatasetSource(name="mix", annotation=annotation, data=annotation.parent)
    data = InstructDataset([source], processor, model_max_length=8192, cache=annotation.parent / "cache")
    model = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    set_trainable(model, ModelArguments(model_name_or_path=str(checkpoint)))
    pad = Collator(
        model.model.get_rope_index, dummy_example(processor), processor.tokenizer.pad_token_id, flatten=False
    )
    seen: list[torch.Tensor] = []

    def collate(items: list[Any]) -> dict[str, Any]:
        batch = pad(items)
        patches = torch.tensor([batch["pixel_values"].shape[0]])
        seen.append(torch.cat([batch["counts"], patches]))
        return {name: value for name, value in batch.items() if name not in ("counts", "bad", "tasks", "names")}

    class Clock(transformers.TrainerCallback):
        ends: tuple[float, ...] = ()

        def on_step_end(self, *unused: Any, **named: Any) -> None:
            # Kernels run on after the call that starts them: without this the clock would run ahead.
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends = (*self.ends, time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(annotation.parent / "plain"), max_steps=step.count, per_device_train_batch_size=step.batch,
        gradient_accumulation_steps=step.batches, learning_rate=1e-5, bf16=not use_cpu, use_cpu=use_cpu,
        activation_checkpointing=True, remove_unused_columns=False, report_to="none", save_strategy="no",
        dataloader_num_workers=0,
    )  # fmt: skip
    clock = Clock()
    transformers.Trainer(model, arguments, collate, data, callbacks=[clock]).train()
    warm = min(WARM_UP, step.count - 1)
    seconds = clock.ends[-1] - clock.ends[warm - 1]
    counts = torch.stack(seen[warm * step.batches : step.count * step.batches]).sum(0).tolist()
    flops = Work.of(model).flops(counts[1], counts[2], counts[4])
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return PlainRun(counts[1] / seconds, counts[3] / (counts[1] + counts[3]), flops / seconds, memory / 2**30)


def measure(results: Results, variant: str, checkpoint: Path, root: Path, step: StepSize) -> None:
    """Train in one way, and add its row."""
    output = root / variant
    output.mkdir()
    annotation = write_data(output, 2 * step.count * step.batch * step.batches)
    if variant == "plain":
        # In a process of its own: its memory must be gone before the next variant.
        plain = alone(run_plain, checkpoint, annotation, step, not torch.cuda.is_available())
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        used = utilisation(plain.flops_per_second, device).get("mfu")
        results.row(variant, plain.tokens_per_second, plain.padding_share, used, plain.memory_gib, None)
        return
    command = launch(checkpoint, annotation, output, step, VARIANTS[variant])
    done = subprocess.run(**command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{variant}: {done.stderr[-2000:]}")
    log = output / "dyneval_2b_stage1_t2ia" / "train_log.jsonl"
    told = [one for one in map(json.loads, log.read_text().splitlines()) if "tokens_per_second" in one]
    reports = [report for report in told if report["step"] > min(WARM_UP, step.count - 1)]
    # GiB that the launcher told before it trained.
    before = re.search(r"^memory: about step ([\d.]+)", done.stderr, re.MULTILINE)
    tokens, padding, used = (statistics.median(one.get(name, 0) for one in reports) for name in MEASURED)
    # A device whose peak is not known has no share of it.
    results.row(variant, tokens, padding, used or None, max(one["memory_gib"] for one in reports), before and before[1])


def main() -> None:
    """Print the table, a row as soon as it is known."""
    flags = Flags(__doc__)
    flags.add_argument("--shape", choices=list(SHAPES), default="2b", smoke="tiny")
    flags.add_argument("--checkpoint", type=Path, help="of that shape; default: it is made")
    flags.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), smoke=["packed_sdpa"])
    flags.add_argument("--steps", type=int, default=20, smoke=2)
    flags.add_argument("--batch", type=int, default=4, smoke=1, help="samples of a batch; default: %(default)s")
    flags.add_argument("--batches", type=int, default=4, smoke=1, help="of a step; default: %(default)s")
    arguments = flags.parse_args()
    step = StepSize(arguments.steps, arguments.batch, arguments.batches)
    results = Results(arguments)
    columns = {"training": "", "useful tokens/s": ",.0f", "padding": ".0%", "MFU": ".1%", "peak GiB": ".1f", "told": ""}
    results.table(columns, f"Qwen3-VL-{arguments.shape}, steps of {step.batch * step.batches} samples")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        checkpoint = arguments.checkpoint or root / "checkpoint"
        if not arguments.checkpoint:
            write_shape(checkpoint, arguments.shape, device="cuda" if torch.cuda.is_available() else "cpu")
        for variant in arguments.variants:
            measure(results, variant, checkpoint, root, step)


if __name__ == "__main__":
    main()
