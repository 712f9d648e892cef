"""DynEval: text-to-image alignment and image quality, each 1-5, through questions made for the very image.

    from dyneval import Scorer
    Scorer.from_pretrained("vcl-iisc/DynEval-Evaluator", subfolder="DynEval-4B").score(images, prompts)

Importing the package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyneval.scorer import Scorer, ScorerSettings

__version__ = "0.1.0"
__all__ = ["Scorer", "ScorerSettings", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the scorer, and torch with it, only when it is asked for."""
    if name in ("Scorer", "ScorerSettings"):
        from dyneval import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
