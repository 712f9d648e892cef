"""Prometheus figures of one server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dyneval.serve.batcher import Batcher

_PAIRS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Telemetry:
    """Counts requests, pairs and batches; label values come from fixed sets, never from clients."""

    def __init__(self, batcher: Batcher | None) -> None:
        """Without a `batcher`, that is without a student, only requests are counted."""
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("dyneval_requests", "answered requests", ("path", "status"), registry=registry)
        self.request_seconds = Histogram(
            "dyneval_request_seconds", "from request to answer", ("path",), registry=registry, buckets=_SECONDS
        )
        self.pairs = Counter(
            "dyneval_pairs", "pairs by outcome; a request refused unread counts as one", ("outcome",), registry=registry
        )
        if batcher is not None:
            _watch(batcher, registry)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


def _watch(batcher: Batcher, registry: CollectorRegistry) -> None:
    batch_pairs = Histogram("dyneval_batch_pairs", "pairs in a batch", registry=registry, buckets=_PAIRS)
    batch_seconds = Histogram("dyneval_batch_seconds", "to score a batch", registry=registry, buckets=_SECONDS)
    waiting = Gauge("dyneval_queue_pairs", "pairs that wait or are being read", registry=registry)
    waiting.set_function(lambda: batcher.held)
    running = Gauge("dyneval_running_pairs", "pairs being scored", registry=registry)
    running.set_function(lambda: batcher.running)

    def on_batch(pairs: int, seconds: float) -> None:
        batch_pairs.observe(pairs)
        batch_seconds.observe(seconds)

    batcher.on_batch = on_batch
