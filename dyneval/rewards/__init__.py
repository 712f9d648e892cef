"""DynEval as a reward for reinforcement learning of text-to-image models, and in the shape of other metrics.

    from dyneval.rewards import Reward
    reward = Reward("demo", "t2ia=0.7 iqa=0.3")        # or "dyneval-4b", a server's address, a Scorer, a Client
    rewards = reward(["cat.png"], ["a cat on a bench"])    # list of floats, 0-1

Every trainer calls its reward in a form of its own. Here is each of these forms, so that users need no code of their
own; docs/rewards has a page for each:

| what is called | trainer |
|---|---|
| flow_grpo, multi_score | flow_grpo, DiffusionNFT |
| ddpo | ddpo-pytorch |
| dance_grpo | DanceGRPO |
| verl_omni.compute_score | verl-omni |
| flow_factory.DynEval | Flow-Factory, and DynEvalGroup for a group at a time |

`evalscope`, `t2v_metrics` and `pyiqa` have the shapes of those libraries' metrics; `dyneval.Metric` is torchmetrics'.
The reward is a number: trainers that need its gradient with respect to the image cannot use it. TRL has had no trainer
of text-to-image models since 0.24; its DDPOTrainer before that takes `Reward.with_info`.
"""

from __future__ import annotations

from dyneval.rewards.form import RewardForm
from dyneval.rewards.reward import QuestionReward, Reward
from dyneval.rewards.trainers import dance_grpo, ddpo, flow_grpo, multi_score

__all__ = ["QuestionReward", "Reward", "RewardForm", "dance_grpo", "ddpo", "flow_grpo", "multi_score"]
