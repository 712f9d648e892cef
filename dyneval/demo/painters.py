"""The demo models: three painters of procedural scenes, one a tier, each with its own faults.

They come into Step 2 as image models like any other, and keep the truth about every image beside it. `PAINTERS` says
how often each fails; the shipped judge and the figures of the demo rest on these rates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from dyneval.demo.faults import ALIGNMENT_FAULTS, QUALITY_FAULTS, misdraw, spoil
from dyneval.demo.knowledge import make_truth
from dyneval.demo.layout import Place
from dyneval.demo.prompts import scene_from_prompt
from dyneval.demo.render import render
from dyneval.demo.truth import Truth, truth_path
from dyneval.generation.model import GeneratedImage, ImageRequest, NoImage, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class PainterProfile:
    """A demo model: its tier and how often and how badly it fails.

    The rates hold on average. Each image has its own luck that scales them from a fifth to almost twice, since with a
    real model, too, mistakes come together.
    """

    slug: str
    tier: int
    alignment: dict[str, float]
    """Alignment fault -> probability for each group or relation."""
    quality: dict[str, float]
    """Quality fault -> probability for each group or for the image."""
    severity: tuple[float, float]
    """Lowest and highest severity of a quality fault."""


PAINTERS: dict[str, PainterProfile] = {
    slug: PainterProfile(
        slug=slug,
        tier=tier,
        alignment=dict(zip(ALIGNMENT_FAULTS, alignment, strict=True)),
        quality=dict(zip(QUALITY_FAULTS, quality, strict=True)),
        severity=severity,
    )
    for slug, tier, alignment, quality, severity in (
        # missing, colour, count, relation; torn, melted, cut off, seam, blur, noise
        ("demo-painter", 1, (0.05, 0.08, 0.1, 0.14), (0.08, 0.1, 0.06, 0.1, 0.35, 0.3), (0.08, 0.55)),
        ("demo-sketcher", 2, (0.15, 0.22, 0.28, 0.35), (0.16, 0.28, 0.14, 0.25, 0.5, 0.45), (0.1, 0.85)),
        ("demo-doodler", 3, (0.3, 0.42, 0.5, 0.6), (0.25, 0.5, 0.2, 0.45, 0.7, 0.65), (0.25, 1.0)),
    )
}
"""The demo models by slug, best first."""


def draw(model_slug: str, prompt: str, seed: int, size: int = 256) -> tuple[Image.Image, Truth]:
    """Draw a prompt as a demo model does.

    Scene and faults depend on (model_slug, prompt, seed) alone; with `size` the same, so does every byte.

    Args:
        model_slug: a key of PAINTERS.
        prompt: a demo prompt.
        seed: another one gives other faults.
        size: pixels a side, 64-1024.

    Returns:
        An RGB image, and the truth about it.

    Raises:
        ValueError: no such model, a prompt outside the demo grammar, or a size out of range.
    """
    image, truth, _ = draw_with_places(model_slug, prompt, seed, size)
    return image, truth


def draw_with_places(
    model_slug: str, prompt: str, seed: int, size: int
) -> tuple[Image.Image, Truth, dict[str, list[Place]]]:
    """Draw as `draw`, and return also the places of the objects of every group, by kind.

    The base of the demo's students is pretrained on where things stand (`pipeline/demo_base/pictures.py`).

    Raises:
        ValueError: as `draw`.
    """
    model = PAINTERS.get(model_slug)
    if model is None:
        raise ValueError(f"no demo model {model_slug!r}; there are {', '.join(PAINTERS)}")
    key = f"{model_slug}\n{seed}\n{prompt}"
    rng = Random(key)
    # One draw for all rates of an image, see PainterProfile. At most 0.95: no fault is certain.
    luck = rng.uniform(0.2, 1.8)
    alignment, quality = (
        {fault: min(0.95, rate * luck) for fault, rate in rates.items()} for rates in (model.alignment, model.quality)
    )
    drawn, faults = misdraw(scene_from_prompt(prompt), alignment, rng)
    faults += spoil(drawn, quality, model.severity, rng)
    truth = make_truth(prompt=prompt, model=model_slug, seed=seed, size=size, drawn=drawn, faults=faults)
    image, places = render(drawn, faults, key, size)
    return image, truth, places


# ---------------------------------------------------------------------------
# As models of Step 2


class DemoModel:
    """Draws a scene from a prompt and keeps the truth about it beside the image."""

    batch_size = 16

    def __init__(self, slug: str, size: int) -> None:
        """Load nothing; `size` is pixels a side."""
        import dyneval

        self.slug = slug
        self.size = size
        self.facts: Mapping[str, Any] = {"revision": None, "versions": {"dyneval": dyneval.__version__}, "dtype": None}

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Draw one request after the other. A prompt that is not a demo prompt is refused for good."""
        for request in batch:
            start = time.perf_counter()
            try:
                image, truth = draw(self.slug, request.prompt, request.seed, size=self.size)
            except ValueError as error:  # the painters read the demo's own prompts only
                yield NoImage(request=request, reason=str(error), permanent=True)
                continue
            beside = truth_path(Path(f"{request.pair_id}.png"))
            yield GeneratedImage(
                request=request,
                image=image,
                prompt_sent=request.prompt,
                seconds=time.perf_counter() - start,
                sidecars={beside.name.removeprefix(request.pair_id): truth.encode()},
            )

    def close(self) -> None:
        """Free nothing."""
