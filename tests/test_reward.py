"""Rewards and metrics, with the tiny student behind them."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dyneval import Metric, Reward
from dyneval.arrays import as_images
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings, ScoringError

PROMPTS = ["a red circle", "the night", "a green field"]


@pytest.fixture(scope="module")
def scorer(student):
    settings = ScorerSettings(limits=ReplyLimits().capped(2, 8), template="readme", reply_form="readme", batch_size=4)
    return Scorer.from_pretrained(student, device="cpu", settings=settings)


@pytest.fixture(scope="module")
def pixels():
    """(3, 48, 64, 3) bytes."""
    return np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def records(scorer, pixels):
    return scorer.score([Image.fromarray(one) for one in pixels], PROMPTS)


def test_all_forms_of_images_are_the_same_images(pixels, tmp_path):
    expected = [Image.fromarray(one).tobytes() for one in pixels]
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for form in (pixels, pixels / 255, tensor, tensor.float() / 255, [*tensor], [*pixels]):
        assert [image.tobytes() for image in as_images(form)] == expected
    (half,) = as_images(tensor[:1].to(torch.bfloat16) / 255)
    assert np.abs(np.asarray(half).astype(int) - pixels[0]).max() <= 1
    (image,) = as_images([Image.fromarray(pixels[0])])
    assert image.tobytes() == expected[0] and as_images([tmp_path]) == [tmp_path]


def test_fractions_out_of_range_are_clamped():
    (image,) = as_images(torch.tensor([-0.5, 0.5, 1.5]).reshape(1, 3, 1, 1))
    assert image.getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 4, 4)), np.zeros((2, 3, 4, 4)), torch.zeros(2, 4, 4, 3), torch.zeros(3, 4, 4)]
)
def test_another_shape_is_refused(wrong):
    with pytest.raises(ValueError, match="has the shape"):
        as_images(wrong)


def test_a_reward_is_the_normalised_score(scorer, pixels, records):
    reward = Reward(scorer)
    assert reward(pixels, PROMPTS) == pytest.approx([(one.soft["overall"] - 1) / 4 for one in records], abs=1e-3)
    hard = Reward(scorer, "iqa", soft=False)(pixels, PROMPTS)
    assert hard == pytest.approx([one.normalised["iqa"] for one in records])
    assert all(isinstance(one, float) and 0 <= one <= 1 for one in hard)


def test_trainers_call_it_in_their_own_ways(scorer, pixels):
    reward = Reward(scorer)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    rewards, info = reward.with_info(tensor, tuple(PROMPTS), [{}] * 3)
    assert rewards.shape == (3,) and info == {}
    named = reward(prompts=PROMPTS, images=pixels, completions=None, trainer_state=None)
    assert named == pytest.approx(rewards.tolist(), abs=1e-3)
    assert reward.__name__ == "dyneval"


def test_a_pair_that_cannot_be_scored_raises_or_has_the_reward_that_was_said(scorer, pixels):
    with pytest.raises(ScoringError, match="prompt is empty"):
        Reward(scorer)(pixels, ["a", "", "b"])
    rewards = Reward(scorer, failed=math.nan)(pixels, ["a", "", "b"])
    assert [math.isnan(one) for one in rewards] == [False, True, False]
    with pytest.raises(ValueError, match="argument"):
        Reward(scorer)(pixels, PROMPTS[:2])


def test_a_metric_is_the_mean_over_all_updates(scorer, pixels, records):
    metric = Metric(scorer)
    with pytest.raises(ValueError, match="call update first"):
        metric.compute()
    metric.update(pixels[:1], PROMPTS[:1])
    metric.update(pixels[1:], PROMPTS[1:])
    found = metric.compute()
    for name in ("t2ia", "iqa", "overall"):
        assert found[name] == pytest.approx(np.mean([getattr(one, name) for one in records]))
    assert found["normalised"] == pytest.approx((found["overall"] - 1) / 4)
    assert (found["pairs"], found["failed"]) == (3, 0)
    metric.reset()
    metric.update(pixels[:1], PROMPTS[:1])
    assert metric.compute()["overall"] == pytest.approx(records[0].overall)


def test_a_metric_counts_what_it_had_to_leave_out(scorer, pixels):
    metric = Metric(scorer, soft=True, strict=False)
    metric.update(pixels, ["a", "", "b"])
    assert (metric.compute()["pairs"], metric.compute()["failed"]) == (2, 1)
    with pytest.raises(ScoringError):
        Metric(scorer).update(pixels, ["a", "", "b"])


def test_where_torchmetrics_is_installed_it_is_one_of_its_metrics(scorer, pixels, records):
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection({"dyneval": Metric(scorer)})
    collection.update(pixels, PROMPTS)
    found = collection.compute()
    assert any("overall" in name for name in found)
    metric = Metric(scorer)
    assert metric(pixels, PROMPTS)["pairs"] == 3
    metric.update(pixels, PROMPTS)
    assert metric.compute()["pairs"] == 6


def test_a_judge_of_one_half_has_no_overall_reward(student, pixels):
    settings = ScorerSettings(
        limits=ReplyLimits().capped(2, 8), template="readme", reply_form="readme", mode="t2ia-only"
    )
    half = Scorer.from_pretrained(student, device="cpu", settings=settings)
    with pytest.raises(ValueError, match="no overall score, only t2ia"):
        Reward(half)(pixels[:1], PROMPTS[:1])
    assert 0 <= Reward(half, "t2ia")(pixels[:1], PROMPTS[:1])[0] <= 1
    metric = Metric(half)
    metric.update(pixels[:1], PROMPTS[:1])
    assert math.isnan(metric.compute()["overall"]) and metric.compute()["t2ia"] >= 1
