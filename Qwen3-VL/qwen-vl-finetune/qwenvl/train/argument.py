"""Arguments of `train_qwen.py`, named as in Qwen's fine-tuning folder. Those of transformers' Trainer come on top."""

from __future__ import annotations

from dataclasses import dataclass, field

import transformers

from dyneval.errors import SettingError
from dyneval.tokens import TASK_TOKENS


@dataclass(kw_only=True)
class ModelArguments:
    """Which model, and which of its parts are trained."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder or Hugging Face id of a Qwen3-VL model"})
    tune_mm_llm: bool = field(default=True, metadata={"help": "train the language model"})
    tune_mm_mlp: bool = field(default=True, metadata={"help": "train the merger and the deepstack mergers"})
    tune_mm_vision: bool = field(default=False, metadata={"help": "train the vision tower"})
    additional_special_tokens: str = field(
        default=",".join(TASK_TOKENS), metadata={"help": "task tokens, comma-separated; their ids are checked"}
    )
    task_token_init: str = field(
        default="mean",
        metadata={
            "help": "rows of task tokens that the model does not know yet: mean of related words, or keep as found",
            "choices": ["mean", "keep"],
        },
    )
    lora_enable: bool = field(
        default=False,
        metadata={"help": "train adapters on the language model's attention, and merge them at the end; needs peft"},
    )
    lora_r: int = field(default=64, metadata={"help": "rank of the adapters"})
    lora_alpha: int = field(default=128, metadata={"help": "their scale is lora_alpha / lora_r"})
    lora_dropout: float = field(default=0.05, metadata={"help": "dropout of their inputs"})
    attn_implementation: str = field(
        default="auto", metadata={"help": "auto: flash_attention_2 where installed, else packed_sdpa or sdpa"}
    )


@dataclass(kw_only=True)
class DataArguments:
    """Which samples, and how they become batches."""

    dataset_use: str = field(metadata={"help": "datasets, comma-separated; name%%30 takes 30 percent of one"})
    data_flatten: bool = field(default=True, metadata={"help": "lay a batch end to end, without padding"})
    data_packing: bool = field(default=False, metadata={"help": "fill sequences of model_max_length; batch size 1"})
    max_pixels: int | None = field(
        default=None,
        metadata={
            "help": "largest image area, 32x32 pixels a token; default: what the model was trained with, or 50176"
        },
    )
    min_pixels: int | None = field(
        default=None,
        metadata={"help": "smallest image area; smaller images are enlarged; default: as for max_pixels, or 784"},
    )
    max_bad_samples: int = field(default=0, metadata={"help": "unreadable samples that are skipped before giving up"})


@dataclass(kw_only=True)
class TrainingArguments(transformers.TrainingArguments):
    """The Trainer's arguments with DynEval's defaults, and those of Qwen's folder that the Trainer does not have."""

    output_dir: str = field(metadata={"help": "folder of the run: checkpoints, records, and at its end the model"})
    cache_dir: str | None = field(default=None, metadata={"help": "folder of downloaded models"})
    model_max_length: int = field(default=8192, metadata={"help": "samples with more tokens are skipped and counted"})
    mm_projector_lr: float | None = field(default=None, metadata={"help": "learning rate of the mergers"})
    vision_tower_lr: float | None = field(default=None, metadata={"help": "learning rate of the vision tower"})
    warmup_ratio: float = field(default=0.03, metadata={"help": "share of the steps that warm up"})
    eval_split: str | None = field(
        default=None,
        metadata={
            "help": "split to evaluate on: heldout reads a_heldout.json beside a.json; heldout%%30 takes 30 percent"
        },
    )
    loss_chunks: int = field(default=8, metadata={"help": "pieces in which logits are made; more need less memory"})
    learning_rate: float = field(default=1e-5)
    num_train_epochs: float = field(default=0.5)
    lr_scheduler_type: transformers.SchedulerType | str = field(default="cosine")
    per_device_train_batch_size: int = field(default=4)
    gradient_accumulation_steps: int = field(default=4)
    gradient_checkpointing: bool | None = field(default=True)
    logging_steps: float = field(default=1)
    save_steps: float = field(default=1000)
    save_total_limit: int | None = field(default=1)
    eval_steps: float | None = field(default=1000)
    per_device_eval_batch_size: int = field(default=4)
    dataloader_num_workers: int = field(default=4)

    def __post_init__(self) -> None:
        """Translate to the names of transformers 5 and check what it does not."""
        if self.warmup_steps == 0:
            self.warmup_steps = self.warmup_ratio
        if self.gradient_checkpointing is not None:
            self.activation_checkpointing = self.gradient_checkpointing
            self.gradient_checkpointing = None
        if self.eval_split and self.eval_strategy == "no":
            self.eval_strategy = "steps"
        if self.eval_strategy != "no" and not self.eval_split:
            raise SettingError(f"--eval_strategy {self.eval_strategy} needs data: name a split by --eval_split")
        # Samples are our own objects, not columns of a table.
        self.remove_unused_columns = False
        if self.loss_chunks < 1:
            raise SettingError(f"--loss_chunks must be at least 1, got {self.loss_chunks}")
        super().__post_init__()  # type: ignore[no-untyped-call]
