"""The steps of the pipeline as the fault bench sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyneval.files.atomic import read_json
from dyneval.files.jsonl import read_jsonl
from qwenvl.train.checkpoints import newest_complete

from .door import Broken, Door
from .world import PAIRS, Count, Step, digests, rows_of, sorted_rows, whole_rows, without


class Prompts(Step):
    """Step 1."""

    name = "1-prompts"

    def arguments(self, output: Path) -> list[str | Path]:
        """As in the README."""
        flags = ["--jsonl", "--write-dropped", "--quiet"]
        return ["extract_diverse_prompts.py", "--input", self.world.prompts, "--output", output, *flags]

    def content(self, output: Path) -> dict[str, Any]:
        """All files but the report, which says how long the stages took; the summary without that and its own place."""
        summary = without(read_json(output / "summary.json"), "seconds", "config", "run")
        return digests(output, "report.html") | {"summary.json": summary}


class Generation(Step):
    """Step 2 with a demo model."""

    name = "2-generation"

    def arguments(self, output: Path) -> list[str | Path]:
        """One model, two processes."""
        prompts = self.world.step(Prompts).reference / "prompts.parquet"
        flags = ["--model", "demo-sketcher", "--any-tier", "--limit", str(PAIRS), "--devices", "cpu,cpu"]
        return ["image_gen_scripts/generate.py", "--prompts", prompts, "--output", output, *flags]

    def content(self, output: Path) -> dict[str, Any]:
        """Records, images and sidecars."""
        rows = [row | {"settings": without(row["settings"], "seconds")} for row in rows_of(output / "metadata.jsonl")]
        files = {name: digest for name, digest in digests(output).items() if name.endswith((".png", ".truth.json"))}
        return {"rows": sorted_rows(rows), "rejects": rows_of(output / "metadata.rejects.jsonl"), **files}

    def records(self, output: Path) -> list[Path]:
        """The whole and the parts of runs that were killed."""
        parts = [path for path in output.glob(".parts/metadata-*.jsonl") if ".rejects." not in path.name]
        return [output / "metadata.jsonl", *parts]

    def finished(self, output: Path) -> int:
        """Images with a record; a run that was stopped while it joined the parts leaves some records in two files."""
        names = {row["file_name"] for path in self.records(output) for row in whole_rows(path)}
        return sum((output / name).exists() for name in names)

    def counted(self, output: Path, door: Door) -> Count:
        """Of summary.json."""
        summary = read_json(output / "summary.json")
        if summary["planned"] != PAIRS or summary["missing"] or summary["refused"]:
            raise Broken(f"summary.json: {summary}")
        return Count(summary["existing"], summary["made"])


class Annotation(Step):
    """Step 3 with the oracle."""

    name = "3-annotation"
    WORKFLOWS = ("t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers")

    def arguments(self, output: Path) -> list[str | Path]:
        """All four workflows."""
        metadata = self.world.step(Generation).reference / "metadata.jsonl"
        return ["Distill Annotations/annotate.py", "--engine", "oracle", "--metadata", metadata, "--output", output]

    def content(self, output: Path) -> dict[str, Any]:
        """Records without the time at which they were made, and rejects."""
        found: dict[str, Any] = {}
        for name in self.WORKFLOWS:
            rows = [
                row | {"provenance": without(row["provenance"], "created")} for row in rows_of(output / f"{name}.jsonl")
            ]
            found |= {name: sorted_rows(rows), f"{name} rejects": rows_of(output / f"{name}.rejects.jsonl")}
        return found

    def images(self) -> list[Path]:
        """Of Step 2."""
        return sorted(self.world.step(Generation).reference.glob("demo-sketcher/*.png"))

    def records(self, output: Path) -> list[Path]:
        """One file a workflow."""
        return [output / f"{name}.jsonl" for name in self.WORKFLOWS]

    def counted(self, output: Path, door: Door) -> Count:
        """Of annotate.summary.json, over all workflows."""
        summary = read_json(output / "annotate.summary.json")
        if summary["pairs"] != PAIRS or summary["bad_rows"]:
            raise Broken(f"annotate.summary.json: {summary}")
        flows = summary["workflows"].values()
        made = sum(flow["written"] for flow in flows)
        return Count(sum(flow["in_file"] for flow in flows) - made, made)

    def lost_images(self, output: Path, door: Door) -> int:
        """Rejects of the image workflows."""
        flows = read_json(output / "annotate.summary.json")["workflows"]
        counts = {flows[name]["rejected"].get("image", 0) for name in ("t2ia_answers", "iqa_questions")}
        if len(counts) > 1:
            raise Broken(f"the workflows miss different numbers of images: {counts}")
        return counts.pop()


class Building(Step):
    """Step 3, the training files."""

    name = "3-building"

    def arguments(self, output: Path) -> list[str | Path]:
        """Two processes."""
        metadata = self.world.step(Generation).reference / "metadata.jsonl"
        inputs = ["--metadata", metadata, "--annotations", self.world.step(Annotation).reference]
        return [
            "Distill Annotations/build_dynevalinstruct.py",
            *inputs,
            "--output",
            output,
            "--workers",
            "2",
            "--jsonl",
        ]

    def content(self, output: Path) -> dict[str, Any]:
        """All files, to the byte; of the summary all but the command line, which names the output."""
        summary = without(read_json(output / "summary.json"), "run")
        return digests(output, "summary.json") | {"summary.json": summary}

    def images(self) -> list[Path]:
        """Of Step 2."""
        return self.world.step(Annotation).images()

    def lost_images(self, output: Path, door: Door) -> int:
        """Of summary.json."""
        return read_json(output / "summary.json")["rejected"]["image"]


class Training(Step):
    """Step 4: a few steps of Stage 1 with the tiny model, a checkpoint every second one."""

    name = "4-training"
    heavy = True
    synced = True
    STEPS = 4
    TIMED = ("training_log.json", "training_args.bin")

    def arguments(self, output: Path) -> list[str | Path]:
        """One process on the CPU, short samples."""
        model = ["--model_name_or_path", self.world.student, "--dataset_use", "dynevalinstruct_t2ia"]
        length = ["--max_steps", str(self.STEPS), "--save_steps", "2", "--per_device_train_batch_size", "1"]
        small = ["--max_pixels", "9216", "--min_pixels", "784", "--learning_rate", "1e-3", "--loss_chunks", "1"]
        plain = ["--use_cpu", "True", "--report_to", "none", "--dataloader_num_workers", "1"]
        return ["-m", "qwenvl.train.train_qwen", *model, *length, *small, *plain, "--output_dir", output]

    def environment(self) -> Mapping[str, str]:
        """The data of Stage 1."""
        annotation = self.world.step(Building).reference / "dynevalinstruct_t2ia.jsonl"
        data = self.world.step(Generation).reference
        return {"DYNEVALINSTRUCT_T2IA_ANNOTATION": str(annotation), "DYNEVALINSTRUCT_T2IA_DATA": str(data)}

    def content(self, output: Path) -> dict[str, Any]:
        """The trained model to the byte, the loss of every step, and which checkpoints are left."""
        history = read_json(output / "training_log.json")["log_history"]
        losses = [(entry["step"], round(entry["loss"], 4)) for entry in history if "loss" in entry]
        model = {name: digest for name, digest in digests(output, *self.TIMED).items() if "/" not in name}
        return model | {"losses": losses, "checkpoints": sorted(path.name for path in output.glob("checkpoint-*"))}

    def images(self) -> list[Path]:
        """Those of Stage 1."""
        folder = self.world.step(Generation).reference
        samples = read_jsonl(self.world.step(Building).reference / "dynevalinstruct_t2ia.jsonl")
        return sorted({folder / sample["image"] for sample in samples if "image" in sample})

    def reopen(self, output: Path) -> list[Path]:
        """As if it had been killed after its last checkpoint, which is then damaged."""
        for path in output.iterdir():
            if path.is_file() and path.name != "run.json":
                path.unlink()
        return sorted(path for path in output.glob("checkpoint-*/*") if path.is_file())

    def finished(self, output: Path) -> int:
        """Steps up to the newest checkpoint that is whole."""
        newest = newest_complete(output)
        return read_json(newest / "complete.json")["step"] if newest else 0

    def counted(self, output: Path, door: Door) -> Count:
        """Of the messages and the log: where it went on from, and the steps from there."""
        resumed = re.search(r"resuming from .*checkpoint-(\d+)", door.errors)
        there = self.STEPS if "this run is finished" in door.errors else int(resumed[1]) if resumed else 0
        return Count(there, self.STEPS - there)

    def lost_images(self, output: Path, door: Door) -> int:
        """Samples that it refuses to go without: one an image."""
        refused = re.search(r"(\d+) bad sample", door.errors)
        return int(refused[1]) if refused else 0


class Scoring(Step):
    """Step 5 with a random student."""

    name = "5-scoring"
    heavy = True
    LIMIT = 8

    def arguments(self, output: Path) -> list[str | Path]:
        """A few pairs, two at a time."""
        table = ["--metadata", self.world.step(Generation).reference / "metadata.jsonl", "--limit", str(self.LIMIT)]
        flags = ["--batch-size", "4", "--max-questions", "2", "--max-text", "8", "--max-pixels", "9216"]
        student = ["--checkpoint", self.world.student]
        return ["inference/run_inference.py", *table, *student, *flags, "--output", output / "scores.jsonl"]

    def content(self, output: Path) -> dict[str, Any]:
        """Scores, rounded to what arithmetic in batches of other sizes leaves alone; without times."""
        rows = []
        for row in rows_of(output / "scores.jsonl"):
            soft = {name: round(value, 3) for name, value in row["soft"].items()}
            halves = {name: [one["score"] for one in row[name]] for name in ("t2ia_questions", "iqa_questions")}
            rows.append(without(row, "seconds") | {"soft": soft} | halves)
        return {"rows": sorted_rows(rows), "rejects": rows_of(output / "scores.rejects.jsonl")}

    def images(self) -> list[Path]:
        """Those that are scored."""
        folder = self.world.step(Generation).reference
        return [folder / row["file_name"] for row in list(read_jsonl(folder / "metadata.jsonl"))[: self.LIMIT]]

    def records(self, output: Path) -> list[Path]:
        """The one file."""
        return [output / "scores.jsonl"]

    def counted(self, output: Path, door: Door) -> Count:
        """Of scores.summary.json."""
        summary = read_json(output / "scores.summary.json")
        if summary["failed"]:
            raise Broken(f"scores.summary.json: {summary}")
        return Count(summary["there_before"], summary["scored"])

    def lost_images(self, output: Path, door: Door) -> int:
        """Failed pairs."""
        return read_json(output / "scores.summary.json")["failed"]


STEPS: tuple[type[Step], ...] = (Prompts, Generation, Annotation, Building, Training, Scoring)
