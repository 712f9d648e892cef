"""The models that can draw: tables of `dyneval/data/models.toml`, and of a file of the user's, become ModelSpecs.

Without this file every model would need Python code. A table looks like this:

    [my-model]
    name = "My model"
    tier = 2
    pipeline = "FluxPipeline"                      # the family "diffusers" is the default
    variants = { v1 = "me/my-model" }
    presets.recommended.arguments = { num_inference_steps = 20, guidance_scale = 3.5, height = 1024, width = 1024 }

`class = "my_module:MySpec"` names a ModelSpec of the user's in the place of a family; `model = "my_module:MyModel"`
names code for what is special to a model. Python looks for the module beside the user's table, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

import msgspec

from dyneval import model_table, registry
from dyneval.errors import GenerationError, did_you_mean
from dyneval.generation.model import ModelSpec, Preset

DEMO = "demo"
FAMILIES = {
    "diffusers": "dyneval.generation.families.diffusers:DiffusersSpec",
    "transformers": "dyneval.generation.families.transformers:TransformersSpec",
    "hosted": "dyneval.generation.families.hosted:HostedSpec",
    "external": "dyneval.generation.families.external:ExternalSpec",
    # A name and no import: the demo is built on Step 2, so an import from here would be a circle.
    DEMO: "dyneval.demo.painter_spec:DemoSpec",
}
"""Families by name, as "module:class" of their specs."""

Roster = Literal["paper", "all"]
"""Among whom prompts are shared out: the 36 models of the paper, or every model of the tables."""

Specs = dict[str, ModelSpec]


def load(own: Path | None = None) -> Specs:
    """Read all models.

    Args:
        own: a table of the user's; its models are added, or replace single values of models that are known.

    Returns:
        The models by slug.

    Raises:
        GenerationError: a table has a wrong name or value, or its class is no spec.
        SettingError: its class cannot be imported.
        DataFileError: a file is missing or is not valid TOML.
    """
    if own:
        registry.look_in(own.resolve().parent)
    return {slug: _spec(slug, table) for slug, table in model_table.tables(own).items()}


def _spec(slug: str, table: model_table.Table) -> ModelSpec:
    """Make the spec of one table; every error names the model."""
    name, family = table.get("class"), str(table.get("family", "diffusers"))
    if name is None and family not in FAMILIES:
        raise GenerationError(f"model {slug}: no family '{family}'; choose from {', '.join(FAMILIES)}")
    name = str(name or FAMILIES[family])
    kind = registry.own(name, f"model {slug}: class {name!r}")
    if not (isinstance(kind, type) and issubclass(kind, ModelSpec)):
        raise GenerationError(f"model {slug}: {name!r} is not a ModelSpec")

    known = {field.name for field in fields(kind)}
    # "year", "aliases" and other names of a table are read by model_table alone and are not fields of a spec.
    values = {key: value for key, value in table.items() if key in known or key not in model_table.NAMES}
    values = {key: value for key, value in values.items() if key not in ("class", "family")}
    # msgspec passes over names that a dataclass does not have; a misspelt setting would be lost without a word.
    tables = [(f"model {slug}", values, known)]
    presets = values.get("presets")
    if isinstance(presets, dict):
        of_preset = {field.name for field in fields(Preset)}
        # A value that should be a table and is not is refused by the conversion below.
        tables += [(f"model {slug}, preset {p}", v, of_preset) for p, v in presets.items() if isinstance(v, dict)]
    for where, content, allowed in tables:
        if unknown := sorted(set(content).difference(allowed)):
            advice = did_you_mean(unknown[0], sorted(allowed))
            raise GenerationError(f"{where}: unknown name '{unknown[0]}'; {advice}")
    try:
        return msgspec.convert({**values, "slug": slug}, kind)
    except msgspec.ValidationError as error:
        raise GenerationError(f"model {slug}: {error}") from error


def members(specs: Specs, roster: Roster = "paper") -> list[ModelSpec]:
    """Return the models of a roster, without the demo models."""
    return [s for s in specs.values() if s.family != DEMO and (roster == "all" or s.in_paper)]


def choose(
    specs: Specs,
    *,
    slugs: Sequence[str] = (),
    tier: int | None = None,
    family: str | None = None,
    roster: Roster = "paper",
) -> list[ModelSpec]:
    """Return the models that a command names.

    Args:
        specs: all models by slug.
        slugs: exactly these; the other arguments are not looked at then.
        tier: 1, 2 or 3; None is every tier.
        family: None is every family but the demo's.
        roster: among which models tier and family choose.

    Raises:
        GenerationError: no model has that slug, or none that tier and family.
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
    """Return the models among which prompts are shared out.

    The result does not depend on which models of the roster run, so separate runs share the prompts out alike. Demo
    models share among themselves. A chosen model that is not in the result shares with no other.

    Args:
        specs: all models by slug.
        chosen: those that are to draw; they only decide whether the demo models or the others are returned.
        roster: which of the others: the paper's, or all.

    Raises:
        GenerationError: `chosen` holds demo models and others.
    """
    demo = {spec.family == DEMO for spec in chosen}
    if len(demo) > 1:
        raise GenerationError("demo models and real models do not share prompts; run them apart")
    return [spec for spec in specs.values() if spec.family == DEMO] if demo == {True} else members(specs, roster)
