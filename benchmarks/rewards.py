"""DynEval as a reward: does a generator that is trained on it get better, and what does a reward cost?

    python benchmarks/rewards.py train --plot benchmarks/rewards.svg    # no GPU, no download
    python benchmarks/rewards.py train --epochs 2 --prompts 2 --group 4 # the short form that the tests run
    python benchmarks/rewards.py speed

`train`: the demo world's worst painter, whose ten fault rates are the parameters, is trained by policy gradient in the
way of flow_grpo: groups of images of one prompt, rewards from `dyneval.rewards.flow_grpo` in its thread pool,
advantages within each group, Adam. The reward is the demo judge's. The true score of a picture, which neither the judge
nor the loop ever sees, is measured beside it, on prompts that are not trained on.

`speed`: rewards a second from a student in this process, from a server, and from a loop of single calls, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from dyneval.demo.faults import ALIGNMENT_FAULTS, QUALITY_FAULTS, Fault, misdraw, spoil
from dyneval.demo.knowledge import make_truth
from dyneval.demo.painters import PAINTERS
from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts, scene_from_prompt
from dyneval.demo.render import render
from dyneval.demo.scenes import Scene
from dyneval.demo.summary import true_scores
from dyneval.demo.weights import PIXELS, write_judge
from dyneval.rewards import Reward, flow_grpo
from dyneval.scorer import Scorer, ScorerSettings

sys.path.insert(0, str(Path(__file__).parent))
from serving import server

SIDE = int(PIXELS**0.5)
FAULTS = (*ALIGNMENT_FAULTS, *QUALITY_FAULTS)
START = PAINTERS["demo-doodler"]
HELD_OUT = 150


class Painted(NamedTuple):
    """An image, its true overall score (1-5), and for each fault how often it happened and how often it could have."""

    image: Image.Image
    truth: float
    happened: list[int]
    chances: list[int]


def paint(prompt: str, rates: dict[str, float], seed: str) -> Painted:
    """Draw what a painter with these fault rates makes of a prompt."""
    rng, asked = Random(seed), scene_from_prompt(prompt)
    drawn, faults = misdraw(asked, rates, rng)
    faults += spoil(drawn, rates, START.severity, rng)
    truth = make_truth(prompt=prompt, model="policy", seed=0, size=SIDE, drawn=drawn, faults=faults)
    chances = count_chances(asked, drawn, faults)
    happened = [sum(fault.kind == kind for fault in faults) for kind in FAULTS]
    return Painted(render(drawn, faults, seed, SIDE), true_scores(truth)["overall"], happened, chances)


def count_chances(asked: Scene, drawn: Scene, faults: Sequence[Fault]) -> list[int]:
    """How often each fault was decided about, as `misdraw` and `spoil` do it one after the other."""
    there = len(asked.groups) - sum(fault.kind == "missing_object" for fault in faults)
    kinds = {group.kind for group in drawn.groups}
    torn, melted = (sum(fault.kind == kind for fault in faults) for kind in ("torn", "melted"))
    groups = len(drawn.groups)
    chances = {
        "missing_object": len(asked.groups),
        "wrong_colour": there,
        "wrong_count": there,
        "swapped_relation": sum({one.subject, one.object} <= kinds for one in asked.relations),
        "torn": groups,
        "melted": groups - torn,
        "cut_off": groups - torn - melted,
        "seam": 1,
        "blur": 1,
        "noise": 1,
    }
    return [chances[kind] for kind in FAULTS]


class Policy:
    """A painter whose fault rates are learnt."""

    def __init__(self) -> None:
        rates = [(START.alignment | START.quality)[kind] for kind in FAULTS]
        self.logits = torch.logit(torch.tensor(rates)).requires_grad_()

    @property
    def rates(self) -> dict[str, float]:
        """The probability of each fault."""
        return dict(zip(FAULTS, torch.sigmoid(self.logits).tolist(), strict=True))

    def log_probability(self, painted: Sequence[Painted]) -> torch.Tensor:
        """Of the decisions behind each picture: shape (pictures,)."""
        happened = torch.tensor([one.happened for one in painted], dtype=torch.float32)
        chances = torch.tensor([one.chances for one in painted], dtype=torch.float32)
        log = torch.nn.functional.logsigmoid
        return (happened * log(self.logits) + (chances - happened) * log(-self.logits)).sum(1)


def as_pipeline(painted: Sequence[Painted]) -> torch.Tensor:
    """Images as a pipeline of diffusers gives them with output_type="pt": (N, 3, H, W), 0-1."""
    return torch.from_numpy(np.stack([np.asarray(p.image) for p in painted])).permute(0, 3, 1, 2).float() / 255


def advantages(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """How far each reward lies from the mean of its group, in the batch's deviation: flow_grpo's global_std."""
    centred = rewards.reshape(-1, group) - rewards.reshape(-1, group).mean(1, keepdim=True)
    return (centred / (centred.std() + 1e-4)).flatten()


def train(reward: Callable[..., Any], arguments: argparse.Namespace) -> list[dict[str, float]]:
    """The loop. Returns a row an epoch: mean reward and true score of its pictures, true score of held-out ones."""
    policy, rng = Policy(), Random(arguments.seed)
    optimiser = torch.optim.Adam([policy.logits], lr=arguments.rate)
    prompts = [text for text in dict.fromkeys(demo_prompts(3000, 2)) if len(text) >= MIN_CHARACTERS]
    held_out, prompts = prompts[:HELD_OUT], prompts[HELD_OUT:]
    before, rows = policy.rates, []
    started, busy = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(8) as pool:
        for epoch in range(arguments.epochs):
            batch = [text for text in rng.sample(prompts, arguments.prompts) for _ in range(arguments.group)]
            painted = [paint(text, policy.rates, f"{epoch} {number}") for number, text in enumerate(batch)]
            future = pool.submit(reward, as_pipeline(painted), batch, [{} for _ in batch])
            seen = [
                paint(text, policy.rates, f"held out {epoch} {number}").truth for number, text in enumerate(held_out)
            ]
            rewards = torch.as_tensor(future.result()[0]).float()
            row = {
                "epoch": epoch,
                "reward": rewards.mean().item(),
                "truth": fmean(one.truth for one in painted),
                "held_out": fmean(seen),
                "error": stdev(seen) / len(seen) ** 0.5,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - busy,
            }
            rows.append(row)
            print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
            loss = -(advantages(rewards, arguments.group) * policy.log_probability(painted)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    table = [[kind.replace("_", " "), before[kind], policy.rates[kind]] for kind in FAULTS]
    print(tabulate(table, ["fault", "rate before", "after"], "github", floatfmt=".2f"))
    return rows


def plot(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the reward and the held-out true score by epoch."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "dyneval"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    panels[0].plot(epochs, [row["reward"] for row in rows], color="#2a5db0")
    panels[0].set(title="reward: the judge's soft score", xlabel="epoch", ylabel="mean, 0-1")
    truth, error = (np.array([row[name] for row in rows]) for name in ("held_out", "error"))
    panels[1].plot(epochs, truth, color="#b0452a")
    panels[1].fill_between(epochs, truth - 1.96 * error, truth + 1.96 * error, color="#b0452a", alpha=0.2, linewidth=0)
    panels[1].set(title="true score, prompts held out", xlabel="epoch", ylabel="mean, 1-5 (95 %)")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def speed(judge: Path, arguments: argparse.Namespace) -> None:
    """Rewards a second, by way of asking; the same images each time, of four to a prompt."""
    texts = [text for text in demo_prompts(200, 3) if len(text) >= MIN_CHARACTERS][: arguments.images // 4]
    batch = [text for text in texts for _ in range(4)]
    rates = Policy().rates
    images = as_pipeline([paint(text, rates, f"{number}") for number, text in enumerate(batch)])
    here = Reward(fast(judge))
    with server(judge, 16, 64, "cpu", ["--mode", "fast"]) as (address, pid):
        there = Reward(address)
        ways: dict[str, Callable[[], list[float]]] = {
            "loop of single calls, in process": lambda: singly(here, images, batch, 1),
            "8 threads of single calls, in process": lambda: singly(here, images, batch, 8),
            "one call, in process": lambda: here(images, batch),
            "loop of single calls, server": lambda: singly(there, images, batch, 1),
            "one call, server": lambda: there(images, batch),
        }
        here(images[:1], batch[:1]), there(images[:1], batch[:1])
        table, found = [], {}
        for way, ask in ways.items():
            started, busy = time.perf_counter(), cpu_seconds(pid)
            found[way] = ask()
            seconds, busy = time.perf_counter() - started, cpu_seconds(pid) - busy
            table.append([way, len(batch), seconds, len(batch) / seconds, busy, len(batch) / busy])
    header = ["way", "rewards", "s", "rewards/s", "CPU s, with the server's", "rewards a CPU second"]
    print(tabulate(table, header, "github", floatfmt=("", "", ".1f", ".2f", ".1f", ".2f")))
    first = np.array(found["one call, in process"])
    print(f"largest difference between ways: {max(abs(np.array(one) - first).max() for one in found.values()):.5f}")


def cpu_seconds(server_pid: int) -> float:
    """CPU time of this process and of the server: what a busy machine leaves alone."""
    fields = Path(f"/proc/{server_pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def singly(reward: Reward, images: torch.Tensor, prompts: Sequence[str], threads: int) -> list[float]:
    """A call an image."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda one: reward([one[0]], [one[1]])[0], zip(images, prompts, strict=True)))


def fast(judge: Path) -> Scorer:
    """The judge without the reasons behind its scores, which no trainer reads."""
    return Scorer.from_pretrained(judge, device="cpu", settings=ScorerSettings(mode="fast", batch_size=16))


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "speed"))
    parser.add_argument("--judge", type=Path, help="the demo judge's checkpoint; default: it is made anew")
    parser.add_argument("--epochs", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--prompts", type=int, default=4, help="an epoch; default: %(default)s")
    parser.add_argument("--group", type=int, default=6, help="images of a prompt; default: %(default)s")
    parser.add_argument("--rate", type=float, default=0.25, help="learning rate; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="train: SVG to write")
    parser.add_argument("--images", type=int, default=64, help="speed: default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        judge = arguments.judge or Path(folder) / "judge"
        if arguments.judge is None:
            write_judge(judge)
        if arguments.what == "speed":
            speed(judge, arguments)
            return 0
        rows = train(flow_grpo("cpu", fast(judge)), arguments)
    if arguments.plot:
        plot(rows, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
