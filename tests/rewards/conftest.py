"""What the tests of rewards share: the tiny random student, by name and as a server, and pictures of two prompts."""

import numpy as np
import pytest

from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings

PROMPTS = ["a red circle", "the night", "a green field", "the night", "a red circle", "the night", "a dog", "the night"]


@pytest.fixture(scope="package")
def scorer(student):
    settings = ScorerSettings(limits=ReplyLimits().capped(2, 8), template="readme", reply_form="readme", batch_size=4)
    return Scorer.from_pretrained(student, device="cpu", settings=settings)


@pytest.fixture(scope="package")
def eight():
    """(8, 48, 64, 3) bytes."""
    return np.random.default_rng(1).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
