"""Every option of training is honoured or refused by name; what is honoured is seen in what the Trainer is made of."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from dyneval.errors import SettingError
from qwenvl.data import DatasetSource
from qwenvl.data.collator import Collator, dummy_example
from qwenvl.data.dataset import InstructDataset
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import load_model
from qwenvl.train.options import ELSEWHERE, FREE, SCHEDULE, TRANSFORMERS, fate_of, own_fields
from qwenvl.train.parsing import TrainingArguments, build, parse
from qwenvl.train.trainer import DynEvalTrainer
from qwenvl.train.usage import first_look, usage

FOLDER = Path(__file__).parents[2] / "Qwen3-VL" / "qwen-vl-finetune"
REQUIRED = ["--model_name_or_path", "base", "--dataset_use", "dynevalinstruct", "--output_dir", "out"]
HONOURED = {name for name, option in TRANSFORMERS.items() if option.fate != "refused"}


def read(*words):
    return parse([*REQUIRED, *map(str, words)])


def test_the_table_has_every_option_of_transformers():
    assert TRANSFORMERS.keys() == {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    assert {*FREE} <= own_fields().keys() and all(fate_of(name) == "fixed" for name in SCHEDULE)
    assert not ELSEWHERE.keys() & (TRANSFORMERS.keys() | own_fields().keys())
    assert all(option.word for option in TRANSFORMERS.values())


# A value that is not the default, for each option that is refused.
REFUSED = {
    **dict.fromkeys(("optim_args", "optim_target_modules", "label_names", "fsdp_config"), "x"),
    **dict.fromkeys(("average_tokens_across_devices", "eval_do_concat_batches", "dataloader_in_order"), "False"),
    **dict.fromkeys(("log_on_each_node", "skip_memory_metrics"), "False"),
    **dict.fromkeys(("torch_compile_backend", "torch_compile_mode", "hub_token", "length_column_name"), "x"),
    **dict.fromkeys(("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), "x"),
    **dict.fromkeys(("label_smoothing_factor", "neftune_noise_alpha"), "0.1"),
    **dict.fromkeys(("torch_empty_cache_steps", "eval_accumulation_steps"), "2"),
    **dict.fromkeys(("accelerator_config", "activation_checkpointing_kwargs"), '{"a": 1}'),
    "log_level_replica": "error",
    "dataloader_multiprocessing_context": "spawn",
    "debug": "underflow_overflow",
    "include_for_metrics": "loss",
}
# argparse cannot read these from a command line at all.
NOT_WORDS = {"liger_kernel_config", "parallelism_config"}


@pytest.mark.parametrize("name", sorted(TRANSFORMERS.keys() - HONOURED - NOT_WORDS))
def test_a_refused_option_is_named_with_what_to_use(name):
    with pytest.raises(SettingError, match=rf"^--{name} .* is not supported: .") as refused:
        read(f"--{name}", REFUSED.get(name, "True"))
    assert str(refused.value).endswith(TRANSFORMERS[name].word)


@pytest.mark.parametrize("name", sorted(TRANSFORMERS.keys() - HONOURED))
def test_a_refused_option_may_be_given_with_its_default(name):
    default = next(field.default for field in dataclasses.fields(TrainingArguments) if field.name == name)
    if isinstance(default, bool):
        assert read(f"--{name}", default)[name] == default


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--group_by_length", "True"], "--group_by_length is not an option here; use --train_sampling_strategy group"),
        (["--video_max_frames", "8"], "DynEval scores single images"),
        (["--learning-rat", "1"], "there is no option --learning_rat; did you mean --learning_rate?"),
        (["--zzz"], "there is no option --zzz; --help lists all"),
    ],
)
def test_an_option_that_does_not_exist_is_told_what_to_use(words, reason):
    with pytest.raises(SettingError) as refused:
        first_look(words)
    assert reason in str(refused.value)


def test_switches_can_be_turned_off_by_their_other_name():
    first_look(["--no_tune_mm_llm", "--no-tune-mm-mlp", "--learning-rate=1"])
    assert not read("--no_tune_mm_llm")["tune_mm_llm"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--lora_enable True --lora_r 0", "--lora_r is 0, expected at least 1"),
        ("--lora_enable True --lora_dropout 1", "--lora_dropout is 1.0, expected 0 to under 1"),
        ("--lora_r 0", "--lora_r is 0, expected at least 1"),
        ("--lora_r 8", "--lora_r 8 has no effect without --lora_enable True"),
        ("--learning_rate nan", "--learning_rate is nan"),
        ("--learning_rate -1", "--learning_rate is -1.0, expected at least 0"),
        ("--num_train_epochs 0", "--num_train_epochs is 0.0, expected a number over 0"),
        ("--max_steps 0", "--max_steps is 0, expected at least 1, or -1"),
        ("--per_device_train_batch_size 0", "expected at least 1"),
        ("--max_bad_samples -1", "--max_bad_samples is -1"),
        ("--save_total_limit 0", "--save_total_limit is 0"),
        ("--optim galore_adamw", "--optim galore_adamw is not supported; known are adamw_torch_fused"),
        ("--lr_scheduler_type reduce_lr_on_plateau", "is not supported; known are cosine"),
        ("--lr_scheduler_type warmup_stable_decay", "--lr_scheduler_type warmup_stable_decay with --lr_scheduler_kw"),
        ("--train_sampling_strategy batch_rebalance", "known are random, sequential, group_by_length"),
        ("--hub_strategy every_save", "known are end"),
        ("--hub_model_id a/b", "--hub_model_id a/b has no effect without --push_to_hub True"),
        ("--mm_projector_lr 1e-5 --tune_mm_mlp False", "no effect without --tune_mm_mlp True"),
        ("--eval_steps 10", "--eval_steps 10.0 has no effect without --eval_split"),
        ("--load_best_model_at_end True", "no effect without --eval_split"),
        ("--adam_beta1 0.5 --optim sgd", "no effect without --optim adamw_torch_fused or adamw_torch"),
        ("--warmup_steps 5 --warmup_ratio 0.5", "contradict each other"),
        ("--data_packing True --data_flatten False", "which --data_flatten False forbids"),
        ("--resume_from_checkpoint False", "to start anew, name another --output_dir"),
        (
            "--eval_split heldout --save_strategy best --metric_for_best_model bleu",
            "bleu is not measured; known are loss",
        ),
        ("--eval_split heldout --save_strategy best --metric_for_best_model srcc", "srcc needs --eval_scores"),
        ("--save_strategy best", "--save_strategy best needs --eval_split and --metric_for_best_model"),
        ("value", "'value' is neither an option nor the value of one"),
    ],
)
def test_values_out_of_range_or_without_effect_are_refused(words, reason):
    with pytest.raises(SettingError) as refused:
        read(*words.split())
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--report_to wandb", "--report_to wandb: wandb is not installed; pip install wandb, or --report_to none"),
        ("--report_to tensorboard,paper", "--report_to paper is no tracker; known are"),
        ('--gradient_checkpointing_kwargs {"layers":2}', "--gradient_checkpointing_kwargs layers: known are every_n"),
        ("--eval_strategy steps", "name a split by --eval_split"),
        ("--tf32 True", "--tf32 requires Ampere"),
        ("--eval_split heldout --load_best_model_at_end True --save_steps 5 --eval_steps 2", "to be a round multiple"),
        ("--deepspeed nothing.json", "nothing.json"),
    ],
)
def test_what_transformers_refuses_is_one_line(words, reason, tmp_path):
    values = parse([*REQUIRED[:-1], str(tmp_path), "--use_cpu", "True", *words.split()])
    with pytest.raises(SettingError) as refused:
        build(values)
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_help_and_slips_are_answered_without_anything_heavy(tmp_path):
    watch = (
        "import sys; sys.argv = ['train_qwen', *sys.argv[1:]]\n"
        "from qwenvl.train.train_qwen import main\n"
        "code = main(sys.argv[1:])\n"
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(code)"
    )
    shown = subprocess.run([sys.executable, "-c", watch, "--help"], capture_output=True, text=True, cwd=FOLDER)
    assert shown.returncode == 0, shown.stderr
    places = [
        shown.stdout.index(f"\n  --{name} ") for name in ("tune_mm_llm", "dataset_use", "eval_scores", "adam_beta1")
    ]
    assert places == sorted(places) and "label_smoothing_factor" in shown.stdout
    slip = ["--output_dir", tmp_path / "run", "--epochs", "3"]
    told = subprocess.run([sys.executable, "-c", watch, *slip], capture_output=True, text=True, cwd=FOLDER)
    assert (told.returncode, told.stderr) == (2, "train_qwen: there is no option --epochs; --help lists all\n")
    assert (tmp_path / "run" / "failure.txt").read_text() == told.stderr.removeprefix("train_qwen: ")


def test_help_names_all_that_may_be_given():
    shown = usage("train_qwen")
    own = [name for name, field in own_fields().items() if "help" in field.metadata]
    for name in [*own, *HONOURED]:
        assert f"--{name} " in shown, name


@pytest.fixture(scope="module")
def trainer_with(tiny_checkpoint, processor, tmp_path_factory):
    """The trainer that a command line makes, over 64 text samples of two lengths."""
    from dyneval.tokens import t2ia_turn

    from .conftest import sample

    folder = tmp_path_factory.mktemp("options")
    rows = [sample(t2ia_turn("a cat " * (1 + 20 * (number % 2))), [], None, str(number)) for number in range(64)]
    (folder / "data.json").write_text(json.dumps(rows))
    source = DatasetSource(name="data", annotation=folder / "data.json", data=folder)
    dataset = InstructDataset([source], processor, model_max_length=8192, cache=folder / "cache")
    model = load_model(ModelArguments(model_name_or_path=str(tiny_checkpoint)), torch.float32, 1)
    collator = Collator(model.model.get_rope_index, dummy_example(processor), processor.tokenizer.pad_token_id)

    def trainer_with(*words):
        line = [*REQUIRED[:-1], folder / "out", "--use_cpu", "True", "--dataloader_num_workers", "0", *words]
        _, _, arguments = build(parse([str(word) for word in line]))
        heldout = dataset if arguments.eval_split else None
        return DynEvalTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            eval_dataset=heldout,
            data_collator=collator,
            processing_class=processor,
            max_bad_samples=0,
        )

    return trainer_with


def optimizer(trainer):
    return trainer.create_optimizer()


def rates(trainer, steps=10):
    """Learning rates of the steps, as shares of the largest."""
    scheduler = trainer.create_scheduler(steps, optimizer(trainer))
    found = []
    for _ in range(steps):
        found.append(round(scheduler.get_last_lr()[0] / trainer.args.learning_rate, 3))
        trainer.optimizer.step()
        scheduler.step()
    return found


def lengths_by_step(trainer):
    return [sorted(trainer.train_dataset.lengths[index] for index in batch) for batch in batches(trainer)]


def batches(trainer):
    return [[int(index) for index in batch] for batch in trainer.get_train_dataloader().batch_sampler]


GROUPED = ["--train_sampling_strategy", "group_by_length", "--gradient_accumulation_steps", 1]
HELD = ["--eval_split", "heldout"]
# The option, a command line, and what is then true of the trainer.
SEEN = {
    "output_dir": ([], lambda t: t.args.output_dir.endswith("/out")),
    "per_device_train_batch_size": (
        ["--per_device_train_batch_size", 3],
        lambda t: [len(b) for b in batches(t)] == [3] * 21 + [1],
    ),
    "dataloader_drop_last": (
        ["--per_device_train_batch_size", 3, "--dataloader_drop_last", "True"],
        lambda t: [len(b) for b in batches(t)] == [3] * 21,
    ),
    "learning_rate": (
        ["--learning_rate", 0.25],
        lambda t: {group["lr"] for group in optimizer(t).param_groups} == {0.25},
    ),
    "weight_decay": (
        ["--weight_decay", 0.5],
        lambda t: {group["weight_decay"] for group in optimizer(t).param_groups} == {0.0, 0.5},
    ),
    "optim": (["--optim", "sgd"], lambda t: isinstance(optimizer(t), torch.optim.SGD)),
    "adam_beta1": (["--adam_beta1", 0.5], lambda t: optimizer(t).param_groups[0]["betas"] == (0.5, 0.999)),
    "adam_beta2": (["--adam_beta2", 0.5], lambda t: optimizer(t).param_groups[0]["betas"] == (0.9, 0.5)),
    "adam_epsilon": (["--adam_epsilon", 0.5], lambda t: optimizer(t).param_groups[0]["eps"] == 0.5),
    "lr_scheduler_type": (
        ["--lr_scheduler_type", "linear", "--warmup_steps", 0],
        lambda t: rates(t) == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    ),
    "lr_scheduler_kwargs": (
        [
            *["--lr_scheduler_type", "cosine_with_min_lr", "--warmup_steps", 0],
            *["--lr_scheduler_kwargs", '{"min_lr_rate": 0.5}'],
        ],
        lambda t: 0.5 < min(rates(t)) < 0.53,
    ),
    "warmup_steps": (["--warmup_steps", 4], lambda t: rates(t)[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]),
    "gradient_checkpointing": (
        ["--gradient_checkpointing", "False"],
        lambda t: (t.args.activation_checkpointing, t.args.gradient_checkpointing) == (False, False),
    ),
    "gradient_checkpointing_kwargs": (
        ["--gradient_checkpointing_kwargs", '{"every_n_layers": 2}'],
        lambda t: t.args.activation_checkpointing_kwargs == {"every_n_layers": 2},
    ),
    "bf16": (["--bf16", "True"], lambda t: t.accelerator.mixed_precision == "bf16"),
    "train_sampling_strategy": (GROUPED, lambda t: sum(len({*step}) == 1 for step in lengths_by_step(t)) >= 12),
    "data_seed": (
        [*GROUPED, "--data_seed", 7],
        lambda t: [batches(t), batches(t)] == 2 * [batches(t)] and t._get_train_sampler().seed == 7,
    ),
    "full_determinism": (["--full_determinism", "True"], lambda t: torch.are_deterministic_algorithms_enabled()),
    "log_level": (
        ["--log_level", "error"],
        lambda t: transformers.logging.get_verbosity() == transformers.logging.ERROR,
    ),
    "report_to": (
        ["--report_to", "tensorboard"],
        lambda t: any(type(one).__name__ == "TensorBoardCallback" for one in t.callback_handler.callbacks),
    ),
    "run_name": (["--run_name", "mine"], lambda t: t.args.run_name == "mine"),
    "per_device_eval_batch_size": (
        [*HELD, "--per_device_eval_batch_size", 3],
        lambda t: t.get_eval_dataloader().batch_size == 3,
    ),
    "dataloader_num_workers": (["--dataloader_num_workers", 2], lambda t: t.get_train_dataloader().num_workers == 2),
    "dataloader_pin_memory": ([], lambda t: not t.get_train_dataloader().pin_memory),
    "dataloader_persistent_workers": (
        ["--dataloader_num_workers", 1, "--dataloader_persistent_workers", "True"],
        lambda t: t.get_train_dataloader().persistent_workers,
    ),
    "dataloader_prefetch_factor": (
        ["--dataloader_num_workers", 1, "--dataloader_prefetch_factor", 5],
        lambda t: t.get_train_dataloader().prefetch_factor == 5,
    ),
    "ddp_find_unused_parameters": (
        ["--ddp_find_unused_parameters", "True"],
        lambda t: t._wrap_model(t.model) is t.model and t.args.ddp_find_unused_parameters,
    ),
    "ddp_bucket_cap_mb": (["--ddp_bucket_cap_mb", 7], lambda t: t.args.ddp_bucket_cap_mb == 7),
    "ddp_timeout": (["--ddp_timeout", 60], lambda t: t.args.ddp_timeout_delta.total_seconds() == 60),
    "use_cpu": ([], lambda t: t.args.device.type == "cpu"),
    "local_rank": (["--local_rank", -1], lambda t: t.args.process_index == 0),
    "greater_is_better": (
        [*HELD, *["--save_strategy", "best", "--metric_for_best_model", "loss", "--greater_is_better", "True"]],
        lambda t: (
            [t._determine_best_metric({"eval_loss": loss}, None) for loss in (3.0, 2.0, 4.0)] == [True, False, True]
        ),
    ),
}
# Options whose test is a run of its own.
ELSEWHERE_TESTED = {
    "test_training.py": (
        *("num_train_epochs", "max_steps", "gradient_accumulation_steps", "seed", "ddp_backend"),
        *("deepspeed", "eval_strategy", "eval_steps", "save_steps"),
    ),
    "test_option_runs.py": (
        *("save_only_model", "load_best_model_at_end", "metric_for_best_model", "resume_from_checkpoint", "eval_delay"),
        *(
            "eval_on_start",
            "max_grad_norm",
            "save_strategy",
            "save_total_limit",
            "logging_strategy",
            "logging_steps",
            "logging_first_step",
        ),
        *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy"),
    ),
}
ONLY_ON_GPUS = {"tf32"}


def test_every_honoured_option_has_a_test():
    run = {name for names in ELSEWHERE_TESTED.values() for name in names}
    assert run | SEEN.keys() | ONLY_ON_GPUS == HONOURED
    assert not run & SEEN.keys()
    for file, names in ELSEWHERE_TESTED.items():
        text = Path(__file__).with_name(file).read_text()
        for name in names:
            assert f"--{name}" in text or name in ("hub_strategy", "seed"), (file, name)


@pytest.fixture
def as_before():
    """Undo what options change for the whole process."""
    verbosity, deterministic = transformers.logging.get_verbosity(), torch.are_deterministic_algorithms_enabled()
    yield
    transformers.logging.set_verbosity(verbosity)
    torch.use_deterministic_algorithms(deterministic)
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", SEEN)
def test_an_honoured_option_is_seen_in_the_trainer(name, trainer_with, as_before, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    words, holds = SEEN[name]
    assert holds(trainer_with(*words))


def test_the_document_is_that_of_the_table():
    text = (FOLDER / "OPTIONS.md").read_text()
    for name in TRANSFORMERS:
        assert f"| `{name}` |" in text, name
    from qwenvl.train.options import document

    assert text == document()
