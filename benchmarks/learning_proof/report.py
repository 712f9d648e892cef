"""Table and plots of the learning proof, from the folder that learning_proof.sh filled.

    python benchmarks/learning_proof/report.py --run DIR --plots benchmarks/learning_proof

Writes report.md into the run's folder, prints it, and draws loss.png and agreement.png. Exit code 1: the claim
(Spearman with the truth at least 0.6 by the student of the curriculum, at most 0.15 untrained) does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dyneval.demo.truth import Truth, truth_path
from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.correlation import agreement
from dyneval.files.atomic import atomic_write, read_json, write_json
from dyneval.files.jsonl import read_jsonl

STUDENTS = {
    "untrained": "untrained",
    "curriculum": "warm-up, Stage 1, Stage 2",
    "curriculum, other images": "the same, shown the image of another prompt",
    "release": "as curriculum, with evaluations in the reply form release",
    "Stage 1": "warm-up, Stage 1",
    "mixed": "warm-up, both stages' samples mixed",
    "Stage 2 alone": "warm-up, Stage 1, Stage 2 without samples of Stage 1",
}
"""Stem of the score file -> what was done with the student."""
RUNS = {
    "captions": "warmup/dyneval_2b_stage1_t2ia",
    "Stage 1": "curriculum/dyneval_2b_stage1_t2ia",
    "Stage 2": "curriculum/dyneval_2b_stage2_iqa",
    "Stage 1, release": "release/dyneval_2b_stage1_t2ia",
    "Stage 2, release": "release/dyneval_2b_stage2_iqa",
    "mixed": "mixed/dyneval_2b_stage1_t2ia",
    "Stage 2 alone": "alone/dyneval_2b_stage2_iqa",
}
"""Curve -> folder of its training run."""
BEGINS = {"captions": "", "Stage 2": "Stage 1", "Stage 2, release": "Stage 1, release", "Stage 2 alone": "Stage 1"}
"""Curve -> the curve that it goes on from; the captions where none is said."""
SCORES = ("overall", "t2ia", "iqa")
WHOLE = "overall, whole"
"""The overall score from whole numbers, as trained; the others are soft."""
COLUMNS = (*SCORES, WHOLE)
LEARNED, UNTRAINED = 0.6, 0.15

Scored = dict[str, list[float]]


def load_scores(run: Path, student: str) -> tuple[Scored, Scored, list[str]]:
    """Scores of a student, the truth of the pairs, and the prompts; lists of equal length, by `COLUMNS`."""
    pairs = {row["pair_id"]: row for row in read_jsonl(run / "world" / "heldout.jsonl")}
    said: Scored = {score: [] for score in COLUMNS}
    true: Scored = {score: [] for score in COLUMNS}
    prompts = []
    for row in read_jsonl(run / "scores" / f"{student}.jsonl"):
        pair = pairs[row["pair_id"]]
        truth = Truth.load(truth_path(run / "world" / "images" / pair["file_name"]))
        values = {"t2ia": truth.truth_t2ia, "iqa": truth.truth_iqa}
        values["overall"] = values[WHOLE] = (values["t2ia"] + values["iqa"]) / 2
        for score, value in {**row["soft"], WHOLE: row["overall"]}.items():
            said[score].append(value)
            true[score].append(values[score])
        prompts.append(pair["prompt_id"])
    return said, true, prompts


def correlations(run: Path, student: str) -> dict[str, Any]:
    """Spearman correlation of each score with the truth, with a 95 % interval clustered by prompt."""
    said, true, prompts = load_scores(run, student)
    found = {score: agreement(said[score], true[score], prompts, pairs=False).srcc for score in said}
    return {"pairs": len(prompts), **found}


def to_markdown(found: dict[str, dict[str, Any]], minutes: dict[str, float]) -> str:
    """The table, and what each part took."""
    lines = ["| student | trained by | pairs | overall | T2IA | IQA | overall, whole scores |", "|---|" + "---|" * 6]
    for student, row in found.items():
        cells = [_cell(row[score]) for score in COLUMNS]
        lines.append(f"| {student} | {STUDENTS[student]} | {row['pairs']} | {' | '.join(cells)} |")
    took = ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
    return "\n".join([*lines, "", f"Minutes: {took}.", ""])


def _cell(value: Estimate) -> str:
    if value.value is None:
        return str(value.reason)
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def draw(run: Path, plots: Path) -> None:
    """Loss over the supervised tokens seen, and the curriculum's student against the truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    ends: dict[str, float] = {}
    for name, folder in RUNS.items():
        log = run / folder / "training_log.json"
        if not log.exists():  # written last: not run, or not finished
            continue
        rows = [row for row in read_json(log)["log_history"] if "loss" in row]
        seen, curve = ends.get(BEGINS.get(name, "captions"), 0.0), []
        for row in rows:
            seen += row["target_tokens"]
            curve.append((seen / 1e6, row["loss"]))
        ends[name] = seen
        axes.plot(*zip(*curve, strict=True), label=name)
    axes.set(xlabel="supervised tokens, millions", ylabel="loss a token", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(plots / "loss.png", dpi=130)

    said, true, _ = load_scores(run, "curriculum")
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    for panel, score in zip(panels, SCORES, strict=True):
        panel.scatter(true[score], said[score], s=9, alpha=0.6, linewidths=0)
        panel.set(title=score, xlabel="truth", xlim=(0.9, 5.1), ylim=(0.9, 5.1))
    panels[0].set_ylabel("soft score of the student")
    figure.savefig(plots / "agreement.png", dpi=130)


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Table and plots of the learning proof.")
    parser.add_argument("--run", type=Path, required=True, help="folder that learning_proof.sh filled")
    parser.add_argument("--plots", type=Path, required=True, help="folder for the pictures")
    arguments = parser.parse_args()
    run: Path = arguments.run
    found = {name: correlations(run, name) for name in STUDENTS if (run / "scores" / f"{name}.jsonl").exists()}
    minutes = {row["part"]: row["seconds"] / 60 for row in read_jsonl(run / "times.jsonl")}
    page = to_markdown(found, minutes)
    with atomic_write(run / "report.md") as file:
        file.write(page)
    plain = {name: {score: row[score].value for score in COLUMNS} for name, row in found.items()}
    write_json(run / "report.json", {"spearman": plain, "minutes": minutes})
    draw(run, arguments.plots)
    print(page)
    holds = (plain["curriculum"]["overall"] or 0) >= LEARNED and (plain["untrained"]["overall"] or 0) <= UNTRAINED
    if not holds:
        print(f"learning_proof: not at least {LEARNED} against at most {UNTRAINED}", file=sys.stderr)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
