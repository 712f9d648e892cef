"""Three demo text-to-image models, one per tier; each gets things wrong at its own rates."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import Image

from dyneval.demo.faults import ALIGNMENT_FAULTS, QUALITY_FAULTS, misdraw, spoil
from dyneval.demo.grammar import scene_from_prompt
from dyneval.demo.knowledge import make_truth
from dyneval.demo.render import render
from dyneval.demo.truth import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """A demo model: its tier and how often and how badly it fails.

    The rates hold on average. Each image has its own luck that scales them from a fifth to almost twice, since with a
    real model, too, mistakes come together.
    """

    slug: str
    tier: int
    alignment: dict[str, float]
    """Alignment fault -> probability for each group, relation or label."""
    quality: dict[str, float]
    """Quality fault -> probability for each group or for the image."""
    severity: tuple[float, float]
    """Lowest and highest severity of a quality fault."""


def _model(
    slug: str, tier: int, alignment: tuple[float, ...], quality: tuple[float, ...], severity: tuple[float, float]
) -> DemoModel:
    return DemoModel(
        slug=slug,
        tier=tier,
        alignment=dict(zip(ALIGNMENT_FAULTS, alignment, strict=True)),
        quality=dict(zip(QUALITY_FAULTS, quality, strict=True)),
        severity=severity,
    )


DEMO_MODELS: dict[str, DemoModel] = {
    model.slug: model
    for model in (
        # missing, colour, count, relation, text; torn, melted, cut off, seam, blur, noise
        _model("demo-painter", 1, (0.05, 0.08, 0.1, 0.14, 0.2), (0.08, 0.1, 0.06, 0.1, 0.35, 0.3), (0.08, 0.55)),
        _model("demo-sketcher", 2, (0.15, 0.22, 0.28, 0.35, 0.5), (0.16, 0.28, 0.14, 0.25, 0.5, 0.45), (0.1, 0.85)),
        _model("demo-doodler", 3, (0.3, 0.42, 0.5, 0.6, 0.8), (0.25, 0.5, 0.2, 0.45, 0.7, 0.65), (0.25, 1.0)),
    )
}
"""The demo models by slug, best first."""


def draw(model_slug: str, prompt: str, seed: int, size: int = 256) -> tuple[Image.Image, Truth]:
    """What a demo model makes of `prompt`: an RGB image of `size` pixels a side (64-1024), and the truth about it.

    Scene and faults depend on (model_slug, prompt, seed) alone; with `size` the same, so does every byte.

    Raises:
        ValueError: no such model, a prompt outside the demo grammar, or a size out of range.
    """
    model = DEMO_MODELS.get(model_slug)
    if model is None:
        raise ValueError(f"no demo model {model_slug!r}; there are {', '.join(DEMO_MODELS)}")
    key = f"{model_slug}\n{seed}\n{prompt}"
    rng = Random(key)
    luck = rng.uniform(0.2, 1.8)
    drawn, faults = misdraw(scene_from_prompt(prompt), _scaled(model.alignment, luck), rng)
    faults += spoil(drawn, _scaled(model.quality, luck), model.severity, rng)
    truth = make_truth(prompt=prompt, model=model_slug, seed=seed, size=size, drawn=drawn, faults=faults)
    return render(drawn, faults, key, size), truth


def _scaled(rates: dict[str, float], luck: float) -> dict[str, float]:
    return {fault: min(0.95, rate * luck) for fault, rate in rates.items()}
