"""The table of pairs and the folder of its images, as flags that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from dyneval.flags import arg

PairTable = Annotated[Path | None, arg("table (JSONL, CSV, Parquet) with file_name and prompt, or an ImageFolder")]
ImageRoot = Annotated[Path | None, arg("folder that file_name is relative to; default: the folder of --metadata")]
