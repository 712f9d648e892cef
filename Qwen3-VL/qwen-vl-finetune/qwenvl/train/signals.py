"""Trainer callbacks after a step: a checkpoint on SIGTERM or SIGUSR1, and an evaluation of the last step.

The signals come from machines that are taken back and from jobs that run out of time. Without the checkpoint, all work
since the last one would be lost.
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
        """Ask for an evaluation. By epochs, Trainer evaluates after the last step by itself."""
        if state.global_step >= state.max_steps and args.eval_strategy == "steps":
            control.should_evaluate = True
        return control


class StopOnSignal(TrainerCallback):
    """Lets all ranks save a checkpoint and stop after the step in which any of them got a signal.

    Attributes:
        stopped: True once training was cut short; `run` then returns `STOPPED`.
    """

    def __init__(self) -> None:
        """Install the handlers, in place of those that would end the process at once."""
        self.stopped = False
        self._requested = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Agree on stopping."""
        # The signal reaches the ranks in different steps. A rank that stopped alone would leave the others waiting in
        # the next step, so all ask each other after every step.
        requested = self._requested
        if torch.distributed.is_initialized():
            flag = torch.tensor(float(requested), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            requested = bool(flag.item())
        # After the last step there is nothing to stop; the run finishes in the ordinary way.
        if requested and state.global_step < state.max_steps:
            message = "stopping on a signal after step %d, with a checkpoint; the same command goes on from there"
            logger.warning(message, state.global_step)
            self.stopped = control.should_save = control.should_training_stop = True
        return control
