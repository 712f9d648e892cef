"""Tables for people: which models this machine can run, what it lacks for the others, and the presets of one model.

`dyneval generate --list` and the `--help` of every model's script print them. No weights are loaded for it, and no
package but torch, which knows the memory of the GPUs, is imported.
"""

from __future__ import annotations

from dyneval.generation import catalogue
from dyneval.generation.model import BuildOptions, ModelSpec, RunOptions

COLUMNS = ("slug", "tier", "family", "GPU GiB", "licence", "packages and keys")


def list_models(specs: catalogue.Specs, run: RunOptions) -> str:
    """Return a table of all models, one a line, with what keeps this machine from running each."""
    total = 0.0  # GiB of the largest GPU
    try:
        import torch
    except ImportError:
        pass  # the core installs without torch; models that need it list it as missing
    else:
        for index in range(torch.cuda.device_count()):
            total = max(total, torch.cuda.get_device_properties(index).total_memory / 2**30)
    rows = [COLUMNS]
    for spec in specs.values():
        obstacles = spec.obstacles(run)
        if not obstacles and total and spec.memory_gib > total:
            obstacles = ["yes, offloading"]
        licence = f"{spec.licence}{' (gated)' if spec.gated else ''}"
        memory = f"{spec.memory_gib:.0f}" if spec.memory_gib else "-"
        tier = str(spec.tier) if spec.in_paper or spec.family == catalogue.DEMO else f"{spec.tier}*"
        rows.append((spec.slug, tier, spec.family, memory, licence, "; ".join(obstacles) or "yes"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    machine = f"largest GPU here: {total:.0f} GiB" if total else "no GPU here: the CPU draws, in float32 and slowly"
    notes = ["* not one of the paper's models: the tier is that of its table"]
    notes.append("a model's weights are not looked for: they are fetched when it first draws")
    return "\n".join([*lines, "", *notes, machine])


def describe_presets(spec: ModelSpec) -> str:
    """Return variants, parts and presets of one model, with the sources of their values."""
    lines = [f"tier {spec.tier}, ours: {spec.tier_reason}"] if spec.tier_reason else []
    lines += ["variants: " + ", ".join(f"{name} ({repo})" for name, repo in spec.variants.items())]
    if spec.parts:
        lines.append("parts: " + ", ".join(f"{name} ({repo})" for name, repo in spec.parts.items()))
    for name, preset in spec.presets.items():
        options = BuildOptions(preset=name)
        arguments = ", ".join(f"{key}={value!r}" for key, value in spec.arguments(options).items())
        default = " (default)" if name == spec.default_preset else ""
        weights = f" by {preset.repo}" if preset.repo else ""
        lines.append(f"preset {name}{default}{weights}: {arguments}" + (f"\n  {preset.note}" if preset.note else ""))
        if preset.source:
            lines.append(f"  source: {preset.source}, seen on {preset.date}")
    return "\n".join(lines)
