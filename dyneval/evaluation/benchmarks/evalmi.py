"""EvalMi-50K of LMM4LMM (Wang et al. 2025, arXiv 2504.08358): mean opinion scores of 50,400 images of 24 T2I models.

Source: https://github.com/IntMeGroup/LMM4LMM and https://huggingface.co/datasets/IntMeGroup/EvalMi-50K:
`MOS&QA/AIGI2025_MOS_yn.xlsx` with ImageName (`<model>/<nnn>.png`), MOS1 (perception), MOS2 (correspondence) and Y/N
(whether the task of the prompt is done), and `prompts/Englishall.txt`, whose line n belongs to image n of every model;
the tags of `prompts/prompt_tasks.jsonl` stand in the same order. The scores are z-scores set around 50, with no stated
ends. The files of a fold (`data/test_AIGI_mos2_fold_1.jsonl`) hold conversations, not ratings; `--folds` takes from
them which images were tested in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files import tables
from dyneval.files.opening import opened, text_lines

_COLUMNS = {"correspondence": "MOS2", "perception": "MOS1", "answer": "Y/N"}


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of the sheet, or of the one below a folder; the prompts lie beside or above it."""
    sheet = path if path.is_file() else _only(path, "*.xlsx", {"ImageName", _COLUMNS[field]})
    top = path if path.is_dir() else path.parent
    prompt_file = _only(top if list(top.rglob("Englishall.txt")) else top.parent, "Englishall.txt")
    with opened(prompt_file) as file:
        # All lines, empty ones too: line n is the prompt of image n, so none may be skipped.
        prompts = [line.rstrip("\r\n") for line in text_lines(file, prompt_file)]
    tags = [row["tag"] for file in sorted(top.rglob("prompt_tasks.jsonl"))[:1] for row in tables.rows(file)]
    for row in tables.rows(sheet, needs=("ImageName", _COLUMNS[field])):
        image = PurePosixPath(str(row["ImageName"]).replace("\\", "/"))
        number = int(image.stem) if image.stem.isdecimal() else 0
        if not 1 <= number <= len(prompts):
            raise LookupError(f"image {image} is not numbered like one of the {len(prompts)} prompts")
        yield RatedImage(
            item_id=str(image),
            image=str(image),
            prompt=prompts[number - 1],
            ratings=listed(row[_COLUMNS[field]]),
            model=image.parts[-2] if len(image.parts) > 1 else None,
            # Tags of another edition, with more or fewer prompts, would belong to other images.
            categories=(tags[number - 1],) if len(tags) == len(prompts) else (),
        )


def _only(folder: Path, pattern: str, columns: set[str] | None = None) -> Path:
    """The one file below `folder` of that name, with those columns. LookupError: there is none, or are several."""
    # Excel leaves ~$NAME.xlsx beside a sheet that is open; the published folder holds one, of 165 bytes.
    found = [file for file in sorted(folder.rglob(pattern)) if not file.name.startswith("~$")]
    if columns:
        found = [file for file in found if columns <= next(tables.rows(file), {}).keys()]
    if len(found) != 1:
        with_columns = f" with {', '.join(sorted(columns))}" if columns else ""
        raise LookupError(f"expected one {pattern}{with_columns} below {folder}, found {len(found)}")
    return found[0]


BENCHMARK = Benchmark(
    name="evalmi",
    title="EvalMi-50K (LMM4LMM)",
    source="https://github.com/IntMeGroup/LMM4LMM and https://huggingface.co/datasets/IntMeGroup/EvalMi-50K",
    layout="the folder with MOS&QA/AIGI2025_MOS_yn.xlsx (ImageName, MOS1, MOS2, Y/N) and prompts/Englishall.txt, one "
    "prompt a line, or the sheet itself (pip install 'dyneval[excel]'); images as <model>/<nnn>.png",
    size="50,400 images",
    fields={
        "correspondence": Field("T2I correspondence, MOS2"),
        "perception": Field("perceived quality, MOS1"),
        "answer": Field("whether the prompt's task is done", 0, 1),
    },
    read=read,
)
