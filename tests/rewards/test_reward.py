"""Rewards and metrics, with the tiny student behind them."""

import io
import math

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dyneval import Metric, Reward
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings, ScoringError

PROMPTS = ["a red circle", "the night", "a green field"]


@pytest.fixture(scope="module")
def pixels():
    """(3, 48, 64, 3) bytes."""
    return np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def records(scorer, pixels):
    return scorer.score([Image.fromarray(one) for one in pixels], PROMPTS)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A half-transparent picture that lies on its side, as a file."""
    ink = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    ink.putalpha(Image.linear_gradient("L").resize((64, 48)))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    ink.save(path, exif=exif)
    return path


def test_one_picture_has_one_score_in_every_form(scorer, photo):
    content = photo.read_bytes()
    upright = ImageOps.exif_transpose(Image.open(photo))
    array = np.asarray(upright)
    white = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    tensor = torch.from_numpy(np.asarray(white).copy()).permute(2, 0, 1).float() / 255
    forms = [photo, str(photo), content, io.BytesIO(content), {"bytes": content, "path": None}, Image.open(photo)]
    forms += [array, array / 255, tensor]
    first, *others = scorer.score(forms, ["a red circle"] * len(forms))
    names = ("t2ia", "iqa", "overall", "soft", "t2ia_questions", "iqa_questions", "scene_graph")
    for other in others:
        assert [getattr(first, name) for name in names] == [getattr(other, name) for name in names]
    assert first.image == str(photo) and first.key == others[1].key
    assert Reward(scorer)(forms[-2:], ["a red circle"] * 2) == Reward(scorer)(forms[:2], ["a red circle"] * 2)


def test_what_the_decoder_gives_is_refused_unless_its_range_is_said(scorer, pixels, records):
    decoded = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    for door in (Reward(scorer), Metric(scorer).update, scorer.score):
        with pytest.raises(
            ScoringError, match=r"3 pair.*image-1: values from -1 to 0.992.* value_range.* such as \(-1, 1\)"
        ):
            door(decoded, PROMPTS)
    expected = [(one.soft["overall"] - 1) / 4 for one in records]
    assert Reward(scorer, value_range=(-1, 1))(decoded, PROMPTS) == pytest.approx(expected, abs=1e-3)
    assert [one.overall for one in scorer.score(decoded, PROMPTS, value_range=(-1, 1))] == [
        one.overall for one in records
    ]
    metric = Metric(scorer, value_range=(-1, 1))
    metric.update(decoded, PROMPTS)
    assert metric.compute()["overall"] == pytest.approx(np.mean([one.overall for one in records]))
    with pytest.raises(ValueError, match=r"value_range: found \(1, 1\)"):
        scorer.score(decoded, PROMPTS, value_range=(1, 1))


def test_no_list_of_images_or_prompts_is_refused_as_such(scorer, pixels, photo):
    for door in (Reward(scorer, failed=0.0), Metric(scorer, strict=False).update, scorer.score):
        with pytest.raises(ValueError, match=r"prompts: found 'birds', expected a list"):
            door([photo] * 5, "birds")
        with pytest.raises(ValueError, match=r"images: found '.*photo\.png', expected a list"):
            door(str(photo), ["a"])
        with pytest.raises(ValueError, match=r"images has the shape \(48, 64, 3\)"):
            door(pixels[0], ["a"] * 48)
        with pytest.raises(ValueError, match="images: 3, prompts: 2"):
            door(pixels, PROMPTS[:2])


def test_a_reward_is_the_normalised_score(scorer, pixels, records):
    reward = Reward(scorer)
    assert reward(pixels, PROMPTS) == pytest.approx([(one.soft["overall"] - 1) / 4 for one in records], abs=1e-3)
    hard = Reward(scorer, "iqa whole")(pixels, PROMPTS)
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
    with pytest.raises(ValueError, match="images: 3, prompts: 2"):
        Reward(scorer)(pixels, PROMPTS[:2])


def test_an_image_or_a_prompt_that_cannot_be_used_is_one_failure_everywhere(scorer, pixels, photo, tmp_path, caplog):
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:200])
    broken = np.full((8, 8, 3), math.nan)
    images = [photo, cut, tmp_path / "gone.png", Image.open(cut), None, broken, photo, photo, photo]
    prompts = [*["a cat"] * 6, "half an emoji \ud83d", None, np.str_("a cat")]
    rewards = Reward(scorer, failed=math.nan)(images, prompts)
    assert [math.isnan(one) for one in rewards] == [False, *[True] * 7, False]
    assert rewards[0] == rewards[8]
    assert "7 of 9 pairs could not be scored: pair-2:" in caplog.text and "cut.png: the image is broken" in caplog.text
    metric = Metric(scorer, strict=False)
    metric.update(images, prompts)
    assert (metric.compute()["pairs"], metric.compute()["failed"]) == (2, 7)
    reasons = ["broken or truncated", "gone.png: no such", "broken", "NoneType", "NaN", "surrogate", "expected a text"]
    for door in (Reward(scorer), Metric(scorer).update, scorer.score):
        with pytest.raises(ScoringError) as caught:
            door(images, prompts)
        assert [failure.pair_id for failure in caught.value.failures] == [f"pair-{n}" for n in range(2, 9)]
        for failure, reason in zip(caught.value.failures, reasons, strict=True):
            assert reason in failure.reason


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


class Hard:
    """A judge whose records have no soft scores, as other programs write them."""

    def __init__(self, scorer):
        self.scorer = scorer

    def score_pairs(self, pairs):
        return (msgspec.structs.replace(one, soft=None) for one in self.scorer.score_pairs(pairs))


def test_whole_scores_do_not_stand_in_for_soft_ones(scorer, pixels, records):
    judge = Hard(scorer)
    with pytest.raises(ValueError, match="gives no soft scores; take the whole ones"):
        Reward(judge)(pixels, PROMPTS)
    with pytest.raises(ValueError, match="gives no soft scores"):
        Metric(judge, soft=True).update(pixels, PROMPTS)
    assert Reward(judge, "whole")(pixels, PROMPTS) == [one.normalised["overall"] for one in records]
