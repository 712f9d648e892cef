"""UniGenBench++ (Wang et al. 2025): prompts with test points, each judged 0 or 1.

Source: `eval/gemini_en_eval.py` of https://github.com/CodeGoat24/UniGenBench: result tables `<model>_<set>.csv`, the
set being en, en_long, zh or zh_long, with index, prompt, testpoint (text of a list), result_json ({"testpoint",
"score": [0 or 1 each], ...}, or null where the judge failed) and img_path (`.../<index>_<sample>.png`); images as
`<set>/<model>/...`. People's judgments are expected in that same form; the rating is the share of ones, the categories
are the set and the test points' main dimensions. No file of human ratings of UniGenBench++ was found in public.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.tables import rows

# Sets of prompts. The name of a file ends in one; the rest is the model: FLUX_en_long.csv is FLUX on en_long.
_SETS = ("en_long", "zh_long", "en", "zh")


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of one result table `<model>_<set>.csv`, or of all in a folder."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    for file in files:
        prompts = next((name for name in _SETS if file.stem.endswith(f"_{name}")), None)
        if prompts is None:
            raise LookupError(f"{file.name} does not end in one of {', '.join(f'_{name}.csv' for name in _SETS)}")
        model = file.stem.removesuffix(f"_{prompts}")
        for row in rows(file):
            try:
                # The text null stands where the judge failed three times; the image then has no rating.
                result = None if row["result_json"] is None else json.loads(row["result_json"])
            except ValueError as error:
                raise TypeError(f"result_json is not JSON: {row['result_json'][:60]!r}") from error
            image = PurePosixPath(row["img_path"].replace("\\", "/")).name
            dimensions = {point.split("-")[0].strip() for point in result["testpoint"]} if result else set()
            yield RatedImage(
                item_id=f"{prompts}/{model}/{image}",
                image=f"{prompts}/{model}/{image}",
                prompt=row["prompt"],
                ratings=listed(result["score"] if result else None),
                model=model,
                categories=(prompts, *sorted(dimensions)),
            )


BENCHMARK = Benchmark(
    name="unigenbench",
    title="UniGenBench++",
    source="https://github.com/CodeGoat24/UniGenBench",
    layout="<model>_<en|en_long|zh|zh_long>.csv or a folder of them, with prompt, img_path and result_json "
    "({testpoint: [...], score: [0 or 1, ...]}); images as <en|...>/<model>/<index>_<sample>.png",
    size="600 prompts; results of judges",
    fields={"passed": Field("share of test points that the image passes", 0, 1, is_checklist=True)},
    read=read,
)
