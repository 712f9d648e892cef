"""What this machine can run: the models with what they need, and what is missing for it."""

from __future__ import annotations

from dyneval.generation import catalogue
from dyneval.generation.model import BuildOptions, ModelSpec, RunOptions

COLUMNS = ("slug", "tier", "family", "GPU GiB", "licence", "ready")


def list_models(specs: catalogue.Specs, run: RunOptions) -> str:
    """A table of all models, one a line, for `dyneval generate --list`."""
    total = gpu_gib()
    rows = [COLUMNS, *(_row(spec, run, total) for spec in specs.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    machine = f"largest GPU here: {total:.0f} GiB" if total else "no GPU here: the CPU draws, in float32 and slowly"
    return "\n".join([*lines, "", "* not one of the paper's models: the tier is that of its table", machine])


def _row(spec: ModelSpec, run: RunOptions, total: float) -> tuple[str, ...]:
    obstacles = spec.obstacles(run)
    if not obstacles and total and spec.memory_gib > total:
        obstacles = ["yes, offloading"]
    licence = f"{spec.licence}{' (gated)' if spec.gated else ''}"
    memory = f"{spec.memory_gib:.0f}" if spec.memory_gib else "-"
    tier = str(spec.tier) if spec.in_paper or spec.family == catalogue.DEMO else f"{spec.tier}*"
    return (spec.slug, tier, spec.family, memory, licence, "; ".join(obstacles) or "yes")


def gpu_gib() -> float:
    """Memory of the largest visible GPU in GiB, 0 without one."""
    try:
        import torch
    except ImportError:
        return 0
    count = torch.cuda.device_count()
    return max((torch.cuda.get_device_properties(index).total_memory / 2**30 for index in range(count)), default=0)


def describe_presets(spec: ModelSpec) -> str:
    """Variants, parts and presets of one model, for the help of its script."""
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
