"""What is done after a step: a checkpoint on SIGTERM or SIGUSR1, and an evaluation of the last step.

The signals come from machines that are taken back and jobs that run out of time.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)


class EvaluateLast(TrainerCallback):
    """Evaluate after the last step, whatever `--eval_steps` is; before its checkpoint, which may then be the best."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for it; by epochs, Trainer evaluates after the last step by itself."""
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = True
        return control


class StopOnSignal(TrainerCallback):
    """After the step in which any rank got a signal, all ranks save a checkpoint and stop."""

    def __init__(self) -> None:
        """Install the handlers; `stopped` tells afterwards whether training was cut short."""
        self.stopped = False
        self._requested = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Agree on stopping: the signal reaches the ranks in different steps."""
        requested = self._requested
        if torch.distributed.is_initialized():
            flag = torch.tensor(float(requested), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            requested = bool(flag.item())
        if requested and state.global_step < state.max_steps:
            message = "stopping on a signal after step %d, with a checkpoint; the same command goes on from there"
            logger.warning(message, state.global_step)
            self.stopped = control.should_save = control.should_training_stop = True
        return control
