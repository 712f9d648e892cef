"""A server from its beginning to its end: port, student, application, and what happens at SIGTERM.

The order matters. The port is taken first, so that a wrong `--port` is told at once and not after a large student was
loaded. The socket listens while the first pair is scored, and the address is told after that, so that a script that
waits for it can score at once. At the end what was taken is answered, within the timeout of requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from PIL import Image

from dyneval.errors import SettingError
from dyneval.loaded_pairs import LoadedPair
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher, ScoreStream
from dyneval.serve.connections import BoundServer, listen_on, protocol
from dyneval.serve.judges import Judges
from dyneval.serve.ratings import Ratings
from dyneval.serve.settings import ServerSettings

_ENDING_SECONDS = 5
"""Seconds beyond the timeout of requests that ending may take."""


def _warm_up(judge: ScoreStream) -> float:
    """Score one image before anyone waits for it; returns the seconds, which compiling the GPU's kernels is part of."""
    image = Image.new("RGB", (512, 512), "grey")
    started = time.monotonic()
    list(judge([LoadedPair(pair_id="warm-up", prompt="a grey square", image=image, image_name="warm-up")]))
    return time.monotonic() - started


def serve(
    load: Callable[[], Judges] | None, settings: ServerSettings, host: str, port: int, ratings: Ratings | None = None
) -> None:
    """Serve a student, or pairs for people to rate, until SIGINT or SIGTERM; what was taken is answered before it ends.

    Args:
        load: loads what scores, see `dyneval.serve.judges`. None: nothing does.
        settings: limits, token.
        host: address to listen on.
        port: port; 0 takes a free one, the log says which.
        ratings: what people rate, open.

    Raises:
        CheckpointError: there is no student to load.
        SettingError: there is no such address or port, or it is taken.
        Exception: what the student raised at the first pair, or the end of the last judge.
    """
    try:
        listener = listen_on(host, port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no DNS could know, such as one of 70 letters
        raise SettingError(f"--host {host}, --port {port}: cannot listen there ({error})") from error
    judges = load() if load else None
    batcher = None
    if judges:
        batcher = Batcher(
            *judges.streams,
            batch_size=judges.most_together,
            queue=settings.queue,
            wait=settings.batch_wait,
            warm_up=_warm_up,
            asks_once=judges.ask_once,
        )
    config = uvicorn.Config(
        create_app(batcher, settings, judges.about if judges else {}, ratings),
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
        # Only now is it known how long a pair takes, and with it the timeout of requests.
        seconds = settings.seconds(batcher.first_pair if batcher else 0)
        if batcher:
            batcher.patience = seconds / 2  # a machine that becomes half as fast still answers in time
        config.timeout_graceful_shutdown = int(seconds) + _ENDING_SECONDS
        return True

    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended in good order
            BoundServer(config, listener, is_ready, lambda: bool(batcher and batcher.error)).run([listener])
    finally:
        if judges:
            judges.close()
    if batcher and batcher.error is not None:
        raise batcher.error
