"""Writes the model card of a finished run, and uploads its output folder to the Hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyneval.files.atomic import atomic_write
from dyneval.files.hub import Repository

logger = logging.getLogger(__name__)

CARD = "README.md"
_KEPT_HERE = ["checkpoint-*", "checkpoint-*/*", "lengths/*", ".*", "training_args.bin", "*.lock"]
"""Files of an output folder that are not uploaded: checkpoints, token counts, hidden files, locks."""
_SHOWN = (
    *("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "weight_decay", "max_grad_norm", "bf16"),
    *("min_pixels", "max_pixels", "model_max_length", "tune_mm_llm", "tune_mm_mlp", "tune_mm_vision", "freeze", "seed"),
    *("lora_enable", "lora_r", "lora_alpha", "lora_modules"),
)


def write_card(output_dir: Path, record: Mapping[str, Any], log: Mapping[str, Any]) -> None:
    """Write README.md: base, data, recipe and losses, and the agreement with the teacher where it was measured.

    Args:
        output_dir: of the run.
        record: what was asked for, as in `run.json`.
        log: what was done, as in `training_log.json`.
    """
    base, fixed = str(record["free"]["model_name_or_path"]), record["fixed"]
    head = ["library_name: transformers", "pipeline_tag: image-text-to-text", "tags: [dyneval, qwen3_vl]"]
    # The Hub refuses a card whose base model is a local folder.
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).is_dir():
        head.insert(0, f"base_model: {base}")
    samples = log["samples"]
    with atomic_write(output_dir / CARD) as file:
        file.write("---\n" + "\n".join(head) + "\n---\n\n")
        file.write(f"# DynEval student from {Path(base).name}\n\n")
        file.write(
            f"A Qwen3-VL that judges generated images against their prompts, trained by DynEval on "
            f"`{record['free']['dataset_use']}` from `{base}`. Load it with `dyneval.Scorer.from_pretrained`.\n\n"
        )
        # The card names data by its hash: names of files differ from machine to machine.
        datasets = zip(record["datasets"], record["fixed"]["samples"], strict=True)
        rows = [
            (one["name"], f"sha256 {used['annotation'][:16]}..., {used['rate']:.0%} of its samples")
            for one, used in datasets
        ]
        rows += [("samples trained on", samples["used"]), ("tokens", samples["tokens"])]
        file.write(_table("Data", rows))
        shown = [
            (name, fixed[name]) for name in _SHOWN if name in fixed and (fixed["lora_enable"] or "lora_" not in name)
        ]
        file.write(_table("Recipe", [*shown, ("samples of a step", log["samples_a_step"]), ("steps", log["steps"])]))
        file.write(_table("Figures", _figures(log)))
        file.write(
            "`run.json` has all settings, hashes of the data and versions; `train_log.jsonl` the figures by step.\n"
        )


def _figures(log: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows = [("loss, first and last report", f"{log['loss_first']}, {log['loss_last']}")]
    if log["eval_loss_last"] is not None:
        rows.append(("held-out loss, first and last", f"{log['eval_loss_first']}, {log['eval_loss_last']}"))
    # With --load_best_model_at_end the weights are not those of the last step, and neither are their figures.
    best = log.get("best_step")
    evaluated = [entry for entry in log["log_history"] if best is None or entry.get("step") == best]
    if best is not None:
        rows.append(("weights of step", f"{best}, the best one"))
        losses = [entry["eval_loss"] for entry in evaluated if "eval_loss" in entry]
        rows += [("held-out loss of these weights", loss) for loss in losses[-1:]]
    if scored := [entry for entry in evaluated if "eval_srcc" in entry]:
        last = scored[-1]
        rows.append(("SRCC with the teacher", f"{last['eval_srcc']} over {last['eval_scored']:.0f} held-out images"))
    return rows


def _table(title: str, rows: Sequence[tuple[str, Any]]) -> str:
    lines = "".join(f"| {name} | {str(value).replace('|', '/')} |\n" for name, value in rows)
    return f"## {title}\n\n| | |\n|---|---|\n{lines}\n"


def upload(output_dir: Path, repository: Repository, revision: str | None) -> None:
    """Upload a finished output folder, without checkpoints and what only this machine needs.

    Args:
        output_dir: of the run; its name becomes part of the message of the commit.
        repository: opened before the training.
        revision: branch, made where it is missing; None: the main one.

    Raises:
        HubError: the upload failed; the run is finished all the same.
    """
    logger.info(
        "uploaded: %s", repository.upload(output_dir, f"DynEval: {output_dir.name}", None, _KEPT_HERE, revision)
    )
