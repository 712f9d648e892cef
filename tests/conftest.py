"""Fixtures shared by all rooms."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint folder of the tiny Qwen3-VL (seed 0), the task tokens not registered; treat it as read-only."""
    from dyneval.demo.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    build_tiny_model(folder)
    return folder
