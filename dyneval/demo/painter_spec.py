"""What the catalogue of image models knows of the demo's; light, so that they are listed where nothing can draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dyneval.generation.model import BuildOptions, ModelSpec, RunOptions

if TYPE_CHECKING:
    from dyneval.demo.painters import DemoModel


@dataclass(frozen=True, kw_only=True)
class DemoSpec(ModelSpec):
    """A demo model; `repo` names the module that draws."""

    family: ClassVar[str] = "demo"

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> DemoModel:
        """Nothing to load."""
        from dyneval.demo.painters import DemoModel

        return DemoModel(self.slug, **self.arguments(options))
