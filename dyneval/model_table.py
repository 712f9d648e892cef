"""The table of text-to-image models, `dyneval/data/models.toml`: who they are. How they draw stands there, too.

A file of one's own in the same form adds models, or changes single values of those in the table: `--models mine.toml`.
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
        aliases: other names that mean it.
    """

    slug: str
    name: str
    tier: Tier
    year: int | None = None
    paper_score: float | None = None
    aliases: tuple[str, ...] = ()


NAMES = frozenset(field.name for field in fields(Model))
"""What `Model` reads of a table; the rest says how the model draws."""


def tables(own: Path | None = None) -> dict[str, Table]:
    """All of each model's table by slug, `own` laid over what the package has. Raises DataFileError."""
    found = dict(_packaged())
    for slug, table in (_read(own) if own else {}).items():
        found[slug] = _laid_over(found.get(slug, {}), table)
    return found


def models(own: Path | None = None) -> tuple[Model, ...]:
    """The models, as the tables have them. Raises DataFileError, which names the model and the value."""
    return tuple(_model(slug, table) for slug, table in tables(own).items())


def tiers(own: Path | None = None) -> dict[str, Tier]:
    """Tier of each model by `model_key` of its slug, name and aliases. Raises DataFileError as `by_key`."""
    return {key: model.tier for key, model in by_key(own).items()}


def by_key(own: Path | None = None) -> dict[str, Model]:
    """Each model by `model_key` of its slug, name and aliases. Raises DataFileError: a name has none, or another's."""
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
    return re.sub(r"[\W_]", "", name.lower().replace("α", "alpha").replace("σ", "sigma"))


@cache
def _packaged() -> dict[str, Table]:
    return tomllib.loads(files("dyneval").joinpath("data", "models.toml").read_text("utf-8"))


def _read(path: Path) -> dict[str, Table]:
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as a TOML table of models ({error})") from error
    for slug, table in found.items():
        if not isinstance(table, dict):
            raise DataFileError(f"{path}: expected a table [slug] for each model, found {slug} = {table!r}")
        if "adapter" in table:  # a path beside the file that names it
            table["adapter"] = str((path.parent / str(table["adapter"])).resolve())
    return found


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    both = {name: _laid_over(below[name], above[name]) for name in above if _is_table(below.get(name), above[name])}
    return {**below, **above, **both}


def _is_table(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _model(slug: str, table: Table) -> Model:
    try:
        return msgspec.convert({**{k: v for k, v in table.items() if k in NAMES}, "slug": slug}, Model)
    except msgspec.ValidationError as error:
        raise DataFileError(f"model {slug}: {error}") from error
