"""Rewards as functions, in the forms that trainers of image models call; one page each in docs/rewards.

All of them take a judge and the words of a reward as arguments, else from DYNEVAL_JUDGE and DYNEVAL_REWARD. The
trainers look rewards up in tables of their own, pass some arguments by name, and check little of what they get back, so
signatures and shapes here are theirs. A wrong one shows only when the first images are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dyneval.errors import SettingError
from dyneval.rewards.form import RewardForm
from dyneval.rewards.judges import AnyJudge
from dyneval.rewards.reward import Reward

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Scored = tuple["NDArray[np.float32]", dict[str, Any]]
"""Rewards (N,) and further figures; the dict is empty."""


def ddpo(judge: AnyJudge | None = None, score: str | None = None) -> Callable[..., Scored]:
    """Make the reward of ddpo-pytorch, which calls this factory once, without arguments.

    Args:
        judge: see `dyneval.rewards.judges.find_judge`.
        score: see `dyneval.rewards.form.RewardForm.parse`.

    Returns:
        fn(images, prompts, metadata) -> (rewards float32 (N,), {}); images are a tensor (N, 3, H, W) of 0-1, or
        an array (N, H, W, 3) of bytes.
    """
    return Reward(judge, score).with_info


def flow_grpo(device: Any, judge: AnyJudge | None = None, score: str | None = None) -> Callable[..., Scored]:
    """Make the reward of flow_grpo and DiffusionNFT, for the table in their `multi_score`.

    They call a factory with the device if "device" is among its variables (`__code__.co_varnames`), and without
    arguments otherwise. So this has to stay a plain function: a class or a partial has no `__code__`.

    Args:
        device: of the trainer's process; a student in this process computes there.
        judge: see `dyneval.rewards.judges.find_judge`.
        score: see `dyneval.rewards.form.RewardForm.parse`.

    Returns:
        fn(images, prompts, metadata) -> (rewards float32 (N,), {}); images are a tensor (N, 3, H, W) of 0-1, of any
        floating type, on any device.
    """
    reward = Reward(judge, score, device=device)

    # The trainers pass `only_strict` by name, True in training and False in evaluation. It matters to their GenEval
    # reward alone.
    def rewards(images: Any, prompts: Sequence[str], metadata: Any = None, only_strict: bool = True) -> Scored:
        return reward.with_info(images, prompts)

    return rewards


def multi_score(
    device: Any, score_dict: Mapping[str, float], judge: AnyJudge | None = None
) -> Callable[..., tuple[dict[str, NDArray[np.float32]], dict[str, Any]]]:
    """Make several rewards from one scoring, in place of the `multi_score` of flow_grpo and DiffusionNFT.

    Args:
        device: of the trainer's process; a student in this process computes there.
        score_dict: weights by the words of a reward, such as {"t2ia": 0.7, "iqa": 0.3} or {"overall whole": 1.0}.
        judge: see `dyneval.rewards.judges.find_judge`.

    Returns:
        fn(images, prompts, metadata, only_strict=True) -> ({words: float32 (N,), ..., "avg": float32 (N,)}, {}). As
        there, "avg" is the sum of all rewards times their weights, no mean.

    Raises:
        SettingError: there is no reward, or one that these words do not say.
    """
    if not score_dict:
        raise SettingError("score_dict: expected at least one reward, such as {'overall': 1.0}")
    # Read now, so that a wrong word ends the run before it has begun and not after the first batch was drawn.
    forms = [RewardForm.parse(words) for words in score_dict]
    reward = Reward(judge, device=device)

    def rewards(
        images: Any, prompts: Sequence[str], metadata: Any = None, ref_images: Any = None, only_strict: bool = True
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        import numpy as np

        found = dict(zip(score_dict, reward.by_name(images, prompts, forms), strict=True))
        # float32 throughout: flow_grpo gathers over processes without making the numbers of one type.
        summed = sum(np.float32(weight) * found[words] for words, weight in score_dict.items())
        return found | {"avg": np.asarray(summed, np.float32)}, {}

    return rewards


def dance_grpo(device: Any, judge: AnyJudge | None = None, score: str | None = None) -> Callable[..., torch.Tensor]:
    """Make the reward of DanceGRPO, whose sampling loop has one image at a time.

    Args:
        device: where the rewards go; a student in this process computes there.
        judge: see `dyneval.rewards.judges.find_judge`.
        score: see `dyneval.rewards.form.RewardForm.parse`.

    Returns:
        fn(image, prompt) -> rewards float32 (1,) on `device`; the image in any form that `Reward` takes.
    """
    import torch

    reward = Reward(judge, score, device=device)

    def one(image: Any, prompt: str) -> torch.Tensor:
        return torch.tensor(reward([image], [prompt]), dtype=torch.float32, device=device)

    return one
