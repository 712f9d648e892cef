"""AGIQA-3K (Li et al. 2023): 2,982 images of six T2I models, alignment and quality as two mean opinion scores.

Source: `data.csv` of https://github.com/lcysyzxdxc/AGIQA-3k-Database: name, prompt, adj1, adj2, style, mos_quality,
std_quality, mos_align, std_align. A name is `<model>_<variant>_<prompt number>.jpg`; sd1.5 and midjourney have variants
with few steps or a low or high guidance. The scores are z-scores set between 0 and 5; eight images have the quality 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside, listed
from dyneval.files import tables
from dyneval.files.row import text_of

# By field. The column std_quality or std_align beside each is the spread of its raters, which no statistic here uses.
_COLUMNS = {"alignment": "mos_align", "quality": "mos_quality"}


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of data.csv, or of the one in a folder."""
    file = inside(path, "data.csv") if path.is_dir() else path
    needed = ("name", "prompt", _COLUMNS[field])
    for row in tables.rows(file, (*needed, "adj1", "adj2", "style"), needs=needed):
        # No model's name has an underscore; a name of another form is another layout, told as such by `load`.
        model, variant, _ = row["name"].split("_")
        kinds = [text_of(row.get(name)) for name in ("adj1", "adj2", "style")]
        yield RatedImage(
            item_id=row["name"],
            image=row["name"],
            prompt=row["prompt"],
            ratings=listed(row[_COLUMNS[field]]),
            model=model,
            categories=(variant, *(kind for kind in kinds if kind)),
        )


BENCHMARK = Benchmark(
    name="agiqa-3k",
    title="AGIQA-3K",
    source="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    layout="data.csv with name, prompt, mos_align and mos_quality, or its folder; images as named there",
    size="2,982 images",
    licence="MIT",
    # From 0: eight images have the quality 0 exactly, which is a rating and no gap.
    fields={
        "alignment": Field("how well the image matches the prompt", 0, 5),
        "quality": Field("perceived quality", 0, 5),
    },
    read=read,
)
