"""Reward models of Flow-Factory, named by their path in its YAML (docs/rewards/flow-factory.md).

    reward_model: "dyneval.rewards.flow_factory.DynEval"      # or DynEvalGroup: the share of its group that each beats
    judge: "http://gpu-machine:8000"
    score: "t2ia=0.7 iqa=0.3"

Where Flow-Factory is installed they are of its classes, which it checks; else of a stand-in, so that they can be
imported and tested without it. The class names stand in users' YAML files, so they stay.
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
            # "cuda" in the YAML means the GPU of this process.
            self.device = accelerator.device if str(config.device) == "cuda" else config.device
            self.model: Any = None

        def to(self, device: Any) -> Any:
            """Say where a model of its own would go; there is none."""
            self.device = device
            return self

    class _Point(_RewardModel):  # type: ignore[no-redef]
        """Base of rewards that judge each sample by itself."""

    class _Group(_RewardModel):  # type: ignore[no-redef]
        """Base of rewards that judge all samples of a group together."""

    @dataclass
    class RewardModelOutput:  # type: ignore[no-redef]
        """Rewards (N,), and further figures."""

        rewards: Any
        extra_info: dict[str, Any] | None = None


class _JudgedImages:
    """What both reward models have in common; it stands in front of Flow-Factory's class among their bases.

    Attributes:
        required_fields: what Flow-Factory passes of each sample.
        use_tensor_inputs: False: images come as open images and not as tensors.
        compares: whether the reward is the share of its group that an image beats, see `Reward.in_group`.
    """

    required_fields = ("prompt", "image")
    use_tensor_inputs = False
    compares = False
    device: Any

    def __init__(self, config: Any, accelerator: Any) -> None:
        """Get ready.

        Args:
            config: `judge` and `score` are keys of the YAML that Flow-Factory does not know itself, and so passes on
                as `extra_kwargs`; see `dyneval.rewards.judges.find_judge` and `dyneval.rewards.form.RewardForm.parse`.
            accelerator: of accelerate; its device is where a student in this process computes.

        Raises:
            SettingError: `score` says no reward.
            UserError: the judge cannot be loaded, or its address is wrong.
        """
        super().__init__(config, accelerator)  # type: ignore[call-arg]
        keys = getattr(config, "extra_kwargs", None) or {}
        self._reward = Reward(keys.get("judge"), keys.get("score"), device=self.device)

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
        """Score the N images of a batch, or of one group.

        Args:
            prompt: N prompts.
            image: N open images.
            video: not used, as all that follow.
            audio: not used.
            condition_images: not used.
            condition_videos: not used.
            kwargs: not used.

        Returns:
            Rewards float32 (N,), in the order of the images.

        Raises:
            ScoringError: a pair cannot be scored.
            ValueError: there are no images, such as of a video, or other numbers of images and prompts.
        """
        if image is None:
            raise ValueError("image is None; DynEval scores images, and no videos or sounds")
        if self.compares:
            # Flow-Factory calls once a group, so all of them are one, whatever their prompts.
            rewards = self._reward.in_group(image, prompt, ["group"] * len(prompt))
        else:
            rewards, _ = self._reward.with_info(image, prompt)
        return RewardModelOutput(rewards=rewards, extra_info={})


class DynEval(_JudgedImages, _Point):
    """A reward a sample."""


class DynEvalGroup(_JudgedImages, _Group):
    """For all samples of a group: the share of the group that each beats."""

    compares = True
