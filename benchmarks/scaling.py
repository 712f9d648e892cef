"""What the pipeline's own work costs a record, from a thousand to a million records: time and peak memory, no models.

    python benchmarks/scaling.py --sizes 1000 10000 100000 1000000 --plot benchmarks/scaling.svg

Inputs are generated; every measurement is a process of its own, its CPU seconds and the memory of its whole family.
Scratch files take about 15 KB a record; --scratch says where. Table and plot are renewed after each size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distill_build import PROVENANCE, annotated, measured, sentence

from dyneval.records import WORKFLOWS, normalised_score
from dyneval.teacher.prompts import prompt_version

ROOT = Path(__file__).parents[1]
TEACHER = "Distill Annotations"
QUESTIONS = (2, 2)
"""T2IA and IQA questions a pair: enough for records of a real shape, few enough for a million of them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the pipeline: its command on a folder of inputs, and what it leaves that is removed again."""

    name: str
    command: Callable[[Path], list[str | Path]]
    leaves: Sequence[str] = ()
    before: Callable[[Path], None] = lambda folder: None


class Figure(NamedTuple):
    """One measurement."""

    stage: str
    records: int
    seconds: float
    peak: int


def write_inputs(folder: Path, records: int) -> None:
    """Prompts, pairs with complete annotations, and scores: two images a prompt, three tiers."""
    rng = random.Random(0)
    folder.mkdir()
    versions = {name: PROVENANCE | {"model": "oracle", "prompt_version": prompt_version(name)} for name in WORKFLOWS}
    files = {name: (folder / f"{name}.jsonl").open("w") for name in ("metadata", *WORKFLOWS, "scores")}
    with (folder / "prompts.txt").open("w") as prompts:
        for number in range(records):
            prompts.write(f"{sentence(rng, 20)} {number}\n")
            prompt = f"{sentence(random.Random(number // 2), 20)} {number // 2}"
            rows = annotated(rng, prompt, f"model{number % 2}", 1 + number % 3, QUESTIONS)
            rows |= {name: rows[name] | {"provenance": version} for name, version in versions.items()}
            rows["scores"] = score(rows)
            for name, row in rows.items():
                if name != "t2ia_questions" or number % 2 == 0:
                    files[name].write(json.dumps(row) + "\n")
    for file in files.values():
        file.close()


def score(rows: dict[str, Any]) -> dict[str, Any]:
    """A ScoreRecord of a pair, as if the student agreed with its teacher."""
    pair = rows["metadata"]
    halves = {name: rows[f"{name}_answers"]["answers"] for name in ("t2ia", "iqa")}
    values = {name: sum(one["score"] for one in answers) / len(answers) for name, answers in halves.items()}
    values["overall"] = (values["t2ia"] + values["iqa"]) / 2
    return {
        "pair_id": pair["pair_id"],
        "prompt": pair["prompt"],
        "image": pair["file_name"],
        **values,
        "normalised": {name: normalised_score(value) for name, value in values.items()},
        **{f"{name}_questions": answers for name, answers in halves.items()},
        "scene_graph": rows["iqa_questions"]["scene_graph"],
        "model": "student",
        "template": "readme",
        "soft": values,
        "settings": {},
        "seconds": 0.1,
    }


def lay_shards(folder: Path) -> None:
    """The annotations as those of the only shard, without taking their place twice."""
    shard = folder / "whole" / "shards" / "1-of-1"
    shard.mkdir(parents=True)
    for name in WORKFLOWS:
        os.link(folder / f"{name}.jsonl", shard / f"{name}.jsonl")


STAGES = (
    Stage(
        "1 filter prompts",
        lambda folder: [
            *(
                "extract_diverse_prompts.py",
                "--quiet",
                "--input",
                folder / "prompts.txt",
                "--output",
                folder / "prompts",
            )
        ],
        ["prompts"],
    ),
    Stage("2 resume", lambda folder: ["benchmarks/scaling.py", "--resume", folder]),
    Stage(
        "2 mapping",
        lambda folder: ["image_gen_scripts/gendb.py", "to-mapping", folder, folder / "mapping.json"],
        ["mapping.json"],
    ),
    Stage(
        "3 resume",
        lambda folder: [
            *(f"{TEACHER}/annotate.py", "--engine", "oracle"),
            *("--metadata", folder / "metadata.jsonl", "--output", folder),
        ],
    ),
    Stage("3 merge", lambda folder: [f"{TEACHER}/merge.py", "--output", folder / "whole"], ["whole"], lay_shards),
    Stage(
        "3 build",
        lambda folder: [
            *(f"{TEACHER}/build_dynevalinstruct.py", "--check-images", "none", "--workers", "1"),
            *("--metadata", folder / "metadata.jsonl", "--annotations", folder, "--output", folder / "instruct"),
        ],
        ["instruct"],
    ),
    Stage(
        "5 scores and board",
        lambda folder: [
            *("-m", "dyneval", "leaderboard", folder / "scores.jsonl", "--metadata", folder / "metadata.jsonl"),
            *("--output", folder / "board", "--no-report", "--resamples", "100"),
        ],
        ["board"],
    ),
)


def resume(folder: Path) -> None:
    """Open a GenDB of which all is there, as a run of Step 2 does before it looks at the images."""
    from dyneval.generation.gendb import GenDB

    with GenDB(folder, "scaling") as db:
        assert db.index


def run(sizes: Sequence[int], scratch: Path | None) -> Iterator[list[Figure]]:
    """Measure all stages at all sizes, yielding what is known after each; inputs of one are removed before the next."""
    figures = []
    for records in sizes:
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            folder = Path(name) / "inputs"
            write_inputs(folder, records)
            for stage in STAGES:
                stage.before(folder)
                _, peak, cpu = measured([sys.executable, *map(str, stage.command(folder))], ROOT, quiet=True)
                figures.append(Figure(stage.name, records, cpu, peak))
                print(f"{stage.name}: {records} records, {cpu:.1f} s of CPU, {peak / 2**20:.0f} MiB", file=sys.stderr)
                for left in stage.leaves:
                    path = folder / left
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield figures


def table(figures: Sequence[Figure]) -> str:
    """Microseconds of CPU a record and peak MiB, a row a stage and a column a size."""
    sizes = sorted({figure.records for figure in figures})
    found = {(figure.stage, figure.records): figure for figure in figures}
    lines = ["| | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for stage in STAGES:
        row = [found[stage.name, size] for size in sizes]
        cells = [f"{1e6 * one.seconds / one.records:,.0f} µs, {one.peak / 2**20:,.0f} MiB" for one in row]
        lines.append(f"| {stage.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(figures: Sequence[Figure], path: Path) -> None:
    """CPU seconds and peak memory over the number of records, both axes logarithmic, with a line of proportion."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "scaling", "font.size": 9})
    drawing, (time, memory) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for stage in STAGES:
        row = sorted((one for one in figures if one.stage == stage.name), key=lambda one: one.records)
        sizes = [one.records for one in row]
        time.plot(sizes, [one.seconds for one in row], marker="o", markersize=3, label=stage.name)
        memory.plot(sizes, [one.peak / 2**20 for one in row], marker="o", markersize=3, label=stage.name)
    ends = [min(one.records for one in figures), max(one.records for one in figures)]
    time.plot(ends, [1e-4 * end for end in ends], color="grey", linestyle=":", label="100 µs a record")
    for axes, title in ((time, "CPU seconds"), (memory, "peak memory, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="records", title=title)
        axes.grid(alpha=0.3)
    drawing.legend(*time.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    drawing.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path, help="folder for the generated records")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)  # the measured process of "2 resume"
    args = parser.parse_args()
    if args.resume:
        resume(args.resume)
        return
    for figures in run(args.sizes, args.scratch):
        print(table(figures), flush=True)
        if args.plot:
            plot(figures, args.plot)


if __name__ == "__main__":
    main()
