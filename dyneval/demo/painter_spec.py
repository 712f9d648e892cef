"""What the catalogue of image models knows of the demo's.

It stands apart from `painters`, which imports Pillow and numpy: the catalogue makes every spec for each listing.
"""

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
        """Return the demo model of this slug; there is nothing to load."""
        from dyneval.demo.painters import DemoModel

        return DemoModel(self.slug, **self.arguments(options))
