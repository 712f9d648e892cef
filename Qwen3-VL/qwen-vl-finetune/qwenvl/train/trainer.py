"""Hugging Face's Trainer with what DynEval needs: learning rates by part, figures of each step, and whole checkpoints.

It also stops at losses, gradients and weights that are no finite numbers: training on would write them into every later
checkpoint. Every decision that ends or skips something is agreed on by all ranks, since the others would wait forever
for one that acts alone.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import EvalLoopOutput

from dyneval.checkpoints.weights import not_finite
from qwenvl.data.dataset import RankShare
from qwenvl.errors import TrainingInputError
from qwenvl.train.agreement import ScoreAgreement
from qwenvl.train.checkpoints import keep_newest, mark_complete, newest_complete, saving
from qwenvl.train.meter import Meter, Work
from qwenvl.train.modeling import own_parameters, part_of
from qwenvl.train.parsing import TrainingArguments
from qwenvl.train.run_record import REJECTS, append_reject
from qwenvl.train.sampling import LengthGroups

logger = logging.getLogger(__name__)


class DynEvalTrainer(Trainer):
    """Hugging Face's Trainer for `InstructDataset` and `Collator`.

    Attributes:
        meter: figures of the training steps.
        heldout_meter: those of evaluations.
        agreement: compares scores with the teacher's; None without --eval_scores.
        max_bad_samples: unreadable samples that are skipped before the run stops.
    """

    args: TrainingArguments

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        max_bad_samples: int,
        agreement: ScoreAgreement | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what Trainer takes.

        Args:
            model: made by `load_model`.
            args: `save_total_limit` is kept here: Trainer would delete a checkpoint before the next one counts.
            max_bad_samples: samples that may turn out unreadable during training, over all ranks.
            agreement: compares scores with the teacher's at each evaluation.
            kwargs: for Trainer.
        """
        self._keep, args.save_total_limit = args.save_total_limit, None
        known = "use_cache" in model.config.__dict__
        super().__init__(model=model, args=args, **kwargs)
        if not known:
            del model.config.use_cache  # set by Trainer; it would be saved and switch the cache off in scoring
        self.max_bad_samples = max_bad_samples
        self.meter = Meter(Work.of(model), args.device)
        self.heldout_meter = Meter(self.meter.work, args.device)
        self.agreement = agreement
        self._rejected: set[str] = set()
        self._seen: list[tuple[list[str], torch.Tensor]] = []
        """Names of the samples and loss of each micro-batch of the step that is being made."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW (or `--optim`) with one group for each learning rate and weight decay."""
        if self.optimizer is None:
            opt_model: Any = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, opt_model)
            rates = {"merger": self.args.mm_projector_lr, "vision": self.args.vision_tower_lr}
            decayed = set(self.get_decay_parameter_names(opt_model))
            groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
            for name, parameter in opt_model.named_parameters():
                if parameter.requires_grad:
                    own = rates.get(part_of(name))
                    rate = self.args.learning_rate if own is None else own  # 0 is a rate, too
                    decay = self.args.weight_decay if name in decayed else 0.0
                    groups.setdefault((rate, decay), []).append(parameter)
            parameters = [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in groups.items()]
            self.optimizer = optimizer_class(parameters, **options)
        return self.optimizer

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Trainer compares with max_steps only after a step: a run that goes on from the checkpoint of its last step
        # would take one more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def evaluate_last(self) -> None:
        """Evaluate the trained model, unless this was done after its last step."""
        evaluated = [entry["step"] for entry in self.state.log_history if "eval_loss" in entry]
        if self.eval_dataset is not None and self.state.global_step not in evaluated:
            self.evaluate()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one micro-batch; count its figures, and note its unreadable samples in `rejects.jsonl`.

        Args:
            model: what the accelerator made of it.
            inputs: a batch of `Collator`.
            return_outputs: return the outputs as well, as (loss, outputs).
            num_items_in_batch: targets of the whole step, over all micro-batches and ranks.

        Raises:
            TrainingInputError: more samples of this micro-batch than `--max_bad_samples` cannot be read.
        """
        inputs = dict(inputs)
        counts, bad, names = inputs.pop("counts"), inputs.pop("bad"), inputs.pop("names")
        # `outputs` are asked for in any case: they have the losses by task.
        patches = torch.tensor([inputs["pixel_values"].shape[0]], device=counts.device)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        for problem in bad:
            logger.warning("skipped: %s", problem)
            if problem not in self._rejected:  # read again in a later epoch or evaluation
                self._rejected.add(problem)
                append_reject(Path(self.args.output_dir), problem)
        # On this rank alone: torchrun ends the others when one fails. Those of all ranks together are counted in `log`.
        if len(bad) > self.max_bad_samples:
            raise TrainingInputError(f"a sample cannot be read (--max_bad_samples allows no more): {bad[0]}")
        # Detached and left on the device: reading the loss here would make the program wait for the GPU.
        if model.training:
            self._seen.append((names, loss.detach()))
        meter = self.meter if model.training else self.heldout_meter
        meter.add(torch.cat([counts, patches]), outputs.task_losses, outputs.task_targets, len(bad))
        return (loss, outputs) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm of the gradients, which Trainer asks for before each step.

        Raises:
            TrainingInputError: it or a loss of the step is no finite number, on any rank; it is raised on all.
        """
        norm: Any = super()._get_grad_norm(model, grad_norm)  # type: ignore[no-untyped-call]
        losses = torch.stack([loss.double() for _, loss in self._seen])
        # The norm is that of the gradients of all ranks, so it shows what the losses of this rank do not.
        wrong = not bool(losses.isfinite().all()) or (norm is not None and not math.isfinite(norm))
        if self._on_any_rank(wrong):
            spoilt = [name for names, loss in self._seen if not loss.isfinite() for name in names]
            every = [name for names, _ in self._seen for name in names]
            # All ranks are here, by the agreement above, so they may gather the names of each other's samples.
            if torch.distributed.is_initialized():
                parts: list[Any] = [None] * self.args.world_size
                torch.distributed.all_gather_object(parts, (spoilt, every))
                spoilt, every = ([name for part in parts for name in part[which]] for which in (0, 1))
            what = "the loss is" if spoilt else f"the norm of the gradients is {float(norm)},"
            suspects = spoilt or every
            shown = "; ".join(suspects[:8]) + (f"; and {len(suspects) - 8} more" if len(suspects) > 8 else "")
            raise TrainingInputError(
                f"step {self.state.global_step + 1}: {what} no finite number, with the samples {shown}. "
                f"{self._last_good()}"
            )
        self._seen = []
        return norm

    def _last_good(self) -> str:
        newest = newest_complete(Path(self.args.output_dir))
        if newest is None:
            return (
                "No checkpoint was written. Start anew in another output folder, with a lower --learning_rate, a "
                "--max_grad_norm such as 1, or without samples that do not belong"
            )
        return (
            f"The last good checkpoint, with finite weights, is {newest}. Go on from it in another output folder, with "
            f"--resume_from_checkpoint {newest} and a lower --learning_rate"
        )

    def _on_any_rank(self, flag: bool) -> bool:
        if not torch.distributed.is_initialized():
            return flag
        found = torch.tensor(float(flag), device=self.args.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return bool(found.item())

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(dataset)
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroups(dataset.lengths.tolist(), together, seed)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return a loader of this rank's share of the held-out data, each sample once."""
        dataset: Any = eval_dataset or self.eval_dataset
        share = RankShare(dataset, self.args.process_index, self.args.world_size)
        return DataLoader(
            share,
            batch_size=self.args.eval_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Measure the losses over all targets of the held-out data and by task, and the agreement of scores.

        Trainer's own loss is a mean over batches, which depends on how samples are put into them.

        Raises:
            TrainingInputError: more than `--max_bad_samples` of them cannot be read, or all.
        """
        with self.meter.paused():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            # Collective calls, made by every rank whether or not its own share was empty.
            totals = self.heldout_meter.totals()
            scores: dict[str, float] = {}
            if self.agreement is not None:
                with self.autocast_smart_context_manager():
                    scores = self.agreement.measure(self.model, self.args.process_index, self.args.world_size)
        if totals.bad > self.max_bad_samples or not sum(totals.targets):
            raise TrainingInputError(
                f"{totals.bad} held-out samples could not be read, --max_bad_samples allows {self.max_bad_samples}; "
                f"see {Path(self.args.output_dir, REJECTS)}"
            )
        if not math.isfinite(totals.loss):
            raise TrainingInputError(
                f"step {self.state.global_step}: the held-out loss is no finite number. {self._last_good()}"
            )
        figures = {"loss": totals.loss} | totals.task_losses() | {"target_tokens": sum(totals.targets)}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in (figures | scores).items()}
        return output._replace(metrics=metrics, num_samples=int(totals.counts["samples"]))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # A rank correlation is not defined while a student gives all images one score; then there is no best yet.
        metric = str(self.args.metric_for_best_model).removeprefix("eval_")
        return f"eval_{metric}" in metrics and super()._determine_best_metric(metrics, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the meter's figures to each training record.

        Raises:
            TrainingInputError: over all ranks, more samples than `--max_bad_samples` could not be read so far.
        """
        # The bad samples of all ranks are known here, where the meter has been reduced: so all stop at the same step.
        if "loss" in logs:
            logs |= self.meter.report()
            if self.meter.bad:
                logs["bad_samples"] = self.meter.bad
        super().log(logs, start_time)
        if self.meter.bad > self.max_bad_samples:
            raise TrainingInputError(
                f"{self.meter.bad} samples could not be read, --max_bad_samples allows {self.max_bad_samples}; "
                f"see {Path(self.args.output_dir, REJECTS)}"
            )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model and processor. Every rank must call it.

        Raises:
            TrainingInputError: weights hold NaN or infinity; nothing is written.
        """
        model: Any = self.model
        bad = not_finite(own_parameters(model))
        if self._on_any_rank(bool(bad)):
            shown = f": {', '.join(bad[:3])}" if bad else ""
            raise TrainingInputError(
                f"step {self.state.global_step}: weights hold NaN or infinity{shown}; they are not written. "
                f"{self._last_good()}"
            )
        super().save_model(output_dir, _internal_call)

    def _load_best_model(self) -> None:
        """Load the weights of the best checkpoint.

        Raises:
            TrainingInputError: it is gone.
        """
        best = Path(self.args.output_dir, f"checkpoint-{self.state.best_global_step}")
        if best.is_dir():  # the recorded path is that of a run whose folder may have been moved since
            self.state.best_model_checkpoint = str(best)
        if not Path(str(self.state.best_model_checkpoint)).is_dir():
            raise TrainingInputError(f"{best}: the best checkpoint is gone; --load_best_model_at_end cannot take it")
        logger.info("the final model is that of %s, the best by %s", best, self.args.metric_for_best_model)
        super()._load_best_model()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if state_dict is not None:
            # DeepSpeed hands over copies, in which a tied lm_head no longer shares memory and would be written twice.
            model: Any = self.model
            tied = model.all_tied_weights_keys
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output_dir = Path(self.args.output_dir)
        folder = output_dir / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)
            # Each rank writes its part of the optimizer: the marker may only follow when all have.
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_complete(folder, self.state.global_step, self.args.optimizer_layout)
        # Old checkpoints go after the new one counts, so that there is one to resume from at any moment.
        if self.args.should_save:
            best = self.state.best_global_step if self.args.load_best_model_at_end else None
            keep_newest(output_dir, self._keep, best)
