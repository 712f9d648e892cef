"""The server's figures in Prometheus' format, as /metrics shows them.

They are the server's log: uvicorn's log of requests is off, since strangers could fill a disk with it. Every value of a
label comes from a fixed set. A label that a client chose, such as its path, would make a new series for each value and
so fill the memory of the server and of Prometheus.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dyneval.serve.batcher import Batcher

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
# From a small student on a GPU to the default timeout of requests, 120 s.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Telemetry:
    """Counts requests, pairs and batches of one server.

    Attributes:
        registry: all figures, to be written in Prometheus' text format.
        requests: answered requests by path and status.
        request_seconds: from the request to the end of its answer, by path.
        pairs: pairs by what became of them: scored, failed, refused, left, timed_out, not_decoded, broken.
    """

    def __init__(self, batcher: Batcher | None) -> None:
        """Begin to count.

        Args:
            batcher: whose queue and batches are counted, too; None: there is no student, and only requests are.
        """
        # Of its own: Prometheus' common registry would refuse the second server of a process, as tests have.
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("dyneval_requests", "answered requests", ("path", "status"), registry=registry)
        self.request_seconds = Histogram(
            "dyneval_request_seconds", "from request to answer", ("path",), registry=registry, buckets=_SECONDS
        )
        self.pairs = Counter(
            "dyneval_pairs", "pairs by outcome; a request refused unread counts as one", ("outcome",), registry=registry
        )
        if batcher is None:
            return
        batch_pairs = Histogram("dyneval_batch_pairs", "pairs in a batch", registry=registry, buckets=_BATCH_SIZES)
        batch_seconds = Histogram("dyneval_batch_seconds", "to score a batch", registry=registry, buckets=_SECONDS)
        waiting = Gauge("dyneval_queue_pairs", "pairs that wait or are being read", registry=registry)
        waiting.set_function(lambda: batcher.held)
        running = Gauge("dyneval_running_pairs", "pairs being scored", registry=registry)
        running.set_function(lambda: batcher.running)

        def on_batch(pairs: int, seconds: float) -> None:
            batch_pairs.observe(pairs)
            batch_seconds.observe(seconds)

        batcher.on_batch = on_batch
