"""The models at hand: the 36 of `image_gen_scripts/models.csv`, one script each, and the three demo models.

A script defines `MODEL`, a ModelSpec. Scripts are found through the table and imported by path, so a worker process can
find a model again by its slug and the folder of scripts alone.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dyneval.errors import GenerationError
from dyneval.generation.model import ModelSpec
from dyneval.records import Tier

DEMO = "demo"
DEMO_MODELS = "dyneval.demo.painters:MODELS"
"""Module and attribute of the demo models' descriptions by slug. A name and no import: the demo is built on Step 2, so
Step 2 cannot be built on it."""
COLUMNS = ("slug", "name", "tier", "family", "repo", "default_preset", "checked")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A model of the catalogue, not yet imported; `script` is None for the demo models."""

    slug: str
    tier: Tier
    family: str
    script: Path | None = None

    def load(self) -> ModelSpec:
        """Import the model's description. Raises GenerationError when its script does not define it."""
        return _demo_models()[self.slug] if self.script is None else load_script(self.script)


def _demo_models() -> Mapping[str, ModelSpec]:
    module, _, attribute = DEMO_MODELS.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_script(path: Path) -> ModelSpec:
    """Import a script by path and return its `MODEL`. Raises GenerationError when it has none."""
    spec = importlib.util.spec_from_file_location(f"image_gen_scripts_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise GenerationError(f"{path}: no such model script")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = getattr(module, "MODEL", None)
    if not isinstance(model, ModelSpec):
        raise GenerationError(f"{path}: a model script defines MODEL, a ModelSpec")
    return model


def script_path(folder: Path, slug: str) -> Path:
    """Script of the model called `slug`: flux1-dev is drawn by flux1_dev.py."""
    return folder / f"{slug.replace('-', '_')}.py"


def table_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of `folder`/models.csv. Raises GenerationError when the table is missing or not one."""
    path = folder / "models.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError) as error:
        raise GenerationError(f"{path}: cannot be read ({error})") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise GenerationError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    if any(row["tier"] not in ("1", "2", "3") for row in rows):
        raise GenerationError(f"{path}: the column tier holds more than 1, 2 and 3")
    return rows


def read_table(folder: Path) -> list[Entry]:
    """Entries of `folder`/models.csv. Raises GenerationError when the table is missing or not one."""
    return [
        Entry(
            slug=row["slug"],
            tier=int(row["tier"]),  # type: ignore[arg-type]
            family=row["family"],
            script=script_path(folder, row["slug"]),
        )
        for row in table_rows(folder)
    ]


def describe(spec: ModelSpec, checked: str = "") -> dict[str, str]:
    """A model's row of the table; `checked` says how far the model's own code has been run in this repository."""
    repo = next(iter(spec.variants.values()))
    values = (spec.slug, spec.name, str(spec.tier), spec.family, repo, spec.default_preset, checked)
    return dict(zip(COLUMNS, values, strict=True))


def demo_entries() -> list[Entry]:
    """The embedded models, one a tier, which need neither weights nor a GPU."""
    return [Entry(slug=spec.slug, tier=spec.tier, family=DEMO) for spec in _demo_models().values()]


def roster(entries: Iterable[Entry], chosen: Iterable[Entry]) -> list[Entry]:
    """Models among which prompts are shared out: demo models only among demo models, real ones among real ones.

    It does not depend on which of them run now, so that separate runs share prompts out alike.
    """
    chosen = list(chosen)
    demo = {entry.family == DEMO for entry in chosen}
    if len(demo) > 1:
        raise GenerationError("demo models and real models do not share prompts; run them apart")
    known = {entry.slug: entry for entry in entries if (entry.family == DEMO) in demo}
    return list({**known, **{entry.slug: entry for entry in chosen}}.values())


def choose(
    entries: list[Entry], *, slugs: list[str] | None = None, tier: int | None = None, family: str | None = None
) -> list[Entry]:
    """Models by slug, by tier or (neither given) all; without a family or slugs, the real ones.

    Raises:
        GenerationError: no such model.
    """
    if slugs:
        by_slug = {entry.slug: entry for entry in entries}
        unknown = [slug for slug in slugs if slug not in by_slug]
        if unknown:
            raise GenerationError(f"no model '{unknown[0]}'; choose from {', '.join(by_slug)}")
        return [by_slug[slug] for slug in slugs]
    chosen = [
        entry
        for entry in entries
        if (tier is None or entry.tier == tier) and (entry.family != DEMO if family is None else entry.family == family)
    ]
    if not chosen:
        raise GenerationError(f"no model of tier {tier} and family {family}")
    return chosen
