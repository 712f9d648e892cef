"""Reads a command line into the arguments of a run, or says in one line what is wrong with it.

`usage.first_look` comes before: it finds options that do not exist without importing transformers, which takes seconds.
Options are checked against each other here, before a model is loaded: a mistake should cost a second, not an hour.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import torch
import transformers
from transformers import HfArgumentParser
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from dyneval.errors import SettingError
from qwenvl.train.argument import DataArguments, ModelArguments, RecipeArguments
from qwenvl.train.checkpoints import NONE, PLAIN
from qwenvl.train.options import TRANSFORMERS, VALUES

Values = dict[str, Any]
_REQUIRED = ("model_name_or_path", "dataset_use", "output_dir")
_CHECKPOINTING = ("every_n_layers", "offload", "use_reentrant", "preserve_rng_state")
METRICS = ("loss", "loss_other", "loss_t2ia", "loss_iqa", "loss_evaluation", "srcc")
"""Figures of an evaluation that `--metric_for_best_model` may name."""


@dataclass(kw_only=True)
class TrainingArguments(RecipeArguments, transformers.TrainingArguments):  # type: ignore[misc]  # narrower types
    """The Trainer's arguments with DynEval's defaults, and those that the Trainer does not have."""

    def __post_init__(self) -> None:
        """Translate to the names of transformers 5 and check what it does not check."""
        # transformers 5 takes a share of the steps, a float below 1, as warmup_steps.
        if self.warmup_steps is None:
            self.warmup_steps = self.warmup_ratio
        if self.gradient_checkpointing is not None:
            # Renamed in transformers 5; the old name stays on our command line, as in Qwen's folder.
            self.activation_checkpointing, self.gradient_checkpointing = self.gradient_checkpointing, None
            kwargs, self.gradient_checkpointing_kwargs = self.gradient_checkpointing_kwargs, None
            self.activation_checkpointing_kwargs = kwargs
        if self.eval_split and self.eval_strategy == "no":
            self.eval_strategy = "steps"
        if self.eval_strategy != "no" and not self.eval_split:
            raise SettingError(f"--eval_strategy {self.eval_strategy} needs data: name a split by --eval_split")
        if self.metric_for_best_model and self.greater_is_better is None:
            # transformers thinks that more is better of every name that does not end in "loss", such as loss_t2ia.
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") == "srcc"
        if isinstance(self.report_to, str):
            self.report_to = self.report_to.split(",")
        super().__post_init__()  # type: ignore[no-untyped-call]
        unknown = {*(self.activation_checkpointing_kwargs or {})} - {*_CHECKPOINTING}
        if unknown:
            raise SettingError(
                f"--gradient_checkpointing_kwargs {', '.join(sorted(unknown))}: known are {', '.join(_CHECKPOINTING)}"
            )

    @property
    def optimizer_layout(self) -> str:
        """Layout of the optimizer's state in a checkpoint; one of another layout cannot be read back."""
        if self.save_only_model:
            return NONE
        if not self.deepspeed:
            return PLAIN
        stage = self.hf_deepspeed_config.get_value("zero_optimization.stage", 0)
        return f"ZeRO-{stage} of {self.world_size} processes"


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise SettingError where argparse prints its usage and exits."""
        raise SettingError(message)


def parse(argv: Sequence[str]) -> Values:
    """Return the values of all options, checked one by one and against each other.

    Raises:
        SettingError: an option cannot be read, is refused, out of its range or without effect; the message names it.
    """
    kinds: Any = (ModelArguments, DataArguments, TrainingArguments)
    parser = _Parser(kinds, add_help=False, allow_abbrev=False)
    namespace, rest = parser.parse_known_args(list(argv))
    if rest:
        raise SettingError(f"{rest[0]!r} is neither an option nor the value of one")
    values = vars(namespace)
    # Whether an option was given shows only in its difference from the default: argparse does not tell.
    defaults = vars(parser.parse_args([word for name in _REQUIRED for word in (f"--{name}", values[name])]))
    _check_refused(values, defaults)
    _check_ranges(values)
    for names, condition, holds in NEEDS:
        for name in names:
            if values[name] != defaults[name] and not holds(values):
                raise SettingError(f"--{name} {_shown(values[name])} has no effect without {condition}")
    _check_pairs(values, defaults)
    # The schedule is tried on one zero: some types need settings, and transformers would miss them only when it trains.
    kwargs = values["lr_scheduler_kwargs"]
    try:
        if isinstance(kwargs, str):
            kwargs = json.loads(kwargs)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        transformers.get_scheduler(values["lr_scheduler_type"], optimizer, 1, 10, scheduler_specific_kwargs=kwargs)
    except (TypeError, ValueError, AttributeError) as error:
        raise SettingError(
            f"--lr_scheduler_type {_shown(values['lr_scheduler_type'])} with --lr_scheduler_kwargs {kwargs}: {error}"
        ) from error
    return values


def build(values: Values) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """Return the three groups of arguments.

    Raises:
        SettingError: transformers refuses a value, or a combination of them.
    """
    groups: list[Any] = []
    for kind in (ModelArguments, DataArguments, TrainingArguments):
        names = {one.name for one in fields(kind) if one.init}
        try:
            groups.append(kind(**{name: value for name, value in values.items() if name in names}))
        except SettingError:
            raise  # our own, which are ValueErrors too
        # What transformers refuses: values, missing packages, unsupported pairs, and files such as DeepSpeed's.
        except (ValueError, ImportError, NotImplementedError, OSError) as error:
            raise SettingError(" ".join(str(error).split())) from error
    # transformers would notice a tracker that is not installed only when the model is loaded.
    there = get_available_reporting_integrations()
    for name in groups[2].report_to or []:
        if name not in INTEGRATION_TO_CALLBACK:
            raise SettingError(f"--report_to {name} is no tracker; known are {', '.join(INTEGRATION_TO_CALLBACK)}")
        if name not in there:
            raise SettingError(f"--report_to {name}: {name} is not installed; pip install {name}, or --report_to none")
    return groups[0], groups[1], groups[2]


def _check_refused(values: Values, defaults: Values) -> None:
    for name, option in TRANSFORMERS.items():
        if option.fate == "refused" and values[name] != defaults[name]:
            raise SettingError(f"--{name} {_shown(values[name])} is not supported: {option.word}")
    for name, known in VALUES.items():
        if _shown(values[name]) not in known:
            raise SettingError(f"--{name} {_shown(values[name])} is not supported; known are {', '.join(known)}")


def _check_ranges(values: Values) -> None:
    for name, (low, high) in RANGES.items():
        value = values[name]
        if value is None or low <= value <= high:
            continue
        expected = f"at least {low}" + ("" if high >= 2**31 - 1 else f", at most {high}")
        if low == _POSITIVE:
            expected = "a number over 0"
        elif 0 < high <= 1:
            expected = f"{low} to {'1' if high == 1 else 'under 1'}"
        raise SettingError(f"--{name} is {value}, expected {expected}")
    if values["max_steps"] == 0 or values["max_steps"] < -1:
        raise SettingError(f"--max_steps is {values['max_steps']}, expected at least 1, or -1 for --num_train_epochs")


def _check_pairs(values: Values, defaults: Values) -> None:
    """Refuse options that contradict each other."""
    if values["warmup_steps"] is not None and values["warmup_ratio"] != defaults["warmup_ratio"]:
        raise SettingError("--warmup_steps and --warmup_ratio contradict each other; give one of them")
    if values["data_packing"] and not values["data_flatten"]:
        raise SettingError("--data_packing True lays samples end to end, which --data_flatten False forbids")
    if str(values["resume_from_checkpoint"]).lower() == "false":
        raise SettingError(
            "--resume_from_checkpoint False: a run goes on from the newest checkpoint of its output folder; to start "
            "anew, name another --output_dir"
        )
    best = values["save_strategy"] == "best"
    if best and not (values["eval_split"] and values["metric_for_best_model"]):
        raise SettingError("--save_strategy best needs --eval_split and --metric_for_best_model")
    if values["deepspeed"] and values["save_only_model"] and values["load_best_model_at_end"]:
        raise SettingError("--load_best_model_at_end with --deepspeed reads the optimizer: drop --save_only_model")
    if values["metric_for_best_model"] is not None:
        metric = values["metric_for_best_model"].removeprefix("eval_")
        if metric not in METRICS:
            raise SettingError(f"--metric_for_best_model {metric} is not measured; known are {', '.join(METRICS)}")
        if metric == "srcc" and not values["eval_scores"]:
            raise SettingError("--metric_for_best_model srcc needs --eval_scores, the number of samples to score")


_POSITIVE = math.ulp(0.0)
"""The smallest float over 0, for ranges that exclude it."""
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("lora_r", "lora_alpha", "model_max_length", "loss_chunks", "min_pixels", "max_pixels"), (1, 2**53)
    ),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, 2**20)),
    **dict.fromkeys(("gradient_accumulation_steps", "save_total_limit", "ddp_timeout"), (1, 2**31)),
    **dict.fromkeys(("max_bad_samples", "eval_scores", "eval_delay", "dataloader_num_workers"), (0, 2**31)),
    **dict.fromkeys(("seed", "data_seed"), (0, 2**32 - 1)),
    **dict.fromkeys(("learning_rate", "mm_projector_lr", "vision_tower_lr"), (0, sys.float_info.max)),
    **dict.fromkeys(("weight_decay", "max_grad_norm", "warmup_steps"), (0, sys.float_info.max)),
    **dict.fromkeys(("num_train_epochs", "adam_epsilon"), (_POSITIVE, sys.float_info.max)),
    **dict.fromkeys(("logging_steps", "save_steps", "eval_steps"), (_POSITIVE, 2**31)),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), (0, math.nextafter(1, 0))),
    "warmup_ratio": (0, math.nextafter(1, 0)),  # 1 and more would be steps
}
"""Smallest and largest value; NaN is in no range."""

_EVALUATION = ("eval_steps", "eval_delay", "eval_on_start", "eval_scores", "load_best_model_at_end")
NEEDS: list[tuple[tuple[str, ...], str, Callable[[Values], bool]]] = [
    (("lora_r", "lora_alpha", "lora_dropout", "lora_modules"), "--lora_enable True", lambda v: v["lora_enable"]),
    (("mm_projector_lr",), "--tune_mm_mlp True", lambda v: v["tune_mm_mlp"]),
    (("vision_tower_lr",), "--tune_mm_vision True", lambda v: v["tune_mm_vision"]),
    ((*_EVALUATION, "per_device_eval_batch_size"), "--eval_split", lambda v: bool(v["eval_split"])),
    (
        ("metric_for_best_model", "greater_is_better"),
        "--load_best_model_at_end True or --save_strategy best",
        lambda v: v["load_best_model_at_end"] or v["save_strategy"] == "best",
    ),
    (("hub_model_id", "hub_private_repo", "hub_revision"), "--push_to_hub True", lambda v: v["push_to_hub"]),
    (
        ("dataloader_persistent_workers", "dataloader_prefetch_factor"),
        "--dataloader_num_workers of at least 1",
        lambda v: v["dataloader_num_workers"] > 0,
    ),
    (("gradient_checkpointing_kwargs",), "--gradient_checkpointing True", lambda v: v["gradient_checkpointing"]),
    (
        ("adam_beta1", "adam_beta2", "adam_epsilon"),
        "--optim adamw_torch_fused or adamw_torch",
        lambda v: str(getattr(v["optim"], "value", v["optim"])).startswith("adamw"),
    ),
    (("save_steps",), "--save_strategy steps", lambda v: v["save_strategy"] == "steps"),
    (("logging_steps",), "--logging_strategy steps", lambda v: v["logging_strategy"] == "steps"),
    (("eval_steps",), "--eval_strategy steps", lambda v: v["eval_strategy"] in ("steps", "no")),
]
"""Options, the condition without which they have no effect, and a function that says whether it holds."""


def _shown(value: Any) -> str:
    return str(getattr(value, "value", value))
