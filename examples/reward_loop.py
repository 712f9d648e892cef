"""Reinforcement learning in small: a policy learns from DynEval's reward which of three image models to use.

    python examples/reward_loop.py

The policy is a softmax over three demo models of different skill. In each round a group of models is drawn from it and
paints one prompt; the advantage of an image is its reward less the group's mean, as in GRPO, and the policy's step is
REINFORCE's. A real run does the same with the weights of one image model; see docs/rewards.
"""

import math
import random
import sys

from dyneval import Reward, Scorer, ScorerSettings
from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import demo_prompts

GROUP, RATE = 4, 4.0


def main(rounds: int = 6) -> dict[str, float]:
    """Print the policy round by round; returns its probabilities by model."""
    reward = Reward(Scorer.from_pretrained("demo", settings=ScorerSettings(mode="fast")))
    dice = random.Random(0)
    weights = dict.fromkeys(PAINTERS, 0.0)
    policy = softmax(weights)
    for number, prompt in enumerate(demo_prompts(rounds, seed=3), 1):
        chosen = dice.choices(list(policy), list(policy.values()), k=GROUP)
        images = [draw(model, prompt, seed=dice.randrange(2**31))[0] for model in chosen]
        rewards = reward(images, [prompt] * GROUP)
        mean = sum(rewards) / GROUP
        for model, got in zip(chosen, rewards, strict=True):
            for other in weights:  # the gradient of log softmax
                weights[other] += RATE / GROUP * (got - mean) * ((other == model) - policy[other])
        policy = softmax(weights)
        shown = ", ".join(f"{model} {share:.2f}" for model, share in policy.items())
        print(f"round {number}: mean reward {mean:.3f}; {shown}")
    return policy


def softmax(weights: dict[str, float]) -> dict[str, float]:
    """Probabilities in proportion to e to the power of each weight."""
    powers = {name: math.exp(weight) for name, weight in weights.items()}
    return {name: power / sum(powers.values()) for name, power in powers.items()}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
