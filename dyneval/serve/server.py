"""A server from its beginning to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn
from PIL import Image

from dyneval.loaded_pairs import Failure, Pair, PassEnded
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher, Report
from dyneval.serve.settings import ServerSettings

if TYPE_CHECKING:
    from dyneval.records import ScoreRecord
    from dyneval.scorer.scorer import Scorer

_MOST_TOGETHER = 32
"""Larger batches make the first one in them wait too long."""
_LAST_WORDS = 5
"""Seconds beyond the timeout of requests that ending may take."""


def _warm_up(scorer: Scorer) -> float:
    """Score one image before anyone waits for it; returns the seconds, which kernels made on the way are part of."""
    image = Image.new("RGB", (512, 512), "grey")
    started = time.monotonic()
    list(scorer.score_pairs([Pair(pair_id="warm-up", prompt="a grey square", image=image, image_name="warm-up")]))
    return time.monotonic() - started


def serve(load: Callable[[], Scorer], settings: ServerSettings, host: str, port: int) -> None:
    """Load a student and serve it until SIGINT or SIGTERM; requests that were taken are answered before it ends.

    Args:
        load: loads the student; its `batch_size` is the most pairs scored together.
        settings: limits, token.
        host: address to listen on.
        port: port; 0 takes a free one, the log says which.

    Raises:
        CheckpointError: there is no student to load.
    """
    scorer = load()

    def judge(pairs: Sequence[Pair], report: Report) -> Iterator[ScoreRecord | Failure]:
        results: dict[int, ScoreRecord | Failure] = {}
        for number, event in scorer.score_stream(pairs):
            if isinstance(event, PassEnded):
                report(pairs[number], event.name, event.found)
            else:
                results[number] = event
        return (results[number] for number in range(len(pairs)))

    batcher = Batcher(
        judge,
        batch_size=min(scorer.most_together, _MOST_TOGETHER),
        queue=settings.queue,
        wait=settings.batch_wait,
        seconds_a_pair=_warm_up(scorer),
        patience=settings.timeout / 2,  # a machine that becomes half as fast still answers in time
    )
    model = {
        "model": scorer.name,
        "revision": scorer.revision,
        "template": scorer.settings.template,
        "settings": scorer.shaping(),
        "demo": scorer.is_demo,
    }
    config = uvicorn.Config(
        create_app(batcher, settings, model),
        host=host,
        port=port,
        access_log=False,  # /metrics counts requests
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.timeout) + _LAST_WORDS,
    )
    with suppress(KeyboardInterrupt):  # raised anew by uvicorn when it has ended in good order
        uvicorn.Server(config).run()
