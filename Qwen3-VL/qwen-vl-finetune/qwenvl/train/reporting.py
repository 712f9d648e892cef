"""Reports a run to people: a line for each reporting step, the same figures in a file, the loss curve at the end.

Trainer's own progress bar and dictionaries are switched off (`run`): in a log file of a cluster they are unreadable.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dyneval.files.atomic import atomic_write
from dyneval.work.progress import span
from qwenvl.train.meter import TASK_NAMES

logger = logging.getLogger(__name__)

STEPS = "train_log.jsonl"
"""File of the figures of each reporting step, one JSON object a line; a run that goes on continues it."""
CURVE = "loss.png"
# Steps of a process after which its lines show the remaining time.
_SETTLED = 3
_TITLES = dict(zip(TASK_NAMES, ("other", "T2IA", "IQA", "EVALUATION"), strict=True))


class StepLines(TrainerCallback):
    """Reports the steps since the last report, on the terminal and in `train_log.jsonl`."""

    _begun = 0.0
    _first = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, and write what the checkpoint knows of earlier steps into the file."""
        # Lines of steps after the checkpoint are dropped: those steps are made again, and would stand there twice.
        self._begun, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            with atomic_write(Path(str(args.output_dir), STEPS)) as file:
                file.writelines(json.dumps(entry) + "\n" for entry in state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the newest entry."""
        if not state.is_world_process_zero:
            return
        entry = state.log_history[-1]
        with Path(str(args.output_dir), STEPS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        # By the steps of this process: those before a restart took another time.
        done, rest = state.global_step - self._first, state.max_steps - state.global_step
        # The first steps of a process take longer than those behind them.
        is_known = done >= _SETTLED or not rest
        seconds_left = (time.monotonic() - self._begun) / max(1, done) * rest if is_known else None
        if line := step_line(entry, state.max_steps, seconds_left):
            logger.info("%s", line)


def step_line(entry: Mapping[str, Any], steps: int, seconds_left: float | None) -> str | None:
    """Return a line for an entry of the Trainer's log; None for its last entry, which repeats earlier ones.

    Args:
        entry: of a training report or of an evaluation.
        steps: of the whole run.
        seconds_left: until its end, as far as steps made so far tell; None while these are too few.
    """
    prefix = "eval_" if "eval_loss" in entry else ""
    if f"{prefix}loss" not in entry:
        return None
    parts = [
        f"step {entry['step']:,} of {steps:,}",
        f"{'held-out ' if prefix else ''}loss {entry[f'{prefix}loss']:.3f}",
    ]
    by_task = [
        f"{_TITLES[name]} {entry[f'{prefix}loss_{name}']:.3f}" for name in TASK_NAMES if f"{prefix}loss_{name}" in entry
    ]
    if len(by_task) > 1:
        parts[-1] += f" ({', '.join(by_task)})"
    if "eval_srcc" in entry:
        parts.append(f"SRCC with the teacher {entry['eval_srcc']:.3f} over {entry['eval_scored']:.0f} images")
    if not prefix:
        parts += [f"{entry['tokens_per_second']:,.0f} tokens/s", f"{entry['memory_gib']:.1f} GiB"]
        parts += [f"{entry['mfu']:.0%} of peak"] if "mfu" in entry else []
        parts += [] if seconds_left is None else [f"{span(seconds_left)} left"]
    return " | ".join(parts)


def draw_curve(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw the loss of all targets and of each task over the steps; held-out loss and score agreement where they are.

    The picture can be made from `train_log.jsonl` at any time, so a machine without matplotlib only says so.

    Args:
        history: rows of `train_log.jsonl`; those without a figure are passed over in its curve.
        path: the picture, a PNG of 910 x 520 pixels.
        title: above it.
    """
    try:
        import matplotlib
    except ImportError:
        logger.warning("%s is not drawn: matplotlib is not installed (pip install matplotlib)", path)
        return
    matplotlib.use("Agg")  # draws into files; the default may want a display
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    curves = {"all targets": "loss"} | {_TITLES[name]: f"loss_{name}" for name in TASK_NAMES}
    curves["held out"] = "eval_loss"
    for label, key in curves.items():
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            steps, losses = zip(*points, strict=True)
            main = label in ("all targets", "held out")
            axes.plot(steps, losses, label=label, linewidth=2 if main else 1, marker="o" if len(points) < 3 else None)
    axes.set(xlabel="step", ylabel="loss a token", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    agreement = [(entry["step"], entry["eval_srcc"]) for entry in history if "eval_srcc" in entry]
    if agreement:
        right = axes.twinx()
        steps, values = zip(*agreement, strict=True)
        axes.plot([], [], color="black", linestyle="--", marker="o", markersize=3, label="SRCC, right")
        right.plot(steps, values, color="black", linestyle="--", marker="o", markersize=3)
        right.set(ylabel="SRCC with the teacher", ylim=(min(0.0, *values), 1))
        right.spines["top"].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=130)
    plt.close(figure)
