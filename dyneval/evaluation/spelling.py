"""One name in two spellings: file systems, spreadsheets, browsers and people each write names in their own way.

Score files and ratings come from different programs, and an image that is spelled differently in both would count as
not scored. A name that is equal to the letter always comes first; each function here returns a form in which two
spellings of one name are equal. A form that equates too much would give an image the score of another one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from dyneval.files.row import text_of

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
# What pandas and Python write into a cell for "no value".
_NOTHING = frozenset({"nan", "none", "null", "<na>", "nat"})
# Spreadsheets drop leading zeros, and pandas turns a column of ids with a gap into 7.0.
_WHOLE = re.compile(r"0*([1-9]\d*|0)(\.0*)?")
# A separator between two digits stays, as the mark \0: "v1.0" and "v10" are two models.
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\W_]+(?=\d)")
_SEPARATORS = re.compile(r"[^\w+#\0]|_")


def name_of(value: Any) -> str | None:
    """The name in a cell; None where it says nothing, also in the words that Python and pandas write for that.

    Raises:
        TypeError: see `dyneval.files.row.text_of`.
    """
    text = text_of(value)
    return None if text is None or text.strip().casefold() in _NOTHING else text


def alike_id(name: str) -> str:
    """The same for ids that differ in case, blanks around them, Unicode form, or, as numbers, in form: 007, 7, 7.0."""
    name = _folded(name)
    number = _WHOLE.fullmatch(name)
    return number[1] if number else name


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of a path of any system: tables from Windows have backslashes."""
    return PurePosixPath(path.replace("\\", "/")).parts


def alike_path(path: str) -> tuple[str, ...]:
    """The same for paths that differ in case, Unicode form, percent-encoding, or are the path of a URL."""
    if "://" in path:
        # Of a URL only the path names the image; "?" and "#" may stand in the name of a local file.
        path = re.split(r"[?#]", path.partition("://")[2])[0]
    return tuple(_folded(part) for part in path_parts(unquote(path.strip())))


def without_suffix(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """A path without the suffix of an image; None where it has none."""
    stem, dot, suffix = parts[-1].rpartition(".") if parts else ("", "", "")
    return (*parts[:-1], stem) if stem and f"{dot}{suffix}" in IMAGE_SUFFIXES else None


def ends_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one path is the end of the other."""
    shorter = min(len(first), len(second))
    return first[-shorter:] == second[-shorter:]


def alike_prompt(prompt: str) -> str:
    """The same for prompts that differ in Unicode form or in blanks."""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def alike_model(name: str) -> str:
    """The same for names of T2I models that differ in case and separators; "v1.0" and "v10" stay two models."""
    name = _folded(name).replace("α", "alpha").replace("σ", "sigma")
    return _SEPARATORS.sub("", _BETWEEN_DIGITS.sub("\0", name))


def two_spellings(names: Mapping[str, str]) -> tuple[str, str] | None:
    """Two of the `names` (name -> what it means) that mean one thing; None where none do."""
    first: dict[str, str] = {}
    for name, meaning in names.items():
        if first.setdefault(meaning, name) != name:
            return first[meaning], name
    return None


def _folded(text: str) -> str:
    # NFC twice: folding case may take a letter apart again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).strip()
