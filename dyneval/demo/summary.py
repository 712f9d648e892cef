"""What a demo run did, as `summary.json` and `summary.md` in its folder and on the terminal.

python -m dyneval.demo.summary --output output/demo
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyneval.demo.truth import Truth, truth_path
from dyneval.errors import DataFileError, UserError
from dyneval.evaluation.correlation import spearman
from dyneval.files.atomic import atomic_write, read_json, write_json
from dyneval.files.jsonl import read_jsonl
from dyneval.structs import Row

STUDENTS = {"trained": "trained", "untrained": "baseline"}
"""Name of a student here -> stem of its score file."""
STAGES = {"stage 1 (T2IA)": "dyneval_2b_stage1_t2ia", "stage 2 (IQA)": "dyneval_2b_stage2_iqa"}
SCORES = ("t2ia", "iqa", "overall")
CAVEAT = (
    "Agreement of the students with the truth on held-out scenes. This checks the plumbing: a model of 10 M parameters "
    "after a few minutes on a CPU is no evaluator, and with so few pairs the figures scatter widely around zero. Soft "
    "scores are compared, since such a student gives nearly every question the same integer."
)


def summarise(output: Path, seconds: int | None = None) -> Row:
    """Collect the figures of the five steps of the run in `output`.

    Args:
        output: folder of a finished demo run.
        seconds: duration of the run, if known.

    Raises:
        DataFileError: a step left no result; the message names the missing file.
    """
    prompts = read_json(output / "prompts" / "summary.json")
    images = read_json(output / "gendb" / "summary.json")
    annotations = read_json(output / "annotations" / "annotate.summary.json")
    instruct = read_json(output / "instruct" / "summary.json")
    photo = next(iter(read_jsonl(output / "scores" / "photo.jsonl")), None)
    if photo is None:
        raise DataFileError(f"{output / 'scores' / 'photo.jsonl'}: holds no score")
    return {
        "seconds": seconds,
        "prompts": {"read": prompts["rows_read"], "kept": prompts["kept"], "dropped": prompts["dropped"]},
        "images": {"made": images["made"], "there_before": images["existing"], "missing": images["missing"]},
        "annotated_pairs": annotations["pairs_annotated"],
        "teacher": annotations["model"],
        "rejects": {
            "images": images["rejected_prompts"],
            "annotations": sum(sum(flow["rejected"].values()) for flow in annotations["workflows"].values()),
            "samples": sum(instruct["rejected"].values()),
            "scores": sum(_count(output / "scores" / f"{stem}.rejects.jsonl") for stem in STUDENTS.values()),
        },
        "curation_dropped": instruct["dropped"],
        "samples": instruct["samples"],
        "training": {name: _stage(output / "train" / folder) for name, folder in STAGES.items()},
        "students": {name: _agreement(output, stem) for name, stem in STUDENTS.items()},
        "photo": {key: photo[key] for key in ("image", "prompt", *SCORES)},
    }


def _stage(folder: Path) -> Row:
    log = read_json(folder / "training_log.json")
    return {key: log[key] for key in ("steps", "loss_first", "loss_last")}


def _count(path: Path) -> int:
    return sum(1 for _ in read_jsonl(path)) if path.exists() else 0


def _agreement(output: Path, stem: str) -> Row:
    """Spearman correlation of each soft score with the truth; None where it is not defined (constant scores)."""
    pairs = {row["pair_id"]: row["file_name"] for row in read_jsonl(output / "instruct" / "heldout.jsonl")}
    rows = list(read_jsonl(output / "scores" / f"{stem}.jsonl"))
    truths = [Truth.load(truth_path(output / "gendb" / pairs[row["pair_id"]])) for row in rows]
    expected = {
        "t2ia": [truth.truth_t2ia for truth in truths],
        "iqa": [truth.truth_iqa for truth in truths],
        "overall": [0.5 * truth.truth_t2ia + 0.5 * truth.truth_iqa for truth in truths],
    }
    return {"pairs": len(rows)} | {
        key: _defined(spearman([row["soft"][key] for row in rows], expected[key])) for key in SCORES
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def to_markdown(summary: Row) -> str:
    """The summary as a page."""
    prompts, images, rejects = summary["prompts"], summary["images"], summary["rejects"]
    steps = [
        ("1 filter prompts", f"{prompts['kept']} of {prompts['read']} prompts kept", _total(prompts["dropped"])),
        ("2 generate images", f"{images['made'] + images['there_before']} pairs", rejects["images"]),
        ("3 annotate", f"{summary['annotated_pairs']} pairs by the {summary['teacher']}", rejects["annotations"]),
        ("3 build", f"{_total(summary['samples'])} samples", rejects["samples"]),
        ("5 score", f"{sum(s['pairs'] for s in summary['students'].values())} verdicts", rejects["scores"]),
    ]
    stages = [
        (name, summary["samples"][key], log["steps"], _number(log["loss_first"]), _number(log["loss_last"]))
        for (name, log), key in zip(summary["training"].items(), ("t2ia", "iqa"), strict=True)
    ]
    students = [(name, s["pairs"], *(_number(s[key]) for key in SCORES)) for name, s in summary["students"].items()]
    photo = summary["photo"]
    return "\n\n".join(
        [
            "# DynEval demo",
            f"Finished in {summary['seconds']} s." if summary["seconds"] is not None else "",
            _table(("step", "result", "dropped or rejected"), steps),
            f"Curation left out {_total(summary['curation_dropped'])} further pairs (score not below delta).",
            _table(("training", "samples", "steps", "first loss", "last loss"), stages),
            CAVEAT,
            _table(("Spearman with the truth", "pairs", "T2IA", "IQA", "overall"), students),
            f'A picture from outside, `{Path(photo["image"]).name}`, for the prompt "{photo["prompt"]}": '
            + ", ".join(f"{key} {photo[key]:.2f}" for key in SCORES)
            + ".",
        ]
    ).replace("\n\n\n\n", "\n\n")


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Summarise a demo run.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the demo run")
    parser.add_argument("--seconds", type=int, help="duration of the run")
    arguments = parser.parse_args()
    try:
        summary = summarise(arguments.output, arguments.seconds)
    except (UserError, OSError) as error:
        raise SystemExit(f"summary: {error}; did all five steps run?") from error
    write_json(arguments.output / "summary.json", summary)
    page = to_markdown(summary)
    with atomic_write(arguments.output / "summary.md") as file:
        file.write(page + "\n")
    print(page)  # noqa: T201 - this command's result


if __name__ == "__main__":
    main()
