"""DynEval scores generated images against their prompts: alignment and image quality, each 1-5, higher is better.

    from dyneval import Client

    with Client("http://127.0.0.1:8000") as client:     # `dyneval serve` runs there
        print(client.score(["cat.png"], ["a cat on a bench"])[0].overall)

`Scorer` scores in this process, `Client` and `AsyncClient` by a server, `Metric` averages over many images, `Reward` is
for reinforcement learning. Each name is imported when it is first used, so that `import dyneval` and `dyneval --help`
need neither torch nor a second.
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

_MODULES = {
    "AsyncClient": "dyneval.client",
    "Client": "dyneval.client",
    "Metric": "dyneval.metric",
    "Reward": "dyneval.rewards",
    "Scorer": "dyneval.scorer",
    "ScorerSettings": "dyneval.scorer",
}


def __getattr__(name: str) -> Any:
    """Import the scorer, and torch with it, only when it is asked for."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
