"""DynEval: text-to-image alignment and image quality, each 1-5, through questions made for the very image.

    from dyneval import Scorer
    Scorer.from_pretrained("dyneval-4b").score(images, prompts)

`Client` and `AsyncClient` score by a server, `Metric` averages over many images, `Reward` is for reinforcement
learning. Importing the package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyneval.client import AsyncClient, Client
    from dyneval.metric import Metric
    from dyneval.rewards import Reward
    from dyneval.scorer import Scorer, ScorerSettings

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Metric", "Reward", "Scorer", "ScorerSettings", "__version__"]

_HOMES = {
    "AsyncClient": "dyneval.client",
    "Client": "dyneval.client",
    "Metric": "dyneval.metric",
    "Reward": "dyneval.rewards",
    "Scorer": "dyneval.scorer",
    "ScorerSettings": "dyneval.scorer",
}


def __getattr__(name: str) -> Any:
    """Import the scorer, and torch with it, only when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
