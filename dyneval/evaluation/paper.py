"""The paper's tables and figures as data: which of them public data allow, and what each needs.

`dyneval reproduce` works through these entries; `--list` prints them. `--help` imports this module, so it imports no
library of the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dyneval.evaluation.benchmarks import BENCHMARKS

DYNEVAL_1K = "dyneval-1k"
# Forms in which the prompts of DynEval-1K are published or written by Step 1; the first that is there is taken.
_PROMPTS = ("prompts.json", "prompts.jsonl", "prompts.csv", "prompts.parquet")
EVALUATORS = ("DynEval-2B", "DynEval-4B")
"""Evaluators of the paper whose figures may be shown beside a student's."""

Kind = Literal["agreement", "models", "tiers", "questions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperDataset:
    """Public data behind a table, expected in the folder `name` below `--data`.

    Attributes:
        name: of a benchmark, or `DYNEVAL_1K`.
        annotations: names of its file there, the first that is there is taken; "" is the folder itself.
        images: folder of its images there.
        fold: the file of its folder that says which images the paper was measured on; without it all are taken.
        note: in what the public files differ from what the paper was measured on.
    """

    name: str
    annotations: tuple[str, ...] = ("",)
    images: str = "images"
    fold: str = ""
    note: str = ""

    def find(self, data: Path) -> tuple[Path, Path] | None:
        """Its annotations and its folder of images below the data folder; None where one of them is not there."""
        found = [data / self.name / name for name in self.annotations if (data / self.name / name).exists()]
        images = data / self.name / self.images
        return (found[0], images) if found and images.is_dir() else None

    def fold_file(self, data: Path) -> Path | None:
        """The file of the fold that the paper was measured on, where it is there."""
        path = data / self.name / self.fold
        return path if self.fold and path.is_file() else None

    def wanted(self, data: Path) -> str:
        """Which files are needed in which folder, and where to get them."""
        here = data / self.name
        files = " or ".join(str(here / name) if name else f"its files in {here}" for name in self.annotations)
        if self.name == DYNEVAL_1K:
            layout = "a prompt list with categories; images as <model>/<four digits of the prompt>.png"
            source = "https://huggingface.co/datasets/vcl-iisc/DynEval-dataset"
        else:
            layout, source = BENCHMARKS[self.name].layout, BENCHMARKS[self.name].source
        return f"{self.name}: wants {files} and {here / self.images}\n  files: {layout}\n  from: {source}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """A table or figure of the paper; `reason` says why public data do not allow one."""

    title: str
    kind: Kind = "agreement"
    datasets: tuple[PaperDataset, ...] = ()
    reason: str = ""


_OF_JUDGES = "the public files hold a judge's answers, no person's"
_NOT_PUBLIC = "no file of people's ratings is public; yours in this layout are taken"
_ONE_K = (PaperDataset(name=DYNEVAL_1K, annotations=_PROMPTS),)
TABLES: dict[str, PaperTable] = {
    "agreement": PaperTable(
        title="SRCC and PLCC against people on seven benchmarks",
        datasets=(
            # Its ratings are not those of the paper's table; the note says so below the table.
            PaperDataset(
                name="evalmuse",
                annotations=("train_list.json",),
                note="the ratings of the test split, the paper's 10,796 pairs, are not public; train_list.json is",
            ),
            PaperDataset(name="genai-bench", annotations=("genai_image.json",)),
            PaperDataset(name="tifa", annotations=("human_annotations.json",)),
            # The records have no prompts; the JSON beside them has, and its scores are used where it is alone.
            PaperDataset(name="richhf", annotations=("test.tfrecord", "test_meta_data.json")),
            PaperDataset(name="geneval"),
            PaperDataset(
                name="evalmi",
                fold="data/test_AIGI_mos2_fold_1.jsonl",
                note="the paper's 10,080 pairs are one of five folds: the first if its file is there, else all images",
            ),
            PaperDataset(name="t2i-eval-bench"),
        ),
    ),
    "agreement-recent": PaperTable(
        title="SRCC and PLCC on four recent benchmarks",
        datasets=(
            PaperDataset(name="geneval2", note=_NOT_PUBLIC),
            PaperDataset(name="tiif-bench", note=_OF_JUDGES),
            PaperDataset(name="unigenbench", note=_OF_JUDGES),
            PaperDataset(name="t2i-corebench", note=_NOT_PUBLIC),
        ),
    ),
    "leaderboard": PaperTable(
        title="36 text-to-image models on DynEval-1K, overall score 0-1", kind="models", datasets=_ONE_K
    ),
    "tiers": PaperTable(title="Mean and deviation of each tier's models on DynEval-1K", kind="tiers", datasets=_ONE_K),
    "questions": PaperTable(
        title="Quality questions by number of objects in an image", kind="questions", datasets=_ONE_K
    ),
    "scaling": PaperTable(
        title="SRCC after training on 50,000 to 250,000 samples (.687 to .800)",
        reason="the paper does not say on which images it was measured; `dyneval instruct` and `dyneval train` make "
        "students of any number of samples, and `dyneval benchmark` measures them",
    ),
}
"""By name, as on the command line."""
