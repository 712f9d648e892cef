"""The whole recipe on a GPU at Qwen3-VL-2B's shape with random weights, beside a plain padded Trainer.

Run by `benchmarks/training.py gpu`.
"""

import json
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).parents[1] / "Qwen3-VL" / "qwen-vl-finetune" / "scripts" / "sft_qwen_3_vl_2b.sh"
STEPS, WARM_UP = 20, 5
BATCH, ACCUMULATION = 4, 4


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


def config_2b() -> Any:
    """Configuration with the shape of Qwen3-VL-2B (2.13 B parameters)."""
    from transformers import Qwen3VLConfig

    from dyneval.demo.tiny_model import TEXT, VISION

    text = TEXT | {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "head_dim": 128}
    text |= {"num_attention_heads": 16, "num_key_value_heads": 8}
    rope = {"rope_type": "default", "rope_theta": 5_000_000, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text["rope_parameters"] = rope
    vision = VISION | {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
    vision |= {"out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17]}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


def write_checkpoint(folder: Path) -> None:
    """Random bf16 weights of that shape with the real tokenizer."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from dyneval.demo.tiny_model import build_tiny_model
    from dyneval.processing import Processor

    build_tiny_model(folder.with_name("tiny"))
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen3VLForConditionalGeneration(config_2b()).to(torch.bfloat16)
    model.save_pretrained(folder)
    Processor.from_pretrained(folder.with_name("tiny")).save_pretrained(folder)


def write_data(root: Path, samples: int) -> Path:
    """Annotations at DynEvalInstruct's length mix, over one photograph-like image; returns their file."""
    from PIL import Image

    from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

    Image.effect_noise((1024, 1024), 60).convert("RGB").save(root / "image.jpg")
    rows = []
    for number, (context, answer) in enumerate(length_mix(samples)):
        prompt = "a" + " cat" * max(1, context - 80)
        human = (t2ia_turn(prompt), evaluation_turn(prompt, ["Is there a cat?"]), iqa_turn())[number % 3]
        turns = [{"from": "human", "value": human}, {"from": "gpt", "value": "a" + " cat" * (answer - 1)}]
        rows.append({"conversations": turns} | ({"image": "image.jpg"} if number % 3 else {}))
    annotation = root / "data.json"
    annotation.write_text(json.dumps(rows))
    return annotation


def run_recipe(checkpoint: Path, annotation: Path, output: Path) -> list[dict[str, float]]:
    """The published launcher on one GPU; the records of its steps after the warm-up."""
    names = {"T2IA_ANNOTATION": annotation, "T2IA_DATA": annotation.parent}
    environment = os.environ | {f"DYNEVALINSTRUCT_{name}": str(path) for name, path in names.items()}
    environment |= {"MODEL_NAME_OR_PATH": str(checkpoint), "OUTPUT_ROOT": str(output), "NPROC_PER_NODE": "1"}
    command = ["bash", str(SCRIPT), "1", "--max_steps", str(STEPS), "--save_strategy", "no"]
    subprocess.run(command, env=environment, check=True, cwd=SCRIPT.parents[1])
    log = json.loads((output / "dyneval_2b_stage1_t2ia" / "training_log.json").read_text())
    return [step for step in log["log_history"] if step.get("step", 0) > WARM_UP and "loss" in step]


def run_plain(checkpoint: Path, annotation: Path, steps: int = STEPS, use_cpu: bool = False) -> PlainRun:
    """Plain Trainer on padded batches with the model's own loss; frozen like the recipe, in bf16 by autocast."""
    import torch
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
        return {name: value for name, value in batch.items() if name not in ("counts", "bad", "tasks")}

    class Clock(transformers.TrainerCallback):
        ends: tuple[float, ...] = ()

        def on_step_end(self, *unused: Any, **named: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends = (*self.ends, time.perf_counter())

    arguments = transformers.TrainingArguments(
        output_dir=str(annotation.parent / "plain"), max_steps=steps, per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUMULATION, learning_rate=1e-5, bf16=not use_cpu, use_cpu=use_cpu,
        activation_checkpointing=True, remove_unused_columns=False, report_to="none", save_strategy="no",
        dataloader_num_workers=0,
    )  # fmt: skip
    clock = Clock()
    transformers.Trainer(model, arguments, collate, data, callbacks=[clock]).train()
    warm = min(WARM_UP, steps - 1)
    seconds = clock.ends[-1] - clock.ends[warm - 1]
    counts = torch.stack(seen[warm * ACCUMULATION : steps * ACCUMULATION]).sum(0).tolist()
    flops = Work.of(model).flops(counts[1], counts[2], counts[4])
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return PlainRun(counts[1] / seconds, counts[3] / (counts[1] + counts[3]), flops / seconds, memory / 2**30)


def benchmark_gpu() -> list[str]:
    """Useful tokens a second, MFU and memory of both, on the first GPU."""
    import torch

    from qwenvl.train.meter import PEAK_BF16_TFLOPS

    if not torch.cuda.is_available():
        return ["no GPU: not measured"]
    name = torch.cuda.get_device_name(0)
    peak = next((tflops for part, tflops in PEAK_BF16_TFLOPS.items() if part in name), None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_checkpoint(root / "checkpoint")
        annotation = write_data(root, 2 * STEPS * BATCH * ACCUMULATION)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:  # its memory ends with it
            plain = alone.submit(run_plain, root / "checkpoint", annotation).result()
        steps = run_recipe(root / "checkpoint", annotation, root / "output")
    ours = {key: statistics.median(step.get(key, 0) for step in steps) for key in MEASURED}
    plain_mfu = f"{plain.flops_per_second / (peak * 1e12):.1%}" if peak else "unknown"
    return [
        f"{name}, {STEPS - WARM_UP} steps of {BATCH * ACCUMULATION} samples:",
        "",
        "| training | useful tokens/s | ratio | padding | MFU | peak GiB |",
        "|---|---|---|---|---|---|",
        f"| plain padded Trainer | {plain.tokens_per_second:.0f} | 1.00 | {plain.padding_share:.0%} | {plain_mfu} | "
        f"{plain.memory_gib:.1f} |",
        f"| recipe | {ours['tokens_per_second']:.0f} | {ours['tokens_per_second'] / plain.tokens_per_second:.2f} | "
        f"{ours['padding_share']:.0%} | {ours['mfu']:.1%} | {ours['memory_gib']:.1f} |",
    ]


MEASURED = ("tokens_per_second", "padding_share", "mfu", "memory_gib")
