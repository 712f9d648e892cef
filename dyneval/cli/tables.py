"""Flags about tables that several verbs have: the pairs, the folders of images and annotations, the columns' names.

Without this file each verb would describe them in its own words, and read MEANING=NAME with errors of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

from dyneval.errors import SettingError
from dyneval.flags import arg

PairTable = Annotated[Path | None, arg("table (JSONL, CSV, Parquet) with file_name and prompt, or an ImageFolder")]
ImageRoot = Annotated[
    Path | None, arg("folder that file_name is relative to; default: the folder of --metadata", folder=True)
]
AnnotationFolder = Annotated[Path, arg("folder of the four annotation files", folder="dyneval annotate writes it")]


def column_of(meanings: Collection[str]) -> Callable[[str], tuple[str, str]]:
    """Return a function that reads MEANING=NAME into the two. It raises SettingError: another form or meaning."""

    def read(text: str) -> tuple[str, str]:
        meaning, _, name = text.partition("=")
        if meaning not in meanings or not name:
            raise SettingError(f"{text}: expected MEANING=NAME, with the meanings {', '.join(meanings)}")
        return meaning, name

    return read
