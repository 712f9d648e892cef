"""DynEval as a reward for reinforcement learning of text-to-image models, and in the shape of other metrics.

    reward = Reward("http://gpu-machine:8000", "t2ia=0.7 iqa=0.3")       # or a Scorer, a Client, a student's name
    rewards = reward(images, prompts)                                    # list of floats, 0-1

For trainers, each in its own form and each with a page in docs/rewards:

    flow_grpo, multi_score      flow_grpo, DiffusionNFT
    ddpo                        ddpo-pytorch
    dance_grpo                  DanceGRPO
    verl_omni.compute_score     verl-omni
    flow_factory.DynEval        Flow-Factory, and DynEvalGroup for a group at a time

`evalscope`, `t2v_metrics` and `pyiqa` have the shapes of those libraries' metrics; `dyneval.Metric` is torchmetrics'.
The reward is a number: trainers that need its gradient with respect to the image cannot use it. TRL has had no trainer
of text-to-image models since 0.24; its DDPOTrainer before that takes `Reward.with_info`.
"""

from __future__ import annotations

from dyneval.rewards.form import RewardForm
from dyneval.rewards.reward import QuestionReward, Reward
from dyneval.rewards.trainers import dance_grpo, ddpo, flow_grpo, multi_score

__all__ = ["QuestionReward", "Reward", "RewardForm", "dance_grpo", "ddpo", "flow_grpo", "multi_score"]
