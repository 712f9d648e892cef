"""How each model of the table draws: tables of `dyneval/data/models.toml` and of one's own become ModelSpecs.

    [my-model]
    name = "My model"
    tier = 2
    pipeline = "FluxPipeline"                      # the family "diffusers" is the default
    variants = { v1 = "me/my-model" }
    presets.recommended.arguments = { num_inference_steps = 20, guidance_scale = 3.5, height = 1024, width = 1024 }

`class = "my_module:MySpec"` takes a ModelSpec of one's own in the place of a family, `model = "my_module:MyModel"` code
of one's own for what is special to a model. The module is looked for beside the file, too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from dyneval import model_table
from dyneval.errors import GenerationError, did_you_mean
from dyneval.generation.model import ModelSpec, Preset

DEMO = "demo"
FAMILIES = {
    "diffusers": "dyneval.generation.families.diffusers:DiffusersSpec",
    "transformers": "dyneval.generation.families.transformers:TransformersSpec",
    "hosted": "dyneval.generation.families.hosted:HostedSpec",
    "external": "dyneval.generation.families.external:ExternalSpec",
    DEMO: "dyneval.demo.painter_spec:DemoSpec",  # a name and no import: the demo is built on Step 2
}
"""Families by name, as "module:class" of their specs."""

Roster = Literal["paper", "all"]
"""Among whom prompts are shared out: the 36 models of the paper, or every model of the tables."""

Specs = dict[str, ModelSpec]


def load(own: Path | None = None) -> Specs:
    """All models by slug, those of the table `own` added or laid over. Raises GenerationError, DataFileError."""
    if own:
        sys.path.append(str(own.resolve().parent))  # worker processes inherit it
    return {slug: _spec(slug, table) for slug, table in model_table.tables(own).items()}


def _spec(slug: str, table: model_table.Table) -> ModelSpec:
    name, family = table.get("class"), str(table.get("family", "diffusers"))
    if name is None and family not in FAMILIES:
        raise GenerationError(f"model {slug}: no family '{family}'; choose from {', '.join(FAMILIES)}")
    kind = _imported(slug, str(name or FAMILIES[family]))
    known = {field.name for field in fields(kind)}
    values = {key: value for key, value in table.items() if key in known or key not in model_table.NAMES}
    values = {key: value for key, value in values.items() if key not in ("class", "family")}
    _no_others(f"model {slug}", values, known)
    presets = values.get("presets")
    for preset, content in presets.items() if isinstance(presets, dict) else ():
        if isinstance(content, dict):  # what is no table is told by the conversion
            _no_others(f"model {slug}, preset {preset}", content, {field.name for field in fields(Preset)})
    try:
        return msgspec.convert({**values, "slug": slug}, kind)
    except msgspec.ValidationError as error:
        raise GenerationError(f"model {slug}: {error}") from error


def _no_others(where: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(values).difference(known))
    if unknown:
        raise GenerationError(f"{where}: unknown name '{unknown[0]}'; {did_you_mean(unknown[0], sorted(known))}")


def _imported(slug: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise GenerationError(f"model {slug}: class {name!r} cannot be imported ({error})") from error
    if not (isinstance(kind, type) and issubclass(kind, ModelSpec)):
        raise GenerationError(f"model {slug}: {name!r} is no ModelSpec")
    return kind


def members(specs: Specs, roster: Roster = "paper") -> list[ModelSpec]:
    """The models of a roster, without the demo models."""
    return [s for s in specs.values() if s.family != DEMO and (roster == "all" or s.in_paper)]


def choose(
    specs: Specs,
    *,
    slugs: Sequence[str] = (),
    tier: int | None = None,
    family: str | None = None,
    roster: Roster = "paper",
) -> list[ModelSpec]:
    """Models by slug, or those of the roster, by tier and family; `family` "demo" is the demo models.

    Raises:
        GenerationError: no such model.
    """
    unknown = [slug for slug in slugs if slug not in specs]
    if unknown:
        raise GenerationError(f"no model '{unknown[0]}'; {did_you_mean(unknown[0], specs)}")
    if slugs:
        return [specs[slug] for slug in dict.fromkeys(slugs)]
    among = [s for s in specs.values() if s.family == DEMO] if family == DEMO else members(specs, roster)
    chosen = [s for s in among if tier in (None, s.tier) and family in (None, s.family)]
    if not chosen:
        raise GenerationError(f"no model of tier {tier} and family {family}")
    return chosen


def sharing(specs: Specs, chosen: Sequence[ModelSpec], roster: Roster = "paper") -> list[ModelSpec]:
    """The models among which prompts are shared out: demo models among themselves, real ones among the roster.

    It does not depend on which of them run, so that separate runs share prompts out alike. A chosen model that is not
    among them shares with no other.
    """
    demo = {spec.family == DEMO for spec in chosen}
    if len(demo) > 1:
        raise GenerationError("demo models and real models do not share prompts; run them apart")
    return [spec for spec in specs.values() if spec.family == DEMO] if demo == {True} else members(specs, roster)
