"""Step 4 beside two other trainers on one machine: samples a CPU second and peak memory on the same model and data.

    python benchmarks/training_peers.py --samples 48 --only published trl ours-padded ours

All train the whole tiny model in float32 with AdamW, batches of four, no checkpointing, no DeepSpeed. Samples have a
quarter of DynEvalInstruct's lengths: of whole ones, the logits of all tokens took `published` more than 23 GiB.

`published` is the path of the published training code: transformers' processor for each sample, targets marked by the
tokens around the assistant's turn, padded batches, plain Trainer with the model's own loss. (Its flattened batches need
flash-attention, so a GPU.) `trl` is SFTTrainer with prompts, completions and images. The environment of both is made
where it is missing.

Each row is two runs, of one epoch and of two. Their difference is one pass over the data: start and saving cancel out.
The learning rate is 0, so the losses of the rows are comparable: equal ones show that the same targets were trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from harness import ROOT, Flags, Results, run_command
from training_gpu import write_data

FOLDER = ROOT / "Qwen3-VL" / "qwen-vl-finetune"
# The recipe's limits, so that all see images of the same size.
PIXELS = {"shortest_edge": 784, "longest_edge": 50_176}
# What all trainers are given.
SHARED: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "learning_rate": 0.0,
    "lr_scheduler_type": "constant",
    "logging_strategy": "epoch",
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
    "remove_unused_columns": False,
}
ROWS = {
    "published": "published path: padded batches, plain Trainer",
    "trl": "TRL's SFTTrainer",
    "ours-padded": "DynEval, padded batches",
    "ours": "DynEval: flat batches, loss of the targets",
}
LOSSES = "losses.json"


class TrainingCost(NamedTuple):
    """What a whole process took, and the mean loss a target token that it told for its first epoch."""

    cpu_seconds: float
    peak_gib: float
    loss: float


def train_published(
    checkpoint: Path, processor: Any, rows: list[dict[str, Any]], arguments: dict[str, Any]
) -> list[dict[str, float]]:
    """Tokenise each sample by itself when it is asked for, pad, and let transformers do the rest."""
    import torch
    import transformers
    from torch.nn.utils.rnn import pad_sequence

    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    # Token ids of Qwen3-VL: "assistant", which begins a reply, and <|im_end|>, which ends one.
    assistant, turn_end = 77091, 151645

    class Samples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            row = rows[index]
            content = [{"type": "image", "image": image} for image in row["images"]]
            turns = [
                {"role": "user", "content": [*content, {"type": "text", "text": row["human"]}]},
                {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]},
            ]
            read = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
            ids, labels = read["input_ids"][0], torch.full_like(read["input_ids"][0], -100)
            for start in (ids == assistant).nonzero().flatten().tolist():
                # Behind the role stands a line break; the reply's own end is trained, and the line break after it.
                end = start + (ids[start:] == turn_end).nonzero()[0, 0].item() + 2
                labels[start + 2 : end] = ids[start + 2 : end]
            return {**read, "ids": ids, "labels": labels}

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        ids = pad_sequence([row["ids"] for row in items], batch_first=True, padding_value=151643)
        batch = {"input_ids": ids, "attention_mask": ids != 151643}
        batch["labels"] = pad_sequence([row["labels"] for row in items], batch_first=True, padding_value=-100)
        types = [row["mm_token_type_ids"][0] for row in items]
        batch["mm_token_type_ids"] = pad_sequence(types, batch_first=True)
        for name in ("pixel_values", "image_grid_thw"):
            if parts := [row[name] for row in items if name in row]:
                batch[name] = torch.cat(parts)
        return batch

    trainer = transformers.Trainer(model, transformers.TrainingArguments(**arguments), collate, Samples())
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history


def train_trl(
    checkpoint: Path, processor: Any, rows: list[dict[str, Any]], arguments: dict[str, Any]
) -> list[dict[str, float]]:
    """SFTTrainer as its documentation has it for images: prompt, completion, images."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    conversations = [
        {
            "prompt": [{"role": "user", "content": row["human"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
            "images": row["images"],
        }
        for row in rows
    ]
    kwargs = {"dtype": "float32"}
    config = SFTConfig(**arguments, max_length=None, gradient_checkpointing=False, model_init_kwargs=kwargs)
    data = datasets.Dataset.from_list(conversations).cast_column("images", datasets.List(datasets.Image()))
    trainer = SFTTrainer(str(checkpoint), config, train_dataset=data, processing_class=processor)
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history


def be_a_peer(name: str, checkpoint: Path, annotation: Path, output: Path, epochs: int) -> None:
    """Train with another trainer, in a process of its own, by the Python of the environment that has it."""
    from PIL import Image
    from transformers import AutoProcessor

    # The rows as transformers' chat template takes them: images opened, each before the text of its turn.
    rows = []
    for row in json.loads(annotation.read_text()):
        human, answer = (turn["value"] for turn in row["conversations"])
        images = [Image.open(annotation.parent / row["image"])] if "image" in row else []
        rows.append({"human": human.removeprefix("<image>\n"), "answer": answer, "images": images})
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.image_processor.size = PIXELS
    train = {"published": train_published, "trl": train_trl}[name]
    history = train(checkpoint, processor, rows, SHARED | {"output_dir": str(output), "num_train_epochs": epochs})
    (output / LOSSES).write_text(json.dumps([entry["loss"] for entry in history if "loss" in entry]))


def measure(name: str, checkpoint: Path, annotation: Path, output: Path, epochs: int) -> TrainingCost:
    """One run of one row."""
    from tests.environments import environment

    names = {"T2IA_ANNOTATION": annotation, "T2IA_DATA": annotation.parent}
    variables = {f"DYNEVALINSTRUCT_{name}": path for name, path in names.items()}
    if name.startswith("ours"):
        own = {"model_name_or_path": checkpoint, "dataset_use": "dynevalinstruct_t2ia", "output_dir": output}
        own |= {"num_train_epochs": epochs, "data_flatten": name == "ours", "tune_mm_vision": True}
        own |= {"gradient_checkpointing": False, "gradient_accumulation_steps": 1, "loss_chunks": 1}
        own |= {"warmup_ratio": 0, "min_pixels": PIXELS["shortest_edge"], "max_pixels": PIXELS["longest_edge"]}
        flags = {key: value for key, value in SHARED.items() if key != "remove_unused_columns"} | own
        words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
        command: list[Any] = [sys.executable, "-m", "qwenvl.train.train_qwen", *words]
    else:
        command = [environment("trl"), __file__, "--peer", name, checkpoint, annotation, output, epochs]
    usage = run_command(command, FOLDER, log=output.parent / f"{output.name}.log", **variables)
    if name.startswith("ours"):
        reports = map(json.loads, (output / "train_log.jsonl").read_text().splitlines())
        losses = [report["loss"] for report in reports if "loss" in report]
    else:
        losses = json.loads((output / LOSSES).read_text())
    return TrainingCost(usage.cpu, usage.peak / 2**10, losses[0])


def main() -> None:
    """Train with each, and print a row as soon as it is known."""
    flags = Flags(__doc__)
    flags.add_argument("--samples", type=int, default=48, smoke=4)
    flags.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), smoke=["ours-padded", "ours"])
    flags.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    arguments = flags.parse_args()
    if arguments.peer:
        name, *paths, epochs = arguments.peer
        be_a_peer(name, *map(Path, paths), int(epochs))
        return
    from dyneval.demo.tiny_model import build_tiny_model

    results = Results(arguments)
    columns = {"trainer": "", "samples a CPU second": ".2f", "ratio": ".2f", "peak GiB": ".2f", "loss": ".3f"}
    results.table(columns)
    base = None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build_tiny_model(root / "tiny", task_tokens=True, width=128)
        annotation = write_data(root, arguments.samples, shrink=4)
        for name in arguments.only:
            one, two = (measure(name, root / "tiny", annotation, root / f"{name}-{n}", n) for n in (1, 2))
            rate = arguments.samples / (two.cpu_seconds - one.cpu_seconds)
            base = base or rate
            results.row(ROWS[name], rate, rate / base, two.peak_gib, two.loss)


if __name__ == "__main__":
    main()
