"""Reward models of Flow-Factory, named by their path in its YAML (docs/rewards/flow-factory.md).

    reward_model: "dyneval.rewards.flow_factory.DynEval"      # or DynEvalGroup: the share of its group that each beats
    judge: "http://gpu-machine:8000"
    score: "t2ia=0.7 iqa=0.3"

Where Flow-Factory is installed they are of its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dyneval.rewards.reward import Reward

try:
    from flow_factory.rewards.abc import GroupwiseRewardModel as _Group
    from flow_factory.rewards.abc import PointwiseRewardModel as _Point
    from flow_factory.rewards.abc import RewardModelOutput
except ModuleNotFoundError:

    class _RewardModel:
        """What is used here of Flow-Factory's base class."""

        def __init__(self, config: Any, accelerator: Any) -> None:
            self.config, self.accelerator = config, accelerator
            self.device = accelerator.device if str(config.device) == "cuda" else config.device
            self.model: Any = None

        def to(self, device: Any) -> Any:
            """Say where a model of its own would go; there is none."""
            self.device = device
            return self

    _Point = _Group = _RewardModel

    @dataclass
    class RewardModelOutput:  # type: ignore[no-redef]
        """Rewards (N,), and further figures."""

        rewards: Any
        extra_info: dict[str, Any] | None = None


class DynEval(_Point):
    """A reward a sample."""

    required_fields = ("prompt", "image")
    use_tensor_inputs = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        """Take `judge` and `score` from the keys of the YAML that Flow-Factory does not know itself.

        Raises:
            SettingError: `score` says no reward.
            UserError: the judge cannot be had.
        """
        super().__init__(config, accelerator)
        self._reward = _reward(config, self.device)

    def __call__(
        self,
        prompt: list[str],
        image: list[Any] | None = None,
        video: Any = None,
        audio: Any = None,
        condition_images: Any = None,
        condition_videos: Any = None,
        **kwargs: Any,
    ) -> RewardModelOutput:
        """Score the images of a batch: rewards float32 (N,).

        Raises:
            ScoringError: a pair cannot be scored.
            ValueError: there are no images, such as of a video, or other numbers of images and prompts.
        """
        return RewardModelOutput(rewards=self._reward.with_info(_images(image), prompt)[0], extra_info={})


class DynEvalGroup(_Group):
    """For all samples of a group: the share of the group that each beats, see `Reward.in_group`."""

    required_fields = ("prompt", "image")
    use_tensor_inputs = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        """As of `DynEval`."""
        super().__init__(config, accelerator)
        self._reward = _reward(config, self.device)

    def __call__(
        self,
        prompt: list[str],
        image: list[Any] | None = None,
        video: Any = None,
        audio: Any = None,
        condition_images: Any = None,
        condition_videos: Any = None,
        **kwargs: Any,
    ) -> RewardModelOutput:
        """Order the images of one group: rewards float32 (group size,), in the order of the images; errors as above."""
        rewards = self._reward.in_group(_images(image), prompt, ["group"] * len(prompt))
        return RewardModelOutput(rewards=rewards, extra_info={})


def _reward(config: Any, device: Any) -> Reward:
    keys = getattr(config, "extra_kwargs", None) or {}
    return Reward(keys.get("judge"), keys.get("score"), device=device)


def _images(image: list[Any] | None) -> list[Any]:
    if image is None:
        raise ValueError("image is None; DynEval scores images, and no videos or sounds")
    return image
