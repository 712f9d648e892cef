"""Janus-Pro and Emu3 draw from tiny weights; each image is sampled from its own seed in any batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper

from dyneval.generation import catalogue
from dyneval.generation.families.transformers import SeededSampling, raster
from dyneval.generation.model import BuildOptions, ImageRequest, RunOptions

from . import tiny_token_models as tiny

REQUESTS = [
    ImageRequest(pair_id="a", prompt_id="a", prompt="a cat on a mat", seed=5, tier=2),
    ImageRequest(pair_id="b", prompt_id="b", prompt="two red dogs and <|image token|> a longer text", seed=6, tier=2),
]
SMALL = {"emu3": {"image_area": (tiny.SIDE * 8) ** 2, "top_k": 8}, "janus-pro": {}}


@pytest.fixture(scope="session")
def repos(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("token-models")
    return {"janus-pro": str(tiny.save_janus(folder)), "emu3": str(tiny.save_emu3(folder))}


def build(slug, repos, **options):
    spec = catalogue.load()[slug]
    return spec.build(BuildOptions(repo=repos[slug], overrides=SMALL[slug], **options), RunOptions(), "cpu")


def pixels(outcome):
    return np.asarray(outcome.image).astype(int)


@pytest.mark.parametrize("slug", ["janus-pro", "emu3"])
def test_images_come_out_and_depend_on_the_seed_not_on_the_batch(slug, repos):
    model = build(slug, repos)
    outcomes = list(model.generate(REQUESTS))
    assert all(pixels(outcome).std() > 0 for outcome in outcomes)
    alone = [next(model.generate([request])) for request in REQUESTS]
    for one, other in zip(outcomes, alone, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 2
    (seeded,) = model.generate([replace(REQUESTS[0], seed=99)])
    assert np.abs(pixels(seeded) - pixels(alone[0])).max() > 2
    assert model.facts["versions"]["transformers"]


def test_emu3_appends_its_suffix_and_the_paper_preset_enlarges(repos):
    (outcome,) = build("emu3", repos, preset="paper").generate(REQUESTS[:1])
    assert outcome.image.size == (1024, 1024)
    assert outcome.prompt_sent == "a cat on a mat masterpiece, film grained, best quality."
    (outcome,) = build("emu3", repos).generate(REQUESTS[:1])
    assert outcome.image.size == (tiny.SIDE * 8, tiny.SIDE * 8)


def test_seeded_sampling_draws_from_the_distribution():
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    picks = SeededSampling(generators)(None, scores).argmax(-1)
    assert torch.bincount(picks, minlength=4) / 4000 == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    picks = SeededSampling(generators)(None, TopKLogitsWarper(2)(None, scores)).argmax(-1)
    assert picks.max() == 1
    cold = SeededSampling(generators)(None, TemperatureLogitsWarper(0.05)(None, scores)).argmax(-1)
    assert (cold == 0).float().mean() > 0.99


def test_rows_are_closed_and_then_the_image():
    start, row_end, rows_end, image_end, text_end = 1, 2, 3, 4, 5
    allowed = raster(2, 3, [7, 8, 9], start, (row_end, rows_end, image_end, text_end))
    written, order = [start, start], []
    for _ in range(12):
        choice = allowed(0, torch.tensor(written))
        order.append("image" if len(choice) == 3 else choice[0])
        written.append(choice[0])
    row = ["image"] * 3 + [row_end]
    assert order == [*row, *row, rows_end, image_end, text_end, text_end]
