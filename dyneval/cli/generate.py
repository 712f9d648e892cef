"""Step 2: draw images with text-to-image models, see `dyneval.generation.cli`."""

from dyneval.generation.cli import main

__all__ = ["main"]
