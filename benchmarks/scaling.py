"""What the pipeline's own work costs a record, from a thousand to a million records: time and peak memory, no models.

    python benchmarks/scaling.py --sizes 1000 10000 100000 1000000 --plot benchmarks/scaling.svg

Inputs are generated; every measurement is a process of its own, its CPU seconds and the memory of its whole family.
Scratch files take about 15 KB a record; --scratch says where.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distill_build import PROVENANCE, annotated, sentence
from harness import Flags, Results, run_command

from dyneval.records import WORKFLOWS, normalised_score
from dyneval.teacher.prompts import prompt_version

TEACHER = "Distill Annotations"
# T2IA and IQA questions a pair: enough for records of a real shape, few enough for a million of them.
QUESTIONS = (2, 2)


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the pipeline: arguments of Python, and the folder that is removed after it."""

    name: str
    command: Sequence[str | Path]
    leaves: Path | None = None


class StageCost(NamedTuple):
    """CPU seconds and peak MiB of a stage at a number of records."""

    stage: str
    records: int
    seconds: float
    peak: int


def write_inputs(folder: Path, records: int) -> None:
    """Prompts, pairs with complete annotations, and scores: two images a prompt, three tiers."""
    # The versions are those of this code, so that resuming finds all annotations current.
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
    # The annotations as those of the only shard, for the merge: links, which take no place on disk.
    shard = folder / "whole" / "shards" / "1-of-1"
    shard.mkdir(parents=True)
    for name in WORKFLOWS:
        os.link(folder / f"{name}.jsonl", shard / f"{name}.jsonl")


def score(rows: dict[str, Any]) -> dict[str, Any]:
    """A ScoreRecord of a pair, as if the student agreed with its teacher."""
    pair = rows["metadata"]
    parts = {name: rows[f"{name}_answers"]["answers"] for name in ("t2ia", "iqa")}
    values = {name: sum(one["score"] for one in answers) / len(answers) for name, answers in parts.items()}
    values["overall"] = (values["t2ia"] + values["iqa"]) / 2
    return {
        "pair_id": pair["pair_id"],
        "prompt": pair["prompt"],
        "image": pair["file_name"],
        **values,
        "normalised": {name: normalised_score(value) for name, value in values.items()},
        **{f"{name}_questions": answers for name, answers in parts.items()},
        "scene_graph": rows["iqa_questions"]["scene_graph"],
        "model": "student",
        "template": "readme",
        "soft": values,
        "settings": {},
        "seconds": 0.1,
    }


# Opens a GenDB of which all is there, as a run of Step 2 does before it looks at the images.
RESUME = """import sys, pathlib
from dyneval.generation.gendb import GenDB
with GenDB(pathlib.Path(sys.argv[1]), "scaling") as db:
    assert db.index
"""


def stages(folder: Path) -> tuple[Stage, ...]:
    """The parts that are measured, in the order of the pipeline."""
    pairs, annotations = ["--metadata", folder / "metadata.jsonl"], ["--annotations", folder]
    filtering = ["--quiet", "--input", folder / "prompts.txt", "--output", folder / "prompts"]
    board = [folder / "scores.jsonl", *pairs, "--output", folder / "board", "--no-report", "--resamples", "100"]
    building = [*pairs, *annotations, "--output", folder / "instruct", "--check-images", "none", "--workers", "1"]
    whole = folder / "whole"
    return (
        Stage("1 filter prompts", ["extract_diverse_prompts.py", *filtering], folder / "prompts"),
        Stage("2 resume", ["-c", RESUME, folder]),
        Stage("2 mapping", ["image_gen_scripts/gendb.py", "to-mapping", folder, folder / "mapping.json"]),
        Stage("3 resume", [f"{TEACHER}/annotate.py", "--engine", "oracle", *pairs, "--output", folder]),
        Stage("3 merge", [f"{TEACHER}/merge.py", "--output", whole], whole),
        Stage("3 build", [f"{TEACHER}/build_dynevalinstruct.py", *building], folder / "instruct"),
        Stage("5 scores and board", ["-m", "dyneval", "leaderboard", *board], folder / "board"),
    )


def plot(costs: Sequence[StageCost], path: Path) -> None:
    """CPU seconds and peak memory over the number of records, both axes logarithmic, with a line of proportion."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "scaling", "font.size": 9})
    drawing, (time, memory) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for name in dict.fromkeys(cost.stage for cost in costs):
        row = sorted((one for one in costs if one.stage == name), key=lambda one: one.records)
        sizes = [one.records for one in row]
        time.plot(sizes, [one.seconds for one in row], marker="o", markersize=3, label=name)
        memory.plot(sizes, [one.peak for one in row], marker="o", markersize=3, label=name)
    ends = [min(one.records for one in costs), max(one.records for one in costs)]
    time.plot(ends, [1e-4 * end for end in ends], color="grey", linestyle=":", label="100 µs a record")
    for axes, title in ((time, "CPU seconds"), (memory, "peak memory, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="records", title=title)
        axes.grid(alpha=0.3)
    drawing.legend(*time.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    drawing.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure all stages at all sizes; the table has a row a measurement, and the plot is drawn after each size."""
    flags = Flags(__doc__)
    flags.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], smoke=[40])
    flags.add_argument("--scratch", type=Path, help="folder for the generated records")
    flags.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"stage": "", "records": ",", "CPU s": ".1f", "µs of CPU a record": ",.0f", "peak MiB": ",.0f"})
    costs = []
    for records in arguments.sizes:
        # Each size has its own folder, removed before the next: a million records take 15 GB.
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
            folder = Path(name) / "inputs"
            write_inputs(folder, records)
            for stage in stages(folder):
                usage = run_command([sys.executable, *stage.command], quiet=True)
                costs.append(StageCost(stage.name, records, usage.cpu, usage.peak))
                results.row(stage.name, records, usage.cpu, 1e6 * usage.cpu / records, usage.peak)
                if stage.leaves:
                    shutil.rmtree(stage.leaves)
        if arguments.plot:
            plot(costs, arguments.plot)


if __name__ == "__main__":
    main()
