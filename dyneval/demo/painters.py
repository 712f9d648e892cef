"""The embedded models: three painters of procedural scenes, one a tier, each with its own faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dyneval.demo.models import draw
from dyneval.demo.truth import truth_path
from dyneval.generation.model import BuildOptions, Made, ModelSpec, NotMade, Outcome, Preset, Request, RunOptions


@dataclass(frozen=True, kw_only=True)
class DemoSpec(ModelSpec):
    """A demo model; `repo` names the module that draws."""

    family: ClassVar[str] = "demo"

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> DemoModel:
        """Nothing to load."""
        return DemoModel(self.slug, **self.arguments(options))


class DemoModel:
    """Draws a scene from a prompt and keeps the truth about it beside the image."""

    batch_size = 16

    def __init__(self, slug: str, size: int) -> None:
        """`size`: pixels a side."""
        import dyneval

        self.slug = slug
        self.size = size
        self.facts: Mapping[str, Any] = {"revision": None, "versions": {"dyneval": dyneval.__version__}, "dtype": None}

    def generate(self, batch: Sequence[Request]) -> Iterator[Outcome]:
        """Draw one request after the other."""
        for request in batch:
            start = time.perf_counter()
            try:
                image, truth = draw(self.slug, request.prompt, request.seed, size=self.size)
            except ValueError as error:  # the painters read the demo's own prompts only
                yield NotMade(request=request, reason=str(error), permanent=True)
                continue
            beside = truth_path(Path(f"{request.pair_id}.png"))
            content = json.dumps(truth.to_dict(), ensure_ascii=False, indent=1).encode("utf-8")
            yield Made(
                request=request,
                image=image,
                prompt_sent=request.prompt,
                seconds=time.perf_counter() - start,
                sidecars={beside.name.removeprefix(request.pair_id): content},
            )

    def close(self) -> None:
        """Nothing to free."""


def _spec(slug: str, name: str, tier: Any) -> DemoSpec:
    return DemoSpec(
        slug=slug,
        name=name,
        tier=tier,
        variants={"256": "dyneval.demo"},
        presets={"recommended": Preset(arguments={"size": 256}, note="procedural scenes with known faults")},
        licence="Apache-2.0",
        batch_size=16,
    )


MODELS: dict[str, DemoSpec] = {
    spec.slug: spec
    for spec in (
        _spec("demo-painter", "Demo painter", 1),
        _spec("demo-sketcher", "Demo sketcher", 2),
        _spec("demo-doodler", "Demo doodler", 3),
    )
}
