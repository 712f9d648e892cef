"""Options of `train_qwen.py` that are DynEval's own, named as in Qwen's fine-tuning folder where it has them.

The options of transformers' Trainer come on top (`parsing.py`); `options.py` says what becomes of each. Nothing heavy
is imported here, so that `--help` answers at once. Defaults are the published recipe's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dyneval.tokens import TASK_TOKENS


def option(default: Any, help_: str, **more: Any) -> Any:
    """Make a field with its help and, in `more`, what else argparse takes."""
    return field(default=default, metadata={"help": help_, **more})


@dataclass(kw_only=True)
class ModelArguments:
    """Which model, and which of its parts are trained."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder or Hugging Face id of a Qwen3-VL model"})
    tune_mm_llm: bool = option(True, "train the language model")
    tune_mm_mlp: bool = option(True, "train the merger and the deepstack mergers")
    tune_mm_vision: bool = option(False, "train the vision tower")
    freeze: str | None = option(
        None, "parameters that are not trained whatever the tune flags say: patterns such as *.layers.0.*"
    )
    additional_special_tokens: str = option(
        ",".join(TASK_TOKENS), "task tokens, comma-separated; their ids are checked"
    )
    task_token_init: str = option(
        "mean",
        "rows of task tokens that the model does not know yet: mean of related words, or keep as found",
        choices=["mean", "keep"],
    )
    lora_enable: bool = option(
        False, "train adapters of the language model; the output is merged, and adapter/ keeps them; needs peft"
    )
    lora_r: int = option(64, "rank of the adapters")
    lora_alpha: int = option(128, "their scale is lora_alpha / lora_r")
    lora_dropout: float = option(0.05, "dropout of their inputs")
    lora_modules: str = option(
        "q_proj,k_proj,v_proj,o_proj", "linear layers that get an adapter, by the last part of their names"
    )
    attn_implementation: str = option("auto", "auto: flash_attention_2 where installed, else packed_sdpa or sdpa")


@dataclass(kw_only=True)
class DataArguments:
    """Which samples, and how they become batches."""

    dataset_use: str = field(metadata={"help": "datasets, comma-separated; name%%30 takes 30 percent of one"})
    data_flatten: bool = option(True, "lay a batch end to end, without padding")
    data_packing: bool = option(False, "fill sequences of model_max_length; batch size 1")
    max_pixels: int | None = option(
        None,
        "largest image area, 32x32 pixels a token; default: what the model was trained with, or 50176",
    )
    min_pixels: int | None = option(
        None, "smallest image area; smaller images are enlarged; default: as for max_pixels, or 784"
    )
    max_bad_samples: int = option(0, "unreadable samples that are skipped before giving up")


@dataclass(kw_only=True)
class RecipeArguments:
    """How it is trained: options that transformers' Trainer lacks, and its own with DynEval's defaults."""

    output_dir: str = field(metadata={"help": "folder of the run: checkpoints, records, and at its end the model"})
    cache_dir: str | None = option(None, "folder of downloaded models")
    model_max_length: int = option(8192, "samples with more tokens are skipped and counted")
    mm_projector_lr: float | None = option(None, "learning rate of the mergers")
    vision_tower_lr: float | None = option(None, "learning rate of the vision tower")
    warmup_ratio: float = option(0.03, "share of the steps that warm up")
    eval_split: str | None = option(
        None, "split to evaluate on: heldout reads a_heldout.json beside a.json; heldout%%30 takes 30 percent"
    )
    eval_scores: int = option(
        0, "held-out EVALUATION samples that each evaluation scores, to compare with the teacher's scores: SRCC"
    )
    loss_chunks: int = option(8, "pieces in which logits are made; more need less memory")
    # Without help texts: these are transformers' own options, here with the published recipe's defaults.
    learning_rate: float = field(default=1e-5)
    num_train_epochs: float = field(default=0.5)
    lr_scheduler_type: str = field(default="cosine")
    warmup_steps: float | None = field(default=None)
    per_device_train_batch_size: int = field(default=4)
    gradient_accumulation_steps: int = field(default=4)
    gradient_checkpointing: bool | None = field(default=True)
    logging_steps: float = field(default=1)
    logging_nan_inf_filter: bool = field(default=False)
    save_steps: float = field(default=1000)
    save_total_limit: int | None = field(default=1)
    eval_steps: float | None = field(default=1000)
    per_device_eval_batch_size: int = field(default=4)
    hub_strategy: str = field(default="end")
    remove_unused_columns: bool = field(default=False)
    dataloader_num_workers: int = field(default=4)
