"""Writes `--help`, and refuses options that do not exist, both without importing torch or transformers."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from dyneval.errors import SettingError
from qwenvl.train.argument import DataArguments, ModelArguments, RecipeArguments
from qwenvl.train.options import TRANSFORMERS, own_fields, unknown_option

_WIDTH = 100


def first_look(argv: Sequence[str]) -> None:
    """Refuse options that do not exist. Raises SettingError, which names what may have been meant."""
    for word in argv:
        if not word.startswith("--"):
            continue
        name = word[2:].partition("=")[0].replace("-", "_")
        problem = unknown_option(name)
        plain = name.removeprefix("no_")
        # transformers' parser makes a --no_NAME for each switch that is on by default.
        if problem and not (plain != name and unknown_option(plain) is None):
            raise SettingError(problem)


def usage(prog: str) -> str:
    """Return what `--help` prints: DynEval's options, those of transformers that are honoured, those that are not."""
    parts = [f"usage: {prog} --model_name_or_path DIR --dataset_use NAMES --output_dir DIR [options]"]
    for kind in (ModelArguments, DataArguments, RecipeArguments):
        parts.append(f"\n{kind.__doc__}")
        own = [field for field in dataclasses.fields(kind) if "help" in field.metadata]
        parts += [_entry(field.name, field.metadata["help"].replace("%%", "%")) for field in own]
    parts.append("\nOptions of transformers' Trainer that are honoured:")
    honoured = {name: option for name, option in TRANSFORMERS.items() if option.fate != "refused"}
    shown = {name: option for name, option in honoured.items() if name != "output_dir"}
    parts += [_entry(name, option.word) for name, option in shown.items()]
    refused = ", ".join(name for name, option in TRANSFORMERS.items() if option.fate == "refused")
    parts.append("\nRefused, with a word on what to use:")
    parts.append(textwrap.fill(refused, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(parts) + "\n"


def _entry(name: str, word: str) -> str:
    # Defaults are shown where DynEval sets one; those of transformers stand in its own documentation.
    field = own_fields().get(name)
    default = ""
    if field is not None and field.default is not None:
        default = " (required)" if field.default is dataclasses.MISSING else f" ({field.default})"
    return textwrap.fill(f"{word}{default}", _WIDTH, initial_indent=f"  --{name:<32} ", subsequent_indent=" " * 37)
