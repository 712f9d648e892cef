"""Read the table of text-to-image models, `dyneval/data/models.toml`: names, tiers, years and the paper's scores.

The same table says how each model draws, which `dyneval.generation.catalogue` reads. A user's own file in the same form
adds models, or changes single values of those in the table: `--models mine.toml`. Leaderboards find a model's tier by
its name through `by_key`; a name that two models share would give one of them the other's tier, so it is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from dyneval.errors import DataFileError
from dyneval.records import Tier

Table = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A text-to-image model.

    Attributes:
        tier: 1 is the strongest; the paper's where `paper_score` is given, else ours.
        year: in which it first became public; for charts.
        paper_score: overall score that the paper gives it on DynEval-1K, 0-1; None: it is not one of the paper's 36.
        aliases: other names of the model.
    """

    slug: str
    name: str
    tier: Tier
    year: int | None = None
    paper_score: float | None = None
    aliases: tuple[str, ...] = ()


NAMES = frozenset(field.name for field in fields(Model))
"""Keys of a table that `Model` reads; the others say how the model draws."""


def tables(own: Path | None = None) -> dict[str, Table]:
    """Every model's whole table, by slug.

    Args:
        own: a TOML file of the user, whose values replace those of the package one by one.

    Raises:
        DataFileError: `own` cannot be read, or holds something else than tables.
    """
    found = dict(_packaged())
    if own is None:
        return found
    try:
        added = tomllib.loads(own.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(f"{own}: cannot be read as a TOML table of models ({error})") from error
    for slug, table in added.items():
        if not isinstance(table, dict):
            raise DataFileError(f"{own}: expected a table [slug] for each model, found {slug} = {table!r}")
        if "adapter" in table:
            # Relative to the file that names it, so that the two can be moved together and run from anywhere.
            table["adapter"] = str((own.parent / str(table["adapter"])).resolve())
        found[slug] = _merged(found.get(slug, {}), table)
    return found


def models(own: Path | None = None) -> tuple[Model, ...]:
    """All models, in the order of the tables. Raises DataFileError, which names the model and the value."""
    found = []
    for slug, table in tables(own).items():
        try:
            found.append(msgspec.convert({**{k: v for k, v in table.items() if k in NAMES}, "slug": slug}, Model))
        except msgspec.ValidationError as error:
            raise DataFileError(f"model {slug}: {error}") from error
    return tuple(found)


def tiers(own: Path | None = None) -> dict[str, Tier]:
    """The tier of each model, by `model_key` of its slug, name and aliases. Raises DataFileError as `by_key`."""
    return {key: model.tier for key, model in by_key(own).items()}


def by_key(own: Path | None = None) -> dict[str, Model]:
    """All models, by `model_key` of their slugs, names and aliases.

    Raises:
        DataFileError: a name has no letter and no digit, or two models share one.
    """
    found: dict[str, Model] = {}
    for model in models(own):
        for name in (model.slug, model.name, *model.aliases):
            key = model_key(name)
            if not key:
                raise DataFileError(f"model {model.slug}: the name {name!r} has no letter and no digit")
            if (other := found.setdefault(key, model)) is not model:
                raise DataFileError(f"the models {other.slug} and {model.slug} cannot both be called {name!r}")
    return found


def model_key(name: str) -> str:
    """Reduce a model's name to letters and digits: "FLUX.2 [klein]" and "flux2-klein" are the same model."""
    # The same model is published as PixArt-α and as PixArt-alpha.
    return re.sub(r"[\W_]", "", name.lower().replace("α", "alpha").replace("σ", "sigma"))


@cache
def _packaged() -> dict[str, Table]:
    # Read once: a leaderboard asks for the tier of a model in many places, and the table has over a thousand lines.
    return tomllib.loads(files("dyneval").joinpath("data", "models.toml").read_text("utf-8"))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    """`below` with the values of `above`; tables in both are merged likewise, not replaced."""
    merged = {**below, **above}
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            merged[name] = _merged(below[name], value)
    return merged
