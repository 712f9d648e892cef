"""The names that `--dataset_use` takes, and the files behind them. Add your own to `DATASETS`.

    $ python3 -m qwenvl.data dynevalinstruct_t2ia        # checks the variables and reads the annotations

Files are named by environment variables, as in Qwen's fine-tuning folder, so that launch scripts hold no paths.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from dyneval.errors import made_by
from dyneval.tokens import EVALUATION, IQA, T2IA, TASK_TOKENS
from qwenvl.errors import TrainingInputError

DATASETS: dict[str, tuple[str, ...]] = {
    "dynevalinstruct_t2ia": ("DYNEVALINSTRUCT_T2IA",),
    "dynevalinstruct_iqa": ("DYNEVALINSTRUCT_IQA",),
    "dynevalinstruct": ("DYNEVALINSTRUCT_T2IA", "DYNEVALINSTRUCT_IQA"),
}
"""Name -> prefixes of the environment variables `<prefix>_ANNOTATION` and `<prefix>_DATA` of its parts."""
TASKS: dict[str, tuple[str, ...]] = {
    "DYNEVALINSTRUCT_T2IA": (T2IA, EVALUATION),
    "DYNEVALINSTRUCT_IQA": (IQA, EVALUATION),
}
"""Prefix -> task tokens of its samples; datasets that are not listed may have any of the three."""
WHOLE = {"dynevalinstruct": "DYNEVALINSTRUCT"}
"""Name -> prefix of the variables that name one file with the whole dataset, in place of its parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSource:
    """One annotation file and the folder that its images lie below."""

    name: str
    annotation: Path
    data: Path
    rate: float = 1.0
    """Share of the samples that is used, in (0, 1]."""
    variable: str = "the image folder"
    """What names `data`, for messages."""
    tasks: tuple[str, ...] | None = None
    """Task tokens that its samples may begin with; None: any, or none."""


def data_list(names: list[str]) -> list[DatasetSource]:
    """Look up datasets by name; `name%30` takes 30 percent of its samples.

    `dynevalinstruct` is the one file of DYNEVALINSTRUCT_ANNOTATION where that is set, else its two halves.

    Raises:
        TrainingInputError: an unknown name or rate, an environment variable that is unset or names nothing, or
            variables of one file beside those of its halves.
    """
    sources = []
    for name in filter(None, (name.strip() for name in names)):
        base, rate = _split_rate(name)
        if base not in DATASETS:
            raise TrainingInputError(f"unknown dataset {base!r}; known: {', '.join(DATASETS)}")
        sources += [_source(prefix, rate) for prefix in _prefixes(base)]
    if not sources:
        raise TrainingInputError(f"--dataset_use names no dataset; known: {', '.join(DATASETS)}")
    return sources


def split_list(sources: list[DatasetSource], split: str) -> list[DatasetSource]:
    """Another split of the same datasets: of `a.json` the split `heldout` is `a_heldout.json` beside it.

    Args:
        sources: the training files; their sampling rates say nothing about other splits.
        split: name of the split; `heldout%30` takes 30 percent of its samples.

    Raises:
        TrainingInputError: no name of a split, or a dataset has no such file.
    """
    name, rate = _split_rate(split)
    if not re.fullmatch(r"[\w-]+", name):
        raise TrainingInputError(f"{split!r} is no name of a split; 'heldout' reads a_heldout.json beside a.json")
    found = []
    for source in sources:
        annotation = source.annotation.with_stem(f"{source.annotation.stem}_{name}")
        if not annotation.is_file():
            raise TrainingInputError(f"split {name!r} of {source.name}: no such file: {annotation}")
        found.append(replace(source, name=f"{source.name}_{name}", annotation=annotation, rate=rate))
    return found


def _split_rate(name: str) -> tuple[str, float]:
    base, mark, percent = name.partition("%")
    if not mark:
        return base, 1.0
    if not re.fullmatch(r"\d+(\.\d+)?", percent) or not 0 < float(percent) <= 100:
        raise TrainingInputError(f"dataset {name!r}: the sampling rate after % must be in (0, 100]")
    return base, float(percent) / 100


def _prefixes(name: str) -> tuple[str, ...]:
    """Prefixes of the variables of a dataset: of the one file or of the parts, whichever is set."""
    if name not in WHOLE:
        return DATASETS[name]
    # With both set, some samples would be trained on twice.
    one, parts = (
        [one for prefix in prefixes for one in (f"{prefix}_ANNOTATION", f"{prefix}_DATA") if os.environ.get(one)]
        for prefixes in ((WHOLE[name],), DATASETS[name])
    )
    if one and parts:
        raise TrainingInputError(
            f"dataset {name!r}: {', '.join(one)} name one file, {', '.join(parts)} its halves; unset one or the other"
        )
    if not one and not parts:
        halves = " or ".join(f"{prefix}_ANNOTATION" for prefix in DATASETS[name])
        raise TrainingInputError(
            f"dataset {name!r}: neither {WHOLE[name]}_ANNOTATION, which names one file, nor {halves} is set"
        )
    return (WHOLE[name],) if one else DATASETS[name]


def _source(prefix: str, rate: float) -> DatasetSource:
    paths = []
    for name, meaning in (("ANNOTATION", "the annotation file"), ("DATA", "the folder of its images")):
        variable = f"{prefix}_{name}"
        value = os.environ.get(variable, "")
        # Checked before Path: Path("") is the current folder, which exists.
        if not value:
            raise TrainingInputError(f"the environment variable {variable} is not set; it names {meaning}")
        paths.append(Path(value))
    annotation, data = paths
    if not annotation.is_file():
        raise TrainingInputError(f"{prefix}_ANNOTATION: no such file: {annotation}{made_by(annotation)}")
    if not data.is_dir():
        raise TrainingInputError(f"{prefix}_DATA: no such folder: {data}")
    return DatasetSource(
        name=prefix.lower(),
        annotation=annotation,
        data=data,
        rate=rate,
        variable=f"{prefix}_DATA",
        tasks=TASKS.get(prefix, TASK_TOKENS),
    )
