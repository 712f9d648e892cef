"""Step 4's savings, each beside its baseline in the same run: memory of the loss, padding, loading, types.

python benchmarks/training.py loss       # peak memory of the loss at 151,936 words
python benchmarks/training.py batches    # useful tokens a second: padded, flat, packed
python benchmarks/training.py loader     # samples a second and core: read, decode, resize, encode
python benchmarks/training.py cpu        # the demo's Stage 1 by the launcher: types, threads, attention (after a demo)
python benchmarks/training.py            # all
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shapes import config_of
from training_gpu import length_mix

VOCABULARY, WIDTH, TOKENS, TARGET_SHARE = 151_936, 256, 2048, 1 / 3


def measure_loss(variant: str, answers: multiprocessing.Queue) -> None:
    """Peak memory of one forward and backward of the loss, in a process of its own."""
    import torch

    from dyneval.processing import IGNORE
    from qwenvl.train.loss import target_losses

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, device=device)
    head.weight.grad = torch.zeros_like(head.weight)
    hidden = torch.randn(1, TOKENS, WIDTH, requires_grad=True, device=device)
    labels = torch.randint(0, VOCABULARY, (1, TOKENS), device=device)
    labels[:, : int(TOKENS * (1 - TARGET_SHARE))] = IGNORE

    def peak() -> float:
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    before, start = peak(), time.process_time()
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
    answers.put((peak() - before, time.process_time() - start))


def benchmark_loss() -> list[str]:
    """One row for each way of computing the loss."""
    import torch

    rows = []
    variants = {"plain": "plain: logits of all tokens", "1": "targets only", "8": "targets, 8 pieces"}
    if torch.cuda.is_available() and importlib.util.find_spec("liger_kernel"):
        variants |= {"liger": "Liger, all tokens", "liger-targets": "Liger, targets only"}
    for variant, name in variants.items():
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=measure_loss, args=(variant, answers))
        process.start()
        rows.append((name, *answers.get()))
        process.join()
    plain = rows[0][1]
    head = ["| loss | peak GiB | of plain | CPU s |", "|---|---|---|---|"]
    return head + [f"| {name} | {peak:.2f} | {peak / plain:.2f} | {used:.1f} |" for name, peak, used in rows]


def benchmark_batches(samples: int) -> list[str]:
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

    def plain_loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return Qwen3VLForConditionalGeneration.forward(model, **batch, use_cache=False).loss

    def target_loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch).loss

    fours = [list(range(start, min(start + 4, samples))) for start in range(0, samples, 4)]
    bins = pack(lengths, 8192, seed=0)
    variants = [
        ("padded, plain loss", fours, padded, plain_loss),
        ("padded, targets only", fours, padded, target_loss),
        ("flat, targets only, SDPA over all", fours, flat, target_loss),
        ("flat, targets only, sample by sample", fours, flat, target_loss),
        ("packed to 8192, targets only, sample by sample", bins, flat, target_loss),
    ]
    rows = []
    for name, groups, collate, loss in variants:
        model.set_attn_implementation({"text_config": PACKED_SDPA if "by sample" in name else "sdpa"})
        loss(collate(groups[0])).backward()  # not counted: the first call sets up more than later ones
        shown = sum(collate(members)["input_ids"].numel() for members in groups)
        start = time.process_time()
        for members in groups:
            loss(collate(members)).backward()
            model.zero_grad()
        rows.append((name, 1 - sum(lengths) / shown, sum(lengths) / (time.process_time() - start)))
    base = rows[0][2]
    head = ["| batches | padding | useful tokens a CPU second | ratio |", "|---|---|---|---|"]
    return head + [f"| {name} | {pad:.0%} | {rate:.0f} | {rate / base:.2f} |" for name, pad, rate in rows]


def benchmark_loader(samples: int) -> list[str]:
    """EVALUATION samples with photograph-like 1024x1024 JPEGs and demo-like 256x256 PNGs."""
    from PIL import Image

    from dyneval.demo.tiny_model import build_tiny_model
    from dyneval.processing import Processor
    from dyneval.tokens import evaluation_turn
    from qwenvl.data import DatasetSource
    from qwenvl.data.dataset import InstructDataset

    rows = []
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
                start = time.process_time()
                data[index]
                times.append(time.process_time() - start)
            rate = 1 / statistics.median(times)
            needed = samples_needed(int(data.lengths[0]), targets=int(data.lengths[0]) // 3, patches=4 * 49)
            rows.append(
                f"| {size}x{size} {kind} | {data.lengths[0]} | {rate:.0f} | {needed:.0f} | {2 * needed / rate:.1f} |"
            )
    head = "| image | tokens | samples a second and core | an H100's need at 45 % MFU | cores for twice that |"
    return [head, "|---|---|---|---|---|", *rows]


def benchmark_cpu(run: Path, steps: int = 20) -> list[str]:
    """The launcher on the data of a demo run: tokens a second in the median of the later reports, and seconds in all.

    The last two rows share the cores with another process, as on a login node or beside an editor.
    """
    root = Path(__file__).resolve().parents[1]
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
    rows = ["| launcher | tokens a second | seconds with start |", "|---|---|---|"]
    for name, (own, arguments, beside) in variants.items():
        with tempfile.TemporaryDirectory() as output:
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside else None
            started = time.monotonic()
            command = ["bash", "scripts/sft_qwen_3_vl_2b.sh", "1", "--max_steps", str(steps), "--logging_steps", "5"]
            command += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"]
            command += ["--gradient_checkpointing", "False", "--save_strategy", "no", *arguments]
            try:
                subprocess.run(
                    command,
                    env=os.environ | shared | own | {"OUTPUT_ROOT": output},
                    cwd=root / "Qwen3-VL" / "qwen-vl-finetune",
                    check=True,
                    capture_output=True,
                )
            finally:
                if busy:
                    busy.kill()
            log = Path(output, "dyneval_2b_stage1_t2ia", "train_log.jsonl")
            told = [row for row in map(json.loads, log.read_text().splitlines()) if "tokens_per_second" in row]
            rate = statistics.median(row["tokens_per_second"] for row in told[1:])
            rows.append(f"| {name} | {rate:,.0f} | {time.monotonic() - started:.0f} |")
    return rows


def samples_needed(tokens: int, targets: int, patches: int) -> float:
    """Samples a second that Qwen3-VL-2B eats on an H100 (989 TFLOPS in bf16) at 45 % of its FLOPs."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from qwenvl.train.argument import ModelArguments
    from qwenvl.train.meter import PEAK_BF16_TFLOPS, Work
    from qwenvl.train.modeling import set_trainable

    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config_of("2b"))
    set_trainable(model, ModelArguments(model_name_or_path="2b"))
    return 0.45 * PEAK_BF16_TFLOPS["H100"] * 1e12 / Work.of(model).flops(tokens, targets, patches)


def main() -> None:
    """Command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["loss", "batches", "loader", "cpu", "all"], default="all")
    parser.add_argument("--samples", type=int, default=48, help="samples of `batches` and `loader`")
    parser.add_argument("--run", type=Path, default=Path("output/demo"), help="folder of a demo run, for `cpu`")
    chosen = parser.parse_args()
    parts = {
        "loss": benchmark_loss,
        "batches": lambda: benchmark_batches(chosen.samples),
        "loader": lambda: benchmark_loader(chosen.samples),
        "cpu": lambda: benchmark_cpu(chosen.run),
    }
    for name, part in parts.items():
        if chosen.what in (name, "all"):
            print("\n".join([f"\n{name}", "", *part()]), flush=True)


if __name__ == "__main__":
    main()
