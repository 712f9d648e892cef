"""Trainers' forms of the reward with a server behind them, named by the environment or as an argument."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from dyneval import Client
from dyneval.cli import best as best_verb
from dyneval.rewards import flow_grpo, multi_score, verl_omni

PROMPTS = ["a red circle", "the night", "a red circle", "a dog"]


def test_a_server_is_named_by_its_address(server, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DYNEVAL_JUDGE", server)
    images = torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with Client(server) as client:
        records = client.score(images, PROMPTS)
    expected = pytest.approx([(one.soft["overall"] - 1) / 4 for one in records], abs=1e-3)

    reward = flow_grpo(torch.device("cuda"))  # the trainer's device, which a server does not mind
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: reward(images[n, None], [PROMPTS[n]], [{}])[0].item(), range(4)))
    assert found == expected
    both, _ = multi_score("cuda", {"t2ia": 0.5, "iqa": 0.5}, server)(images.bfloat16(), PROMPTS, [{}] * 4)
    assert both["avg"].shape == (4,)

    async def batch():
        whole = (images * 255).round().to(torch.uint8)
        pairs = zip(whole, PROMPTS, strict=True)
        return await asyncio.gather(
            *(
                verl_omni.compute_score(data_source="", solution_image=image, ground_truth=prompt, judge=server)
                for image, prompt in pairs
            )
        )

    assert [one["score"] for one in asyncio.run(batch())] == expected

    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.fromarray((images[number] * 255).byte().permute(1, 2, 0).numpy()).save(path)
    with Client(server) as client:
        chosen = client.best(paths, "a red circle")
    arguments = [*map(str, paths), "--prompt", "a red circle", "--server", server, "--json"]
    assert best_verb.main(arguments, "dyneval best") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["image"] == chosen.record.image and told["reason"] == chosen.reason
    with pytest.raises(SystemExit):
        best_verb.main([*arguments, "--mode", "fast"], "dyneval best")
