"""A training run from its arguments to its finished output folder, also where it goes on from a checkpoint."""

from __future__ import annotations

import io
import logging
import os
import warnings
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, ProgressCallback
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config
from transformers.training_args import OptimizerNames

from dyneval.conventions import conventions_of
from dyneval.errors import UserError
from dyneval.files.atomic import exclusive
from dyneval.processing import IGNORE, TRAINING_LIMITS, Processor
from dyneval.tokens import TASK_TOKENS
from dyneval.work.batches import out_of_memory
from dyneval.work.progress import log_to_stderr
from qwenvl.data import DatasetSource, data_list, split_list
from qwenvl.data.collator import Collator, RopeIndex, dummy_example
from qwenvl.data.dataset import BadSample, InstructDataset
from qwenvl.errors import TrainingInputError
from qwenvl.train.agreement import ScoreAgreement
from qwenvl.train.argument import DataArguments, ModelArguments
from qwenvl.train.card import open_repository, upload, write_card
from qwenvl.train.checkpoints import (
    check_resumable,
    forget_after,
    newest_complete,
    remove_incomplete,
    save_final,
    steps_of,
)
from qwenvl.train.extensions import CPU_ADAM, SHARED_MEMORY, load_operators
from qwenvl.train.failure import FAILURE, report_failure
from qwenvl.train.lora import ADAPTER, add_adapters, merge_adapter
from qwenvl.train.memory import Load, Sizes, Zero, check_fits, largest_batch, patches_of, told
from qwenvl.train.modeling import (
    freeze,
    initialise_task_tokens,
    load_model,
    read_config,
    set_trainable,
    trainable_names,
    trainable_report,
)
from qwenvl.train.parsing import TrainingArguments
from qwenvl.train.reporting import CURVE, StepLines, draw_curve
from qwenvl.train.run_record import (
    REJECTS,
    Record,
    append_reject,
    check_origin,
    check_run,
    log_of,
    record_of,
    write_log,
    write_record,
)
from qwenvl.train.signals import EvaluateLast, StopOnSignal
from qwenvl.train.trainer import DynEvalTrainer

logger = logging.getLogger("qwenvl")

STOPPED = 128 + 15
"""Exit code after a checkpoint on a signal: the run is not finished."""


def train(model_arguments: ModelArguments, data_arguments: DataArguments, arguments: TrainingArguments) -> int:
    """Train until the end or a signal; returns the exit code.

    Raises:
        TrainingInputError, DataFileError, ImageError: arguments, environment or data do not allow the run.
        OSError: the output folder cannot be written to.
    """
    output_dir = Path(arguments.output_dir)
    with ExitStack() as held:
        if arguments.process_index == 0:
            held.enter_context(exclusive(output_dir))
        return _train(output_dir, model_arguments, data_arguments, arguments)


def _train(
    output_dir: Path, model_arguments: ModelArguments, data_arguments: DataArguments, arguments: TrainingArguments
) -> int:
    sources = data_list(data_arguments.dataset_use.split(","))
    heldout_sources = split_list(sources, arguments.eval_split) if arguments.eval_split else []
    processor = _load_processor(model_arguments, data_arguments)
    record = record_of(model_arguments, data_arguments, arguments, sources)
    # Trainer would upload on the way, from files that it puts into the output folder as if the run were finished.
    publish, arguments.push_to_hub = arguments.push_to_hub and arguments.should_save, False
    repository = open_repository(arguments) if publish else None
    with arguments.main_process_first(desc="checking the output folder"):
        is_finished = check_run(output_dir, record)
        resume = None if is_finished else _resume_point(output_dir, arguments, record)
        if arguments.process_index == 0 and not is_finished:
            remove_incomplete(output_dir)
            (output_dir / REJECTS).unlink(missing_ok=True)
            write_record(output_dir, record)
    if is_finished:
        logger.info("%s: this run is finished, nothing to do", output_dir)
        if repository:
            upload(output_dir, repository, arguments.hub_revision)
        return 0
    with arguments.main_process_first(local=False, desc="counting tokens"):
        dataset = _load_dataset(sources, processor, data_arguments, arguments)
        heldout = _load_dataset(heldout_sources, processor, data_arguments, arguments) if heldout_sources else None
    _tell_data(output_dir, arguments, processor, dataset, heldout)
    if arguments.process_index == 0:
        _check_memory(model_arguments, data_arguments, arguments, dataset)
    flat = data_arguments.data_flatten or data_arguments.data_packing
    model, rope_index = _load_trainable_model(model_arguments, arguments, processor, flat)
    stop = StopOnSignal()
    trainer = DynEvalTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=heldout,
        data_collator=Collator(
            rope_index=rope_index,
            dummy=dummy_example(processor),
            pad_token_id=processor.tokenizer.pad_token_id,
            flatten=flat,
        ),
        processing_class=processor,
        callbacks=[stop, EvaluateLast(), StepLines()],
        max_bad_samples=data_arguments.max_bad_samples - dataset.stats.bad,
        agreement=ScoreAgreement(heldout, processor, arguments.eval_scores)
        if heldout and arguments.eval_scores
        else None,
    )
    # Trainer's own ways of telling: a bar and dictionaries.
    for spoken in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(spoken)
    if resume:
        logger.info("resuming from %s", resume)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if stop.stopped:
        return STOPPED
    trainer.evaluate_last()
    save_final(output_dir, lambda folder: _save_model(trainer, model_arguments, Path(folder)), arguments.should_save)
    if arguments.should_save:
        _write_account(output_dir, trainer, dataset, heldout, record)
    # The others need not wait for an upload, which may take longer than they may wait.
    trainer.accelerator.wait_for_everyone()
    if repository:
        upload(output_dir, repository, arguments.hub_revision)
    return 0


def _tell_data(
    output_dir: Path,
    arguments: TrainingArguments,
    processor: Processor,
    dataset: InstructDataset,
    heldout: InstructDataset | None,
) -> None:
    """Say what is trained on, and note in the processor what the student is taught, which is saved with it."""
    taught = conventions_of(dataset.exchanges(), processor.conventions)
    processor.conventions = taught._replace(min_pixels=processor.min_pixels, max_pixels=processor.max_pixels)
    logger.info("taught: template %s, reply form %s", taught.template, taught.reply_form)
    logger.info("images: %s to %s pixels", f"{processor.min_pixels:,}", f"{processor.max_pixels:,}")
    if arguments.should_save:
        for problem in dataset.problems + (heldout.problems if heldout else []):
            append_reject(output_dir, problem)
    logger.info("data: %s", dataset.stats)
    if heldout:
        logger.info("held out: %s", heldout.stats)
    logger.info("first sample, targets between >> and <<:\n%s", _marked(dataset, processor))


def _write_account(
    output_dir: Path,
    trainer: DynEvalTrainer,
    dataset: InstructDataset,
    heldout: InstructDataset | None,
    record: Record,
) -> None:
    """Curve, model card and, last, the log, which says that the run is finished."""
    arguments, history = trainer.args, trainer.state.log_history
    gpus = arguments.world_size if arguments.device.type == "cuda" else 0
    best = trainer.state.best_global_step if arguments.load_best_model_at_end else None
    steps = trainer.state.global_step
    log = log_of(steps, history, dataset.stats, heldout.stats if heldout else None, record, gpus, best)
    draw_curve(history, output_dir / CURVE, output_dir.name)
    write_card(output_dir, record, log)
    write_log(output_dir, log)
    (output_dir / FAILURE).unlink(missing_ok=True)  # of another run, which was refused because of this one


def _resume_point(output_dir: Path, arguments: TrainingArguments, record: Record) -> Path | None:
    """The checkpoint that the run goes on from; None at its start. `record` is told of one that was named.

    The newest of the output folder, or the one that `--resume_from_checkpoint` names. The command that named one may be
    given again: then the run goes on from the newest that came of it.

    Raises:
        TrainingInputError: a run cannot go on from it, or the output folder holds checkpoints that did not come of it.
    """
    newest, named = newest_complete(output_dir), arguments.resume_from_checkpoint
    if named is None or named.lower() == "true":
        resume = newest
    else:
        given = Path(named).resolve()
        again = record["resumed_from"] == str(given)
        if not again:
            check_resumable(given, arguments.optimizer_layout)
        if not again and newest and given.parent == output_dir.resolve():
            step = next((step for step, folder in steps_of(output_dir).items() if folder.name == given.name), 0)
            if arguments.process_index == 0:
                forget_after(output_dir, step)
            newest = None
        elif not again and newest:
            raise TrainingInputError(
                f"{output_dir} holds {newest.name}, which did not come of {given}; leave out "
                "--resume_from_checkpoint to go on from it, or name another output folder"
            )
        if given.parent != output_dir.resolve():
            check_origin(given, record)
        record["resumed_from"] = str(given)
        resume = newest or given
    if resume:
        check_resumable(resume, arguments.optimizer_layout)
    return resume


def _load_processor(model_arguments: ModelArguments, data_arguments: DataArguments) -> Processor:
    named = [token for token in model_arguments.additional_special_tokens.split(",") if token]
    if sorted(named) != sorted(TASK_TOKENS):
        raise TrainingInputError(f"--additional_special_tokens must be {','.join(TASK_TOKENS)}, got {named}")
    processor = Processor.for_training(
        model_arguments.model_name_or_path, data_arguments.min_pixels, data_arguments.max_pixels
    )
    data_arguments.min_pixels, data_arguments.max_pixels = processor.limits  # as they are, for the record of the run
    return processor


def _load_dataset(
    sources: list[DatasetSource], processor: Processor, data: DataArguments, training: TrainingArguments
) -> InstructDataset:
    return InstructDataset(
        sources,
        processor,
        model_max_length=training.model_max_length,
        packing=data.data_packing,
        seed=training.seed,
        workers=training.dataloader_num_workers,
        cache=Path(training.output_dir, "lengths"),
        max_bad_samples=data.max_bad_samples,
    )


def _check_memory(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    arguments: TrainingArguments,
    dataset: InstructDataset,
) -> None:
    """Say what memory the run will take. Raises TrainingInputError where that is far more than there is.

    It is known for the recipe's optimizer and with checkpointing; of other runs nothing is said.
    """
    is_known = arguments.activation_checkpointing and OptimizerNames(arguments.optim).value.startswith("adamw_torch")
    if not isinstance(arguments.deepspeed, str) or not is_known:
        return
    config, model_class = read_config(model_arguments.model_name_or_path, arguments.cache_dir)
    # ZeRO-3 would share out weights that do not exist.
    unset_hf_deepspeed_config()
    try:
        with torch.device("meta"):
            model = model_class(config)
    finally:
        set_hf_deepspeed_config(arguments.hf_deepspeed_config)
    batch = arguments.per_device_train_batch_size
    tokens, pixels = largest_batch(dataset.lengths, batch), data_arguments.max_pixels or TRAINING_LIMITS.max_pixels
    load = Load(
        tokens=tokens,
        patches=patches_of(tokens, batch, pixels, packing=data_arguments.data_packing),
        chunks=arguments.loss_chunks,
        ranks=arguments.world_size,
        local=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        cpu=arguments.device.type != "cuda",
    )
    sizes = Sizes.of(model, model_arguments)
    logger.info("memory: %s", told(*check_fits(sizes, load, Zero.read(Path(arguments.deepspeed)))))


def _load_trainable_model(
    model_arguments: ModelArguments, arguments: TrainingArguments, processor: Processor, flat: bool
) -> tuple[Any, RopeIndex]:
    """The model, with adapters where they are wanted, and its function of positions."""
    # DeepSpeed keeps float32 master weights beside bf16 ones; without it, bf16 weights would not take small steps.
    dtype = torch.bfloat16 if arguments.bf16 and arguments.deepspeed else torch.float32
    model: Any = load_model(model_arguments, dtype, arguments.loss_chunks, flat=flat, cache_dir=arguments.cache_dir)
    if processor.added_task_tokens and model_arguments.task_token_init == "mean":
        initialise_task_tokens(model, processor.tokenizer)
    rope_index = model.model.get_rope_index
    if model_arguments.lora_enable:
        transformers.set_seed(arguments.seed)  # the same adapters on every rank and in every run
        model = add_adapters(model, model_arguments)
    else:
        set_trainable(model, model_arguments)
    freeze(model, model_arguments.freeze)
    logger.info("parameters:\n%s", trainable_report(model))
    logger.info("trained:\n%s", "\n".join(f"  {name}" for name in trainable_names(model)))
    return model, rope_index


def _save_model(trainer: DynEvalTrainer, model_arguments: ModelArguments, folder: Path) -> None:
    """Write the trained model to `folder`; adapters are kept in the run's folder and written merged."""
    if not model_arguments.lora_enable:
        trainer.save_model(str(folder), _internal_call=True)
        return
    adapter = Path(trainer.args.output_dir, ADAPTER)
    trainer.save_model(str(adapter), _internal_call=True)
    unset_hf_deepspeed_config()  # the base is loaded whole, by one rank
    if trainer.args.should_save:
        logger.info("merging the adapter into %s", model_arguments.model_name_or_path)
        merge_adapter(adapter, folder, model_arguments.model_name_or_path, trainer.args.cache_dir)


def _marked(dataset: InstructDataset, processor: Processor) -> str:
    """Text of the first sample with its targets marked, image tokens left out."""
    first = dataset[0][0]
    if isinstance(first, BadSample):
        return first.problem
    pieces, inside = [], False
    for token, label, kind in zip(
        first.encoded.input_ids, first.encoded.labels, first.encoded.mm_token_type_ids, strict=True
    ):
        if inside != (label != IGNORE):
            pieces.append("<<" if inside else ">>")
            inside = not inside
        pieces.append("" if kind else str(processor.tokenizer.decode([token])))
    return "".join(pieces)


def _start_distributed(arguments: TrainingArguments) -> None:
    """Load what DeepSpeed compiles; on the CPU it must know its ranks before a model is built as well.

    Otherwise its batch sizes do not add up.
    """
    if not arguments.deepspeed:
        return
    offload = arguments.hf_deepspeed_config.is_offload()
    load_operators(*[CPU_ADAM] * offload, *[SHARED_MEMORY] * arguments.use_cpu)
    if arguments.use_cpu and "LOCAL_RANK" in os.environ:
        import deepspeed

        with redirect_stdout(io.StringIO()):  # it prints that an operator is built, whenever it loads one
            deepspeed.init_distributed("gloo")


def _set_up_logging(arguments: TrainingArguments) -> None:
    level = logging.INFO if arguments.process_index == 0 else logging.ERROR
    log_to_stderr("%(message)s")
    logging.getLogger("qwenvl").setLevel(level)
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()  # of reading and writing a few files
    # DeepSpeed calls collectives by names that torch renamed; it would say so in every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # So does transformers of a name that peft asks for.
    warnings.filterwarnings("ignore", category=FutureWarning, message="`is_gradient_checkpointing` is deprecated")


def _smaller(arguments: TrainingArguments) -> str:
    """What to do when a batch does not fit into memory."""
    batch, accumulated = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if batch == 1:
        return "One sample does not fit: lower --max_pixels or --model_max_length, or take scripts/zero3_offload.json"
    smaller = max(size for size in range(1, batch) if batch % size == 0)
    return (
        f"Start the same command with --per_device_train_batch_size {smaller} --gradient_accumulation_steps "
        f"{batch // smaller * accumulated}: it goes on from the last checkpoint, with the same samples in each step"
    )


def run(model_arguments: ModelArguments, data_arguments: DataArguments, arguments: TrainingArguments) -> int:
    """Train as the arguments say; returns the exit code, and leaves the reason of a failure in the output folder."""
    _set_up_logging(arguments)
    output_dir = Path(arguments.output_dir)
    try:
        (output_dir / FAILURE).unlink(missing_ok=True)
        _start_distributed(arguments)
        return train(model_arguments, data_arguments, arguments)
    except UserError as error:
        report_failure(output_dir, str(error))
    except RuntimeError as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
        report_failure(output_dir, f"{reason} {_smaller(arguments)}")
    except OSError as error:
        if error.errno is None:  # a library's own, of which the traceback tells more
            raise
        place = error.filename or output_dir
        report_failure(output_dir, f"{place}: {error.strerror}; the same command goes on from the last checkpoint")
    return 1
