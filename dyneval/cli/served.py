"""A server in place of a scorer, for `dyneval score --server URL`.

The loop of `dyneval.scorer.run` asks a scorer for keys before it scores: a pair whose record still holds is not sent.
Here the keys are those that the server's student would give, so a file may be begun by one and ended by the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dyneval.client import Client
from dyneval.records import ScoreRecord
from dyneval.scorer.settings import score_key

if TYPE_CHECKING:
    from dyneval.loaded_pairs import Failure, LoadedPair


class ServedScorer:
    """What `dyneval.scorer.run` asks of a scorer, answered by the student of a server."""

    def __init__(self, url: str) -> None:
        """Ask the server which student it has. Raises ClientError: it cannot be used."""
        self._client = Client(url)
        said = self._client.model()
        self.name = str(said["model"])
        self.revision = said.get("revision")
        # Of a scorer's settings, the loop asks for the template alone.
        self.settings = SimpleNamespace(template=said["template"])
        self.device = self._client.address
        self._score_settings: dict[str, Any] = said["settings"]
        self._questions: str | None = said.get("questions")

    def score_settings(self) -> dict[str, Any]:
        """As `Scorer.score_settings`, of the server's."""
        return self._score_settings

    def key(self, prompt: str, image_hash: str) -> str:
        """As `Scorer.key`, the same as the server's, unless that was given questions.

        Those are only known here by their name, which then stands in the key: other questions make other scores.
        """
        settings = self._score_settings | ({"questions": self._questions} if self._questions else {})
        return score_key(prompt, image_hash, self.revision or self.name, self.settings.template, settings)

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """As `Client.score_pairs`, with keys as of `key`."""
        if self._questions is None:
            yield from self._client.score_pairs(pairs)
            return
        # Results come in the order of the pairs, so each belongs to the first that has none yet.
        sent: deque[LoadedPair] = deque()
        for result in self._client.score_pairs(_noted(pairs, sent)):
            pair = sent.popleft()
            if isinstance(result, ScoreRecord):
                yield replace(result, key=self.key(pair.prompt, pair.image_hash))
            else:
                yield result

    # The server answers in order; the loop takes any.
    score_unordered = score_pairs

    def unused_questions(self, prompts: Iterable[str]) -> list[str]:
        """None: questions are given to a server when it starts."""
        return []


def _noted(pairs: Iterable[LoadedPair], sent: deque[LoadedPair]) -> Iterator[LoadedPair]:
    for pair in pairs:
        sent.append(pair)
        yield pair
