"""One training run, from its arguments to its finished output folder; `run` is the entry.

Every process of torchrun runs this file. Two rules hold throughout: what is wrong is found before the model is loaded,
and every collective call (loading, saving, an agreement to stop) is made by all ranks in the same order. A rank that
skips one leaves the others waiting until the timeout of the process group.
"""

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

from dyneval.checkpoints import go_offline_without_hub
from dyneval.conventions import conventions_of
from dyneval.errors import UserError
from dyneval.files.atomic import exclusive, write_json
from dyneval.files.hub import Repository
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
from qwenvl.train.card import upload, write_card
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
from qwenvl.train.memory import Load, Sizes, Zero, check_fits, in_words, largest_batch, patches_of
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
    LOG,
    RECORD,
    REJECTS,
    Record,
    append_reject,
    check_origin,
    check_run,
    log_of,
    record_of,
)
from qwenvl.train.signals import EvaluateLast, StopOnSignal
from qwenvl.train.trainer import DynEvalTrainer

logger = logging.getLogger("qwenvl")

STOPPED = 128 + 15
"""Exit code after a checkpoint on a signal: as of a process ended by SIGTERM, since the run is not finished."""


def _train(
    output_dir: Path, model_arguments: ModelArguments, data_arguments: DataArguments, arguments: TrainingArguments
) -> int:
    """Train until the end or a signal; return the exit code.

    Raises:
        TrainingInputError, DataFileError, ImageError: arguments, environment or data do not allow the run.
        OSError: the output folder cannot be written to.
    """
    sources = data_list(data_arguments.dataset_use.split(","))
    heldout_sources = split_list(sources, arguments.eval_split) if arguments.eval_split else []
    processor = _load_processor(model_arguments, data_arguments)
    record = record_of(model_arguments, data_arguments, arguments, sources)
    # Trainer would upload during the run, from files that it puts into the output folder as if the run were finished.
    publish, arguments.push_to_hub = arguments.push_to_hub and arguments.should_save, False
    # Opened before the training, so that a wrong token fails at once.
    name = arguments.hub_model_id or output_dir.resolve().name
    repository = Repository.open(name, "model", bool(arguments.hub_private_repo)) if publish else None
    # The first process cleans up and writes the record; the others look at the folder only after that.
    with arguments.main_process_first(desc="checking the output folder"):
        is_finished = check_run(output_dir, record)
        resume = None if is_finished else _resume_point(output_dir, arguments, record)
        if arguments.process_index == 0 and not is_finished:
            remove_incomplete(output_dir)
            (output_dir / REJECTS).unlink(missing_ok=True)
            write_json(output_dir / RECORD, record)
    if is_finished:
        logger.info("%s: this run is finished, nothing to do", output_dir)
        if repository:
            upload(output_dir, repository, arguments.hub_revision)
        return 0
    # The first process counts and caches; the others read the cache. Of all nodes one, since they share the folder.
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
    # Trainer's own reports, a bar and dictionaries; StepLines takes their place.
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    if resume:
        logger.info("resuming from %s", resume)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if stop.stopped:
        return STOPPED
    # Every rank: evaluating and saving gather the weights of all.
    trainer.evaluate_last()
    save_final(output_dir, lambda folder: _save_model(trainer, model_arguments, Path(folder)), arguments.should_save)
    if arguments.should_save:
        _write_account(output_dir, trainer, dataset, heldout, record)
    # Before the upload, not after it: an upload may take longer than the timeout of those that wait.
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
    """Log what is trained on, and note in the processor how the student is asked and answers.

    The processor is saved with the model; scoring reads from it which template and reply form the student knows.
    """
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
    """Write curve, model card and, last, the log, which says that the run is finished."""
    arguments, history = trainer.args, trainer.state.log_history
    gpus = arguments.world_size if arguments.device.type == "cuda" else 0
    best = trainer.state.best_global_step if arguments.load_best_model_at_end else None
    steps = trainer.state.global_step
    log = log_of(steps, history, dataset.stats, heldout.stats if heldout else None, record, gpus, best)
    draw_curve(history, output_dir / CURVE, output_dir.name)
    write_card(output_dir, record, log)
    write_json(output_dir / LOG, log)
    # Left by another command, which was refused while this run held the folder.
    (output_dir / FAILURE).unlink(missing_ok=True)


def _resume_point(output_dir: Path, arguments: TrainingArguments, record: Record) -> Path | None:
    """Return the checkpoint that the run goes on from, or None at its start.

    It is the newest of the output folder, or the one that `--resume_from_checkpoint` names, which is then noted in
    `record`. When the command that named one is given again, the run goes on from the newest that came of it.

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
        # An older checkpoint of this folder was named: what came after it belongs to the course that is given up.
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
    go_offline_without_hub(model_arguments.model_name_or_path)
    processor = Processor.for_training(
        model_arguments.model_name_or_path, data_arguments.min_pixels, data_arguments.max_pixels
    )
    data_arguments.min_pixels, data_arguments.max_pixels = processor.limits  # the values in use, for the record
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
    """Log how much memory the run will take. Raises TrainingInputError where that is far more than there is.

    The estimate holds for AdamW with DeepSpeed and checkpointing; for other runs nothing is logged.
    """
    is_known = arguments.activation_checkpointing and OptimizerNames(arguments.optim).value.startswith("adamw_torch")
    if not isinstance(arguments.deepspeed, str) or not is_known:
        return
    config, model_class = read_config(model_arguments.model_name_or_path, arguments.cache_dir)
    # With its configuration set, transformers would divide the weights of this empty model among the ranks.
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
    logger.info("memory: %s", in_words(*check_fits(sizes, load, Zero.read(Path(arguments.deepspeed)))))


def _load_trainable_model(
    model_arguments: ModelArguments, arguments: TrainingArguments, processor: Processor, flat: bool
) -> tuple[Any, RopeIndex]:
    """Return the model, with adapters where they are wanted, and its function of positions."""
    # DeepSpeed keeps float32 master weights beside bf16 ones. Without it, steps of 1e-5 would be lost in the rounding
    # of bf16 weights, which have 8 bits of precision.
    dtype = torch.bfloat16 if arguments.bf16 and arguments.deepspeed else torch.float32
    model: Any = load_model(model_arguments, dtype, arguments.loss_chunks, flat=flat, cache_dir=arguments.cache_dir)
    if processor.added_task_tokens and model_arguments.task_token_init == "mean":
        initialise_task_tokens(model, processor.tokenizer)
    # Taken before peft wraps the model.
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
    """Write the trained model to `folder`. Adapters are kept in the run's folder, and written to `folder` merged."""
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
    """Return the text of the first sample with its targets between >> and <<, image tokens left out."""
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
    """Load what DeepSpeed compiles, before anything else can wait for its compilation."""
    if not arguments.deepspeed:
        return
    offload = arguments.hf_deepspeed_config.is_offload()
    load_operators(*[CPU_ADAM] * offload, *[SHARED_MEMORY] * arguments.use_cpu)
    # On the CPU DeepSpeed must know its ranks before a model is built; otherwise its batch sizes do not add up.
    if arguments.use_cpu and "LOCAL_RANK" in os.environ:
        import deepspeed

        with redirect_stdout(io.StringIO()):  # it prints a line for each operator that it loads
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


def run(model_arguments: ModelArguments, data_arguments: DataArguments, arguments: TrainingArguments) -> int:
    """Train as the arguments say. Every process of torchrun calls it.

    Args:
        model_arguments: the model, and what of it is trained.
        data_arguments: the samples; pixel limits that are None are filled in with those in use.
        arguments: how it is trained, and the output folder.

    Returns:
        The exit code: 0 where the run is finished, now or before; `STOPPED` after a signal; 1 after a failure, whose
        reason is printed and left in `failure.txt` of the output folder.

    Raises:
        Exception: a bug, which keeps its traceback; what a user can mend is no exception here.
    """
    _set_up_logging(arguments)
    output_dir = Path(arguments.output_dir)
    try:
        (output_dir / FAILURE).unlink(missing_ok=True)
        _start_distributed(arguments)
        with ExitStack() as held:
            # Two runs in one folder would delete each other's checkpoints.
            if arguments.process_index == 0:
                held.enter_context(exclusive(output_dir))
            return _train(output_dir, model_arguments, data_arguments, arguments)
    except UserError as error:
        report_failure(output_dir, str(error))
    except RuntimeError as error:
        reason = out_of_memory(error)
        if reason is None:  # a bug keeps its traceback
            raise
        batch, accumulated = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
        advice = "One sample does not fit: lower --max_pixels or --model_max_length, or take scripts/zero3_offload.json"
        if batch > 1:
            # A divisor of the batch size, so that the samples of a step stay the same and the run can go on.
            smaller = max(size for size in range(1, batch) if batch % size == 0)
            advice = (
                f"Start the same command with --per_device_train_batch_size {smaller} --gradient_accumulation_steps "
                f"{batch // smaller * accumulated}: it goes on from the last checkpoint, with the same samples in each "
                "step"
            )
        report_failure(output_dir, f"{reason} {advice}")
    except OSError as error:
        if error.errno is None:  # raised by a library for something else, which its traceback tells
            raise
        place = error.filename or output_dir
        report_failure(output_dir, f"{place}: {error.strerror}; the same command goes on from the last checkpoint")
    return 1
