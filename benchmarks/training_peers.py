"""Step 4 beside two other trainers on one machine: samples a CPU second and peak memory on the same model and data.

    python benchmarks/training_peers.py [--samples 48] [--only published trl ours-padded ours]

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
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from training_gpu import write_data

FOLDER = Path(__file__).resolve().parents[1] / "Qwen3-VL" / "qwen-vl-finetune"
PIXELS = {"shortest_edge": 784, "longest_edge": 50_176}
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


class Run(NamedTuple):
    """What a whole process took, and the mean loss a target token that it told for its first epoch."""

    cpu_seconds: float
    peak_gib: float
    loss: float


def samples_of(annotation: Path) -> list[dict[str, Any]]:
    """The rows as transformers' chat template takes them: images opened, each before the text of its turn."""
    from PIL import Image

    found = []
    for row in json.loads(annotation.read_text()):
        human, answer = (turn["value"] for turn in row["conversations"])
        images = [Image.open(annotation.parent / row["image"])] if "image" in row else []
        found.append({"human": human.removeprefix("<image>\n"), "answer": answer, "images": images})
    return found


def processor_of(checkpoint: Path) -> Any:
    """Transformers' own processor with the recipe's limits."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.image_processor.size = PIXELS
    return processor


def train_published(checkpoint: Path, annotation: Path, arguments: dict[str, Any]) -> list[dict[str, float]]:
    """Tokenise each sample by itself when it is asked for, pad, and let transformers do the rest."""
    import torch
    import transformers
    from torch.nn.utils.rnn import pad_sequence

    processor = processor_of(checkpoint)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    assistant, turn_end = 77091, 151645

    class Samples(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.rows = samples_of(annotation)

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            row = self.rows[index]
            content = [{"type": "image", "image": image} for image in row["images"]]
            turns = [
                {"role": "user", "content": [*content, {"type": "text", "text": row["human"]}]},
                {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]},
            ]
            read = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
            ids, labels = read["input_ids"][0], torch.full_like(read["input_ids"][0], -100)
            for start in (ids == assistant).nonzero().flatten().tolist():
                end = start + (ids[start:] == turn_end).nonzero()[0, 0].item() + 2
                labels[start + 2 : end] = ids[start + 2 : end]
            return {**read, "ids": ids, "labels": labels}

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = pad_sequence([row["ids"] for row in rows], batch_first=True, padding_value=151643)
        batch = {"input_ids": ids, "attention_mask": ids != 151643}
        batch["labels"] = pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100)
        types = [row["mm_token_type_ids"][0] for row in rows]
        batch["mm_token_type_ids"] = pad_sequence(types, batch_first=True)
        for name in ("pixel_values", "image_grid_thw"):
            if parts := [row[name] for row in rows if name in row]:
                batch[name] = torch.cat(parts)
        return batch

    trainer = transformers.Trainer(model, transformers.TrainingArguments(**arguments), collate, Samples())
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history


def train_trl(checkpoint: Path, annotation: Path, arguments: dict[str, Any]) -> list[dict[str, float]]:
    """SFTTrainer as its documentation has it for images: prompt, completion, images."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": row["human"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
            "images": row["images"],
        }
        for row in samples_of(annotation)
    ]
    kwargs = {"dtype": "float32"}
    config = SFTConfig(**arguments, max_length=None, gradient_checkpointing=False, model_init_kwargs=kwargs)
    data = datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))
    trainer = SFTTrainer(str(checkpoint), config, train_dataset=data, processing_class=processor_of(checkpoint))
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history


def be_a_peer(name: str, checkpoint: Path, annotation: Path, output: Path, epochs: int) -> None:
    """Train with another trainer, in a process of its own, by the Python of the environment that has it."""
    train = {"published": train_published, "trl": train_trl}[name]
    history = train(checkpoint, annotation, SHARED | {"output_dir": str(output), "num_train_epochs": epochs})
    (output / LOSSES).write_text(json.dumps([entry["loss"] for entry in history if "loss" in entry]))


def measure(name: str, checkpoint: Path, annotation: Path, output: Path, epochs: int) -> Run:
    """One run of one row."""
    from tests.environments import environment

    names = {"T2IA_ANNOTATION": annotation, "T2IA_DATA": annotation.parent}
    variables = os.environ | {f"DYNEVALINSTRUCT_{name}": str(path) for name, path in names.items()}
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
    log = output.parent / f"{output.name}.log"
    with log.open("w") as stream:
        line = [str(part) for part in command]
        process = subprocess.Popen(line, env=variables, cwd=FOLDER, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: {log.read_text()[-3000:]}")
    if name.startswith("ours"):
        reports = map(json.loads, (output / "train_log.jsonl").read_text().splitlines())
        losses = [report["loss"] for report in reports if "loss" in report]
    else:
        losses = json.loads((output / LOSSES).read_text())
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, losses[0])


def main() -> None:
    """Command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peer:
        name, *paths, epochs = chosen.peer
        be_a_peer(name, *map(Path, paths), int(epochs))
        return
    from dyneval.demo.tiny_model import build_tiny_model

    print("| trainer | samples a CPU second | ratio | peak GiB | loss |\n|---|---|---|---|---|", flush=True)
    base = None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build_tiny_model(root / "tiny", task_tokens=True, width=128)
        annotation = write_data(root, chosen.samples, shrink=4)
        for name in chosen.only:
            one, two = (measure(name, root / "tiny", annotation, root / f"{name}-{n}", n) for n in (1, 2))
            rate = chosen.samples / (two.cpu_seconds - one.cpu_seconds)
            base = base or rate
            row = f"| {ROWS[name]} | {rate:.2f} | {rate / base:.2f} | {two.peak_gib:.2f} | {two.loss:.3f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
