"""A server in place of a scorer, for `dyneval score --server URL`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dyneval.client import Client
from dyneval.scorer.settings import score_key

if TYPE_CHECKING:
    from dyneval.loaded_pairs import Failure, Pair
    from dyneval.records import ScoreRecord


class ServedScorer:
    """What `dyneval.scorer.run` asks of a scorer, answered by the student of a server."""

    def __init__(self, url: str) -> None:
        """Ask the server which student it has. Raises ClientError: it cannot be used."""
        self._client = Client(url)
        said = self._client.model()
        self.name = str(said["model"])
        self.revision = said.get("revision")
        self.settings = SimpleNamespace(template=said["template"])
        self._shaping: dict[str, Any] = said["settings"]
        self.device = self._client.address

    def shaping(self) -> dict[str, Any]:
        """As `Scorer.shaping`, of the server's."""
        return self._shaping

    def key(self, prompt: str, image_hash: str) -> str:
        """As `Scorer.key`; the server gives the same to the same file."""
        return score_key(prompt, image_hash, self.revision or self.name, self.settings.template, self._shaping)

    def score_pairs(self, pairs: Iterable[Pair]) -> Iterator[ScoreRecord | Failure]:
        """As `Client.score_pairs`."""
        return self._client.score_pairs(pairs)

    score_unordered = score_pairs

    def unused_questions(self, prompts: Iterable[str]) -> list[str]:
        """None: questions are given to a server when it starts."""
        return []
