"""Fixtures shared by all rooms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import pytest


class ChatServer(NamedTuple):
    """A running chat server in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    def stats(self) -> dict[str, Any]:
        with urlopen(self.url.removesuffix("/v1") + "/stats", timeout=10) as reply:
            return json.load(reply)


@contextmanager
def running_chat_server(*flags: str) -> Iterator[ChatServer]:
    command = [sys.executable, str(Path(__file__).parent / "llm" / "chat_server.py"), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield ChatServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint folder of the tiny Qwen3-VL (seed 0), the task tokens not registered; treat it as read-only."""
    from dyneval.demo.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    build_tiny_model(folder)
    return folder


@pytest.fixture
def chat_server() -> Iterator[Callable[..., ChatServer]]:
    """Start tests/llm/chat_server.py, as often as called, with the flags given; all are stopped at the end."""
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(running_chat_server(*flags))
