"""A server from its beginning to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from PIL import Image

from dyneval.errors import SettingError
from dyneval.loaded_pairs import Pair
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher, Judge
from dyneval.serve.connections import Server, listen_on, protocol
from dyneval.serve.ratings import Ratings
from dyneval.serve.settings import ServerSettings

if TYPE_CHECKING:
    from dyneval.scorer.scorer import Scorer

_MOST_TOGETHER = 32
"""Larger batches make the first one in them wait too long."""
_LAST_WORDS = 5
"""Seconds beyond the timeout of requests that ending may take."""


def _warm_up(judge: Judge) -> float:
    """Score one image before anyone waits for it; returns the seconds, which kernels made on the way are part of."""
    image = Image.new("RGB", (512, 512), "grey")
    started = time.monotonic()
    list(judge([Pair(pair_id="warm-up", prompt="a grey square", image=image, image_name="warm-up")]))
    return time.monotonic() - started


def serve(
    load: Callable[[], Scorer] | None, settings: ServerSettings, host: str, port: int, ratings: Ratings | None = None
) -> None:
    """Serve a student, or pairs for people to rate, until SIGINT or SIGTERM; what was taken is answered before it ends.

    Args:
        load: loads the student; its `batch_size` is the most pairs scored together. None: there is none.
        settings: limits, token.
        host: address to listen on.
        port: port; 0 takes a free one, the log says which.
        ratings: what people rate, open.

    Raises:
        CheckpointError: there is no student to load.
        SettingError: that address and port are not to be had.
    """
    try:
        listener = listen_on(host, port)  # a port that is taken is told before a large student is loaded
    except (OSError, UnicodeError) as error:
        raise SettingError(f"--host {host}, --port {port}: cannot listen there ({error})") from error
    batcher, model = _student(load(), settings) if load else (None, {})
    config = uvicorn.Config(
        create_app(batcher, settings, model, ratings),
        host=host,
        port=port,
        http=protocol(),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        access_log=False,  # /metrics counts requests
        server_header=False,
        timeout_keep_alive=75,
    )

    def is_ready() -> bool:
        if batcher and not batcher.warm.is_set():
            return False
        seconds = settings.seconds(batcher.first_pair if batcher else 0)
        if batcher:
            batcher.patience = seconds / 2  # a machine that becomes half as fast still answers in time
        config.timeout_graceful_shutdown = int(seconds) + _LAST_WORDS
        return True

    with suppress(KeyboardInterrupt):  # raised anew by uvicorn when it has ended in good order
        Server(config, listener, is_ready, lambda: bool(batcher and batcher.error)).serve_on_it()
    if batcher and batcher.error is not None:
        raise batcher.error


def _student(scorer: Scorer, settings: ServerSettings) -> tuple[Batcher, dict[str, Any]]:
    """What scores, and what /v1/model says of it."""
    batcher = Batcher(
        scorer.score_stream,
        batch_size=min(scorer.most_together, _MOST_TOGETHER),
        queue=settings.queue,
        wait=settings.batch_wait,
        warm_up=_warm_up,
    )
    model = {
        "model": scorer.name,
        "revision": scorer.revision,
        "template": scorer.settings.template,
        "settings": scorer.shaping(),
        "questions": scorer.questions_digest,
        "demo": scorer.is_demo,
        "untrained": bool(scorer.student.processor.conventions.untrained),
    }
    return batcher, model
