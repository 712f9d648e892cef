"""The table of all training options: which may change when a run goes on, and which of transformers' are refused.

transformers' `TrainingArguments` has some hundred options. Here each is honoured, with a test, or refused by name; a
release with a new one fails tests/qwenvl/test_options.py until it is put into this table. This module imports neither
torch nor transformers, so that `--help` and a mistyped option are answered at once.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, Literal

from dyneval.errors import nearest
from qwenvl.train.argument import DataArguments, ModelArguments, RecipeArguments

Fate = Literal["fixed", "free", "refused"]


@dataclass(frozen=True, slots=True)
class Option:
    """What becomes of an option of transformers."""

    fate: Fate
    """`fixed`: the trained weights depend on it, so it may not change when a run goes on; `free`: it may."""
    word: str
    """What it does, or, where it is refused, what to use."""


def _options(fate: Fate, **words: str) -> dict[str, Option]:
    return {name: Option(fate, word) for name, word in words.items()}


# An option that was ignored would be worse than one that is refused: the run would go on as if it had been honoured.
TRANSFORMERS: dict[str, Option] = {
    **_options(
        "fixed",
        per_device_train_batch_size="samples of a batch on each device; times batches and devices they make a step",
        gradient_accumulation_steps="batches of a step on each device",
        num_train_epochs="passes over the data",
        max_steps="steps, in place of epochs",
        learning_rate="largest learning rate",
        lr_scheduler_type="its course; types that follow an evaluation are refused",
        lr_scheduler_kwargs="settings of that course, JSON",
        warmup_steps="steps that warm up, in place of --warmup_ratio",
        optim="adamw_torch, adamw_torch_fused, adafactor, sgd, rmsprop or adagrad",
        weight_decay="of AdamW, biases and norms left out",
        adam_beta1="of AdamW",
        adam_beta2="of AdamW",
        adam_epsilon="of AdamW",
        max_grad_norm="gradients are scaled down to this norm; 0 leaves them",
        bf16="compute in bfloat16",
        tf32="matrix products of float32 in TF32, on GPUs that can",
        seed="of sampling, adapters and dropout",
        data_seed="of sampling, in place of --seed",
        dataloader_drop_last="leave out the last batch where it is not full",
        train_sampling_strategy="random, sequential or group_by_length",
    ),
    **_options(
        "free",
        output_dir="folder of the run",
        gradient_checkpointing="compute activations twice instead of keeping them",
        gradient_checkpointing_kwargs="its settings, JSON: every_n_layers, offload",
        logging_strategy="no, steps or epoch",
        logging_steps="steps between two reports",
        logging_first_step="report the first step in any case",
        log_level="of transformers' own messages",
        report_to="trackers: none, tensorboard, wandb, ...",
        run_name="name in the trackers",
        eval_strategy="no, steps or epoch; needs --eval_split",
        eval_steps="steps between two evaluations",
        eval_delay="steps or epochs before the first evaluation",
        eval_on_start="evaluate before the first step",
        per_device_eval_batch_size="samples of a held-out batch",
        save_strategy="no, steps, epoch or best",
        save_steps="steps between two checkpoints",
        save_total_limit="checkpoints kept; the best is kept beside them",
        save_only_model="checkpoints without optimizer; a run cannot go on from them",
        load_best_model_at_end="end with the checkpoint that is best by --metric_for_best_model",
        metric_for_best_model="loss, loss_t2ia, loss_iqa, loss_evaluation or, with --eval_scores, srcc",
        greater_is_better="of that metric",
        push_to_hub="upload the finished output; the token comes from HF_TOKEN or `hf auth login`",
        hub_model_id="repository; default: the name of the output folder",
        hub_private_repo="make it private",
        hub_revision="branch of the repository",
        hub_strategy="end",
        full_determinism="deterministic kernels, slower",
        use_cpu="train on the CPU",
        dataloader_num_workers="processes that read samples, on each device",
        dataloader_pin_memory="for GPUs",
        dataloader_persistent_workers="keep these processes between epochs",
        dataloader_prefetch_factor="batches that each reads ahead",
        ddp_find_unused_parameters="of DistributedDataParallel",
        ddp_bucket_cap_mb="of DistributedDataParallel",
        ddp_backend="nccl or gloo",
        ddp_timeout="seconds that ranks wait for each other",
        deepspeed="its configuration, such as scripts/zero3.json; the ZeRO stage may not change when a run goes on",
        resume_from_checkpoint="start from this checkpoint, of this or another folder",
        local_rank="set by the launcher",
    ),
    **_options(
        "refused",
        optim_args="no optimizer that can be chosen takes any",
        optim_target_modules="--lora_enable True",
        average_tokens_across_devices="the loss is the mean over all targets of a step, on whatever devices",
        label_smoothing_factor="the loss is made from targets alone",
        fp16="--bf16 True",
        bf16_full_eval="held-out samples are computed as those of training",
        fp16_full_eval="held-out samples are computed as those of training",
        activation_checkpointing="--gradient_checkpointing",
        activation_checkpointing_kwargs="--gradient_checkpointing_kwargs",
        torch_compile="each batch has another length, for which it would compile anew",
        torch_compile_backend="each batch has another length, for which torch.compile would compile anew",
        torch_compile_mode="each batch has another length, for which torch.compile would compile anew",
        use_liger_kernel="--loss_chunks saves the memory of the logits",
        liger_kernel_config="--loss_chunks saves the memory of the logits",
        use_cache="training has no use for it",
        neftune_noise_alpha="its noise is made for padded batches of single samples, not for samples laid end to end",
        torch_empty_cache_steps="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment",
        auto_find_batch_size="a run that memory is too small for says which batch size to start it with",
        log_on_each_node="messages come from the first process",
        log_level_replica="messages come from the first process",
        logging_nan_inf_filter="a loss that is no number stops the run",
        include_num_input_tokens_seen="train_log.jsonl has tokens_per_second and target_tokens",
        disable_tqdm="there are no bars, one line a report",
        project="TRACKIO_PROJECT in the environment",
        trackio_space_id="TRACKIO_SPACE_ID in the environment",
        trackio_bucket_id="TRACKIO_BUCKET_ID in the environment",
        trackio_static_space_id="TRACKIO_SPACE_ID in the environment",
        prediction_loss_only="--eval_scores for more than the loss",
        eval_do_concat_batches="evaluation keeps no logits",
        eval_use_gather_object="evaluation keeps no logits",
        eval_accumulation_steps="evaluation keeps no logits",
        include_for_metrics="evaluation keeps no logits; --eval_scores compares scores",
        batch_eval_metrics="evaluation keeps no logits; --eval_scores compares scores",
        save_on_each_node="all nodes see one output folder",
        enable_jit_checkpoint="SIGTERM and SIGUSR1 end a run with a checkpoint",
        hub_token="HF_TOKEN in the environment: a command line is seen by others",
        hub_always_push="the finished output is uploaded, once",
        ignore_data_skip="a run that goes on sees each sample as often as one that was not disturbed",
        restore_callback_states_from_checkpoint="a run that goes on restores what matters",
        accelerator_config="samples keep their order on any number of devices",
        parallelism_config="--deepspeed scripts/zero3.json",
        dataloader_multiprocessing_context="processes are forked",
        dataloader_in_order="samples keep their order",
        remove_unused_columns="samples are no tables",
        label_names="samples are no tables",
        length_column_name="samples are no tables; their lengths are counted",
        ddp_broadcast_buffers="the model has no buffers that training changes",
        ddp_static_graph="samples without image leave parts of the model out",
        fsdp="--deepspeed scripts/zero3.json",
        fsdp_config="--deepspeed scripts/zero3.json",
        debug="a loss, gradient or weight that is no number stops the run by itself",
        skip_memory_metrics="train_log.jsonl has memory_gib",
        do_train="this program trains",
        do_eval="--eval_split heldout",
        do_predict="`dyneval score` scores images",
    ),
}
"""Fate of every option of transformers.TrainingArguments. A refused one may be given with its default."""

FREE = (
    *("attn_implementation", "dataset_use", "max_bad_samples", "output_dir", "cache_dir", "loss_chunks"),
    *("eval_split", "eval_scores"),
)
"""DynEval's own options that may change when a run goes on; of the datasets, content and shares are recorded."""
SCHEDULE = (
    *("learning_rate", "mm_projector_lr", "vision_tower_lr", "lr_scheduler_type", "lr_scheduler_kwargs"),
    *("warmup_steps", "num_train_epochs", "max_steps", "weight_decay", "max_grad_norm"),
)
"""Fixed options that may differ from those of the run whose checkpoint `--resume_from_checkpoint` names."""

SAMPLES_A_STEP = "per_device_train_batch_size * gradient_accumulation_steps * processes"
"""Name of what is fixed of these three in `run.json`."""

VALUES: dict[str, tuple[str, ...]] = {
    "optim": ("adamw_torch_fused", "adamw_torch", "adafactor", "sgd", "rmsprop", "adagrad"),
    "lr_scheduler_type": (
        *("cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"),
        *("cosine_with_restarts", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"),
    ),
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
    "hub_strategy": ("end",),
}
"""Values that are honoured, where transformers knows more."""

ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("group_by_length",), "--train_sampling_strategy group_by_length"),
    **dict.fromkeys(("evaluation_strategy",), "--eval_strategy"),
    **dict.fromkeys(("no_cuda", "use_mps_device"), "--use_cpu True"),
    **dict.fromkeys(("per_gpu_train_batch_size",), "--per_device_train_batch_size"),
    **dict.fromkeys(("per_gpu_eval_batch_size",), "--per_device_eval_batch_size"),
    **dict.fromkeys(("overwrite_output_dir",), "another --output_dir, or delete the folder"),
    **dict.fromkeys(("logging_dir",), "TENSORBOARD_LOGGING_DIR in the environment"),
    **dict.fromkeys(("include_tokens_per_second",), "train_log.jsonl, which has tokens_per_second"),
    **dict.fromkeys(("save_safetensors",), "nothing: weights are always saved as safetensors"),
    **dict.fromkeys(("push_to_hub_model_id", "push_to_hub_organization"), "--hub_model_id"),
    **dict.fromkeys(("push_to_hub_token",), "HF_TOKEN in the environment"),
    **dict.fromkeys(("fp16_opt_level", "fp16_backend", "half_precision_backend"), "--bf16 True"),
    **dict.fromkeys(("sharded_ddp",), "--deepspeed scripts/zero3.json"),
    **dict.fromkeys(("model_name",), "--model_name_or_path"),
    **dict.fromkeys(("version", "model_type"), "nothing: the class of the model follows from its config.json"),
    **dict.fromkeys(("freeze_vision_tower", "freeze_vision_modules"), "--tune_mm_vision False, or --freeze"),
    **dict.fromkeys(("lora_target_modules", "target_modules"), "--lora_modules"),
    **dict.fromkeys(
        ("video_max_frames", "video_min_frames", "video_max_pixels", "video_min_pixels", "video_fps", "base_interval"),
        "nothing: DynEval scores single images, and video samples are refused",
    ),
}
"""Options of older transformers, of other trainers and of Qwen's folder, and what to use."""


def own_fields() -> dict[str, dataclasses.Field[Any]]:
    """Return DynEval's own options by name, and those of transformers whose default differs here."""
    kinds = (ModelArguments, DataArguments, RecipeArguments)
    return {field.name: field for kind in kinds for field in dataclasses.fields(kind)}


def fate_of(name: str) -> Fate:
    """Return whether an option is fixed once a run has begun, free or refused."""
    # An option of ours that is in no list is fixed: forgetting one refuses a resume, and never mixes two recipes.
    if name in TRANSFORMERS:
        return TRANSFORMERS[name].fate
    return "free" if name in FREE else "fixed"


def unknown_option(name: str) -> str | None:
    """Return what is wrong with the name of an option, without `--`; None where there is such an option."""
    if name in TRANSFORMERS or name in own_fields() or name == "help":
        return None
    if name in ELSEWHERE:
        return f"--{name} is not an option here; use {ELSEWHERE[name]}"
    known = [*own_fields(), *(other for other, option in TRANSFORMERS.items() if option.fate != "refused")]
    near = nearest(name, known)
    return f"there is no option --{name}; " + (f"did you mean --{near}?" if near else "--help lists all")


def document() -> str:
    """Return OPTIONS.md, the table for people. A test compares it with the file."""
    lines = [
        "# Options of training",
        "",
        "`python3 -m qwenvl.train.options > OPTIONS.md` writes this file from `qwenvl/train/options.py`.",
        "",
        "A run that was cut off goes on where the same command is given again. An option that is *fixed* must then be",
        "the same, since the trained weights depend on it; one that is *free* may be another. Where",
        "`--resume_from_checkpoint` names a checkpoint of another run, options of the *schedule* may differ from those",
        "of that run as well.",
        "",
        "* Batch size, accumulation and number of processes may change while their product, the samples of a step,",
        f"  stays the same (`{SAMPLES_A_STEP}`).",
        "  DeepSpeed's checkpoints need the number of processes and the ZeRO stage that they were written with.",
        "* A folder is the same model however its path is written.",
        "* Of the data, contents and shares of the annotation files are compared, not their names.",
        "",
        "## DynEval's own",
        "",
        "| option | when a run goes on | |",
        "|---|---|---|",
    ]
    for name, field in own_fields().items():
        if "help" in field.metadata:
            word = field.metadata["help"].replace("%%", "%").replace("|", "/")
            lines.append(f"| `{name}` | {_fate_shown(name)} | {word} |")
    lines += ["", "## Those of transformers", "", "| option | when a run goes on | |", "|---|---|---|"]
    lines += [f"| `{name}` | {_fate_shown(name)} | {option.word} |" for name, option in TRANSFORMERS.items()]
    lines += ["", "## Names of other versions and trainers", "", "| option | use |", "|---|---|"]
    lines += [f"| `{name}` | {word} |" for name, word in ELSEWHERE.items()]
    return "\n".join(lines) + "\n"


def _fate_shown(name: str) -> str:
    if name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        return "free, their product is fixed"
    fate = fate_of(name)
    return "fixed, schedule" if name in SCHEDULE else "refused; use:" if fate == "refused" else fate


if __name__ == "__main__":
    sys.stdout.write(document())
