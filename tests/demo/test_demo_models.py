"""The three demo models: reproducible, faulty at their own rates, with the truth told."""

import hashlib
import subprocess
import sys
from statistics import mean

import pytest

from dyneval.demo.faults import QUALITY_FAULTS
from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import demo_prompts, scene_from_prompt

PROMPTS = list(dict.fromkeys(demo_prompts(100, seed=1)))
_HASH = """
import hashlib
from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import demo_prompts
state = hashlib.sha256()
for i, prompt in enumerate(demo_prompts(12, seed=1)):
    image, truth = draw(list(PAINTERS)[i % 3], prompt, i, 96)
    state.update(image.tobytes() + repr(truth).encode())
print(state.hexdigest())
"""


def test_another_process_draws_the_same_bytes():
    state = hashlib.sha256()
    for i, prompt in enumerate(demo_prompts(12, seed=1)):
        image, truth = draw(list(PAINTERS)[i % 3], prompt, i, 96)
        state.update(image.tobytes() + repr(truth).encode())
    command = [sys.executable, "-c", _HASH]
    other = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "5"})
    assert other.stdout.strip() == state.hexdigest()


def test_model_prompt_and_seed_each_matter():
    first, truth = draw("demo-doodler", PROMPTS[0], 1, 64)
    assert (first.mode, first.size) == ("RGB", (64, 64))
    for other in (("demo-sketcher", PROMPTS[0], 1), ("demo-doodler", PROMPTS[1], 1), ("demo-doodler", PROMPTS[0], 2)):
        assert draw(*other, 64)[0].tobytes() != first.tobytes()
    _, larger = draw("demo-doodler", PROMPTS[0], 1, 256)
    assert (larger.drawn, larger.faults, larger.truth_t2ia) == (truth.drawn, truth.faults, truth.truth_t2ia)


def test_models_differ_in_quality_and_scores_use_the_range():
    scores = {}
    for slug in PAINTERS:
        truths = [draw(slug, prompt, 0, 64)[1] for prompt in PROMPTS]
        scores[slug] = [(truth.truth_t2ia, truth.truth_iqa) for truth in truths]
        assert all(truth.asked == scene_from_prompt(truth.prompt) for truth in truths)
    for index in (0, 1):
        means = [mean(pair[index] for pair in scores[slug]) for slug in PAINTERS]
        assert means[0] > means[1] + 0.3 > means[2] + 0.6
        values = [pair[index] for pairs in scores.values() for pair in pairs]
        assert min(values) < 2
        assert max(values) == 5


def test_tiers_and_rates():
    assert [(model.slug, model.tier) for model in PAINTERS.values()] == [
        ("demo-painter", 1),
        ("demo-sketcher", 2),
        ("demo-doodler", 3),
    ]
    for model in PAINTERS.values():
        assert set(model.quality) == set(QUALITY_FAULTS)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="demo-painter, demo-sketcher, demo-doodler"):
        draw("dall-e", PROMPTS[0], 0)
    with pytest.raises(ValueError, match="not a demo prompt"):
        draw("demo-painter", "a photo of a sheep", 0)
