"""Step 4's savings, each beside its baseline in the same run: memory of the loss, padding, loading, types.

python benchmarks/training.py loss       # peak memory of the loss at 151,936 words
python benchmarks/training.py batches    # useful tokens a second: padded, flat, packed
python benchmarks/training.py loader     # samples a second and core: read, decode, resize, encode
python benchmarks/training.py cpu        # the demo's Stage 1 by the launcher: types, threads, attention (after a demo)
python benchmarks/training.py all
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import ROOT, Flags, Results, alone, timed
from shapes import config_of
from training_gpu import length_mix

# The real vocabulary, since its logits are what the loss saves; a narrow width, so that head and states fit anywhere.
VOCABULARY, WIDTH, TARGET_SHARE = 151_936, 256, 1 / 3


def measure_loss(variant: str, tokens: int) -> tuple[float, float]:
    """GiB and CPU seconds of one forward and backward of the loss; called in a process of its own."""
    import torch

    from dyneval.processing import IGNORE
    from qwenvl.train.loss import target_losses

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, device=device)
    # The gradient is there before, as in every step of a training but the first.
    head.weight.grad = torch.zeros_like(head.weight)
    hidden = torch.randn(1, tokens, WIDTH, requires_grad=True, device=device)
    labels = torch.randint(0, VOCABULARY, (1, tokens), device=device)
    labels[:, : int(tokens * (1 - TARGET_SHARE))] = IGNORE

    allocated = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    with timed() as before:
        pass
    with timed() as usage:
        if variant == "plain":
            logits = head(hidden).float()[:, :-1].flatten(0, 1)
            torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE).backward()
        elif variant.startswith("liger"):
            from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

            states, targets = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            if variant == "liger-targets":
                states, targets = states[targets != IGNORE], targets[targets != IGNORE]
            LigerFusedLinearCrossEntropyLoss()(head.weight, states, targets).backward()
        else:
            losses, _ = target_losses(hidden, labels, head, int(variant))
            losses.mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    if device == "cuda":
        return (torch.cuda.max_memory_allocated() - allocated) / 2**30, usage.cpu
    return (usage.peak - before.peak) / 2**10, usage.cpu


def benchmark_loss(results: Results, arguments: argparse.Namespace) -> None:
    """One row for each way of computing the loss."""
    import torch

    results.table({"loss": "", "peak GiB": ".2f", "of plain": ".2f", "CPU s": ".1f"}, "loss")
    variants = {"plain": "plain: logits of all tokens", "1": "targets only", "8": "targets, 8 pieces"}
    # Liger's kernels are Triton's and run on no CPU.
    if torch.cuda.is_available() and importlib.util.find_spec("liger_kernel"):
        variants |= {"liger": "Liger, all tokens", "liger-targets": "Liger, targets only"}
    plain = None
    for variant, name in variants.items():
        peak, cpu = alone(measure_loss, variant, arguments.loss_tokens)
        plain = plain or peak
        results.row(name, peak, peak / plain, cpu)


def benchmark_batches(results: Results, arguments: argparse.Namespace) -> None:
    """One pass over the same samples; the baseline is the model's own loss on padded batches of four.

    The model is small but keeps Qwen3-VL-2B's ratio of head to body (0.31 B to 1.41 B parameters): 800 words.
    """
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from dyneval.demo.tiny_model import tiny_config
    from dyneval.processing import IGNORE
    from qwenvl.data.packing import pack
    from qwenvl.train.attention import PACKED_SDPA
    from qwenvl.train.loss import with_target_loss

    config = tiny_config(width=128)
    config.text_config.vocab_size = 800
    config.text_config.bos_token_id = config.text_config.eos_token_id = None
    model = with_target_loss(Qwen3VLForConditionalGeneration, 8)(config)
    samples = arguments.samples
    mix = length_mix(samples)
    lengths = [context + answer for context, answer in mix]

    def padded(members: list[int]) -> dict[str, torch.Tensor]:
        ids = torch.zeros(len(members), max(lengths[i] for i in members), dtype=torch.long)
        labels, mask = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
        for row, index in enumerate(members):
            mask[row, : lengths[index]] = 1
            ids[row, : lengths[index]] = 7
            labels[row, mix[index][0] : lengths[index]] = 7
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    def flat(members: list[int]) -> dict[str, torch.Tensor]:
        positions = torch.cat([torch.arange(lengths[i]) for i in members])
        labels = torch.cat([torch.tensor([IGNORE] * mix[i][0] + [7] * mix[i][1]) for i in members])
        return {
            "input_ids": torch.full((1, len(positions)), 7),
            "labels": labels[None],
            "position_ids": positions.expand(4, 1, -1),
            "sample_lengths": [lengths[i] for i in members],
        }

    def loss_of(batch: dict[str, Any], is_plain: bool) -> torch.Tensor:
        # The class's own forward is that of transformers: with_target_loss has put another one in front of it.
        if is_plain:
            return Qwen3VLForConditionalGeneration.forward(model, **batch, use_cache=False).loss
        return model(**batch).loss

    fours = [list(range(start, min(start + 4, samples))) for start in range(0, samples, 4)]
    bins = pack(lengths, 8192, seed=0)
    variants = [
        ("padded, plain loss", fours, padded),
        ("padded, targets only", fours, padded),
        ("flat, targets only, SDPA over all", fours, flat),
        ("flat, targets only, sample by sample", fours, flat),
        ("packed to 8192, targets only, sample by sample", bins, flat),
    ]
    columns = {"batches": "", "padding": ".0%", "useful tokens a CPU second": ".0f", "ratio": ".2f"}
    results.table(columns, "batches")
    base = None
    for name, groups, collate in variants:
        model.set_attn_implementation({"text_config": PACKED_SDPA if "by sample" in name else "sdpa"})
        is_plain = "plain" in name
        # Not counted: the first call sets up more than later ones.
        loss_of(collate(groups[0]), is_plain).backward()
        shown = sum(collate(members)["input_ids"].numel() for members in groups)
        with timed() as usage:
            for members in groups:
                loss_of(collate(members), is_plain).backward()
                model.zero_grad()
        rate = sum(lengths) / usage.cpu
        base = base or rate
        results.row(name, 1 - sum(lengths) / shown, rate, rate / base)


def benchmark_loader(results: Results, arguments: argparse.Namespace) -> None:
    """EVALUATION samples with photograph-like 1024x1024 JPEGs and demo-like 256x256 PNGs."""
    import torch
    from PIL import Image
    from transformers import Qwen3VLForConditionalGeneration

    from dyneval.demo.tiny_model import build_tiny_model
    from dyneval.processing import Processor
    from dyneval.tokens import evaluation_turn
    from qwenvl.data import DatasetSource
    from qwenvl.data.dataset import InstructDataset
    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.meter import PEAK_BF16_TFLOPS, Work
    from qwenvl.train.modeling import set_trainable

    # The need: FLOPs of Qwen3-VL-2B with its vision tower frozen, of which an H100 (989 TFLOPS in bf16) does 45 %.
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config_of("2b"))
    set_trainable(model, ModelArguments(model_name_or_path="2b"))
    work, eaten = Work.of(model), 0.45 * PEAK_BF16_TFLOPS["H100"] * 1e12
    samples = arguments.samples
    columns = {"image": "", "tokens": "", "samples a second and core": ".0f"}
    columns |= {"an H100's need at 45 % MFU": ".0f", "cores for twice that": ".1f"}
    results.table(columns, "loader")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build_tiny_model(root / "tiny")
        processor = Processor.from_pretrained(root / "tiny", min_pixels=784, max_pixels=50_176)
        questions = [f"Is object number {number} where the prompt places it?" for number in range(20)]
        answer = json.dumps(
            {"answers": [{"question": q, "score": 4, "reasoning": "It is near it."} for q in questions]}
        )
        human = evaluation_turn("a quiet lake between hills at sunset, photograph, 8k, detailed", questions)
        for size, kind in ((1024, "jpg"), (256, "png")):
            Image.effect_noise((size, size), 60).convert("RGB").save(root / f"image.{kind}")
            turns = [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]
            annotation = root / f"{kind}.json"
            annotation.write_text(json.dumps([{"image": f"image.{kind}", "conversations": turns}] * samples))
            source = DatasetSource(name=kind, annotation=annotation, data=root)
            data = InstructDataset([source], processor, model_max_length=8192, cache=root / "cache")
            times = []
            for index in range(samples):
                with timed() as usage:
                    data[index]
                times.append(usage.cpu)
            rate = 1 / statistics.median(times)
            # A third of the tokens are targets, as in the loss above; 4 x 49 patches make 49 visual tokens.
            tokens = int(data.lengths[0])
            needed = eaten / work.flops(tokens, tokens // 3, 4 * 49)
            results.row(f"{size}x{size} {kind}", tokens, rate, needed, 2 * needed / rate)


def benchmark_cpu(results: Results, arguments: argparse.Namespace) -> None:
    """The launcher on the data of a demo run: tokens a second in the median of the later reports, and seconds in all.

    The last two rows share the cores with another process, as on a login node or beside an editor.
    """
    run = arguments.run
    shared = {
        "MODEL_NAME_OR_PATH": str((run / "base").resolve()),
        "DYNEVALINSTRUCT_T2IA_ANNOTATION": str((run / "instruct" / "dynevalinstruct_t2ia.json").resolve()),
        "DYNEVALINSTRUCT_T2IA_DATA": str((run / "gendb").resolve()),
        "HF_HUB_OFFLINE": "1",
    }
    variants = {
        "float32": ({"BF16": "False"}, [], False),
        "bfloat16 (where the CPU has instructions for it)": ({"BF16": "True"}, [], False),
        "bfloat16, SDPA over padded batches": ({"BF16": "True", "DATA_FLATTEN": "False"}, [], False),
        "bfloat16, eager attention over padded batches": (
            {"BF16": "True", "DATA_FLATTEN": "False"},
            ["--attn_implementation", "eager"],
            False,
        ),
        "bfloat16 beside other work, threads spin": ({"BF16": "True", "OMP_WAIT_POLICY": "ACTIVE"}, [], True),
        "bfloat16 beside other work, threads sleep": ({"BF16": "True"}, [], True),
    }
    results.table({"launcher": "", "tokens a second": ",.0f", "seconds with start": ".0f"}, "cpu")
    for name, (own, words, beside) in variants.items():
        with tempfile.TemporaryDirectory() as output:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside else None
            started = time.monotonic()
            command = [
                "bash",
                "scripts/sft_qwen_3_vl_2b.sh",
                "1",
                "--max_steps",
                str(arguments.steps),
                "--logging_steps",
                "5",
            ]
            command += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"]
            command += ["--gradient_checkpointing", "False", "--save_strategy", "no", *words]
            try:
                subprocess.run(
                    command,
                    env=os.environ | shared | own | {"OUTPUT_ROOT": output},
                    cwd=ROOT / "Qwen3-VL" / "qwen-vl-finetune",
                    check=True,
                    capture_output=True,
                )
            finally:
                if busy:
                    busy.kill()
            log = Path(output, "dyneval_2b_stage1_t2ia", "train_log.jsonl")
            told = [row for row in map(json.loads, log.read_text().splitlines()) if "tokens_per_second" in row]
            # Without the first report, whose steps load and compile.
            rate = statistics.median(row["tokens_per_second"] for row in told[1:] or told)
            results.row(name, rate, time.monotonic() - started)


def main() -> None:
    """Run one of the parts, or all."""
    parts = {
        "loss": benchmark_loss,
        "batches": benchmark_batches,
        "loader": benchmark_loader,
        "cpu": benchmark_cpu,
    }
    flags = Flags(__doc__)
    flags.add_argument("what", nargs="?", choices=[*parts, "all"], default="all")
    flags.add_argument("--samples", type=int, default=48, smoke=4, help="samples of `batches` and `loader`")
    flags.add_argument("--loss-tokens", type=int, default=2048, smoke=64, help="tokens of `loss`")
    flags.add_argument("--steps", type=int, default=20, smoke=6, help="steps of `cpu`")
    flags.add_argument("--run", type=Path, default=Path("output/demo"), help="folder of a demo run, for `cpu`")
    arguments = flags.parse_args()
    results = Results(arguments)
    for name, part in parts.items():
        if arguments.what in (name, "all"):
            part(results, arguments)


if __name__ == "__main__":
    main()
