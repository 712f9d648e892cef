"""The reward of verl-omni, for `reward.custom_reward_function` (docs/rewards/verl-omni.md).

    +reward.reward_functions.dyneval.path=pkg://dyneval.rewards.verl_omni
    +reward.reward_functions.dyneval.name=compute_score
    +reward.reward_functions.dyneval.judge=http://gpu-machine:8000

verl-omni calls the function by keyword, for one image at a time and for all of a batch at once, in the event loop of a
worker. Its manager for several rewards writes 0 in place of an error, unless the reward is `required`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

from dyneval.loaded_pairs import PromptError
from dyneval.rewards.reward import Reward


async def compute_score(
    *,
    data_source: str = "",
    solution_image: Any,
    ground_truth: str | None = None,
    extra_info: Mapping[str, Any] | None = None,
    judge: str | None = None,
    score: str | None = None,
    **others: Any,
) -> dict[str, float]:
    """Score one image.

    Of the images for which a worker calls at once, those that asyncio has threads for, at most 32, are scored together.

    Args:
        data_source: name of the data set; not used.
        solution_image: tensor (3, H, W) of bytes, or of 0-1.
        ground_truth: the prompt.
        extra_info: where ground_truth is empty, its "prompt" or "raw_prompt", a text or a list of chat messages.
        judge: see `dyneval.rewards.judges.find_judge`.
        score: see `dyneval.rewards.form.RewardForm.parse`.
        others: what else verl-omni passes; not used.

    Returns:
        "score", the reward, and all scores that there are, on its scale: they become columns of the log.

    Raises:
        PromptError: there is no prompt.
        ScoringError: the image cannot be scored, such as frames of a video.
    """
    prompt = _prompt(ground_truth, extra_info or {})
    # In a thread: scoring would hold up the event loop, and so would loading a student at the first call.
    return await asyncio.to_thread(_scored, judge, score, solution_image, prompt)


def _scored(judge: str | None, score: str | None, image: Any, prompt: str) -> dict[str, float]:
    reward = _reward(judge, score)
    (record,) = reward.records([image], [prompt])
    assert record is not None, "a reward without `failed` raises"
    return {"score": reward.form.of(record), **reward.form.all_of(record)}


_reward = cache(Reward)
"""The same words, the same reward: verl-omni passes them again with every image."""


def _prompt(ground_truth: str | None, extra_info: Mapping[str, Any]) -> str:
    """Return the prompt, from the first place that has one. Raises PromptError."""
    # Most data has the prompt in `ground_truth`. Other data has it in `extra_info`, as a text, or as the chat that the
    # image model was given, whose last message it then is.
    for said in (ground_truth, extra_info.get("prompt"), extra_info.get("raw_prompt")):
        if isinstance(said, list | tuple) and said and isinstance(said[-1], Mapping):
            said = said[-1].get("content")
        if isinstance(said, str) and said.strip():
            return said
    raise PromptError("ground_truth is empty, and extra_info has no text `prompt` or `raw_prompt`: expected the prompt")
