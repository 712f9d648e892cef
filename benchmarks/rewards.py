"""DynEval as a reward: does a generator that is trained on it get better, and what does a reward cost?

    python benchmarks/rewards.py train --plot benchmarks/rewards.svg    # no GPU, no download
    python benchmarks/rewards.py train --smoke                          # the short form
    python benchmarks/rewards.py speed

`train`: the demo world's worst painter, whose ten fault rates are the parameters, is trained by policy gradient in the
way of flow_grpo: groups of images of one prompt, rewards from `dyneval.rewards.flow_grpo` in its thread pool,
advantages within each group, Adam. The reward is the demo judge's. The true score of a picture, which neither the judge
nor the loop ever sees, is measured beside it, on prompts that are not trained on.

`speed`: rewards a second from a student in this process, from a server, and from a loop of single calls, in one run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import Flags, Results, timed
from PIL import Image
from serving import server

from dyneval.demo.faults import ALIGNMENT_FAULTS, QUALITY_FAULTS, misdraw, spoil
from dyneval.demo.knowledge import make_truth
from dyneval.demo.painters import PAINTERS
from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts, scene_from_prompt
from dyneval.demo.render import render
from dyneval.demo.summary import true_scores
from dyneval.demo.weights import PIXELS, write_judge
from dyneval.rewards import Reward, flow_grpo
from dyneval.scorer import Scorer, ScorerSettings

SIDE = int(PIXELS**0.5)
FAULTS = (*ALIGNMENT_FAULTS, *QUALITY_FAULTS)
START = PAINTERS["demo-doodler"]
RATES = {kind: (START.alignment | START.quality)[kind] for kind in FAULTS}
# Prompts that measure the true score. Their standard error is then 0.04-0.05 on the scale 1-5, a twentieth of the gain.
HELD_OUT = 150


class PolicySample(NamedTuple):
    """An image, its true overall score (1-5), and for each fault how often it happened and how often it could have."""

    image: Image.Image
    truth: float
    happened: list[int]
    chances: list[int]


def paint(prompt: str, rates: dict[str, float], seed: str) -> PolicySample:
    """Draw what a painter with these fault rates makes of a prompt."""
    rng, asked = Random(seed), scene_from_prompt(prompt)
    drawn, faults = misdraw(asked, rates, rng)
    faults += spoil(drawn, rates, START.severity, rng)
    truth = make_truth(prompt=prompt, model="policy", seed=0, size=SIDE, drawn=drawn, faults=faults)
    counts = Counter(fault.kind for fault in faults)
    groups, kinds = len(drawn.groups), {group.kind for group in drawn.groups}
    there = len(asked.groups) - counts["missing_object"]
    # How often each fault was decided about, as `misdraw` and `spoil` do it one after the other. A group that is torn
    # cannot be melted too, and one that is either cannot be cut off.
    chances = {
        "missing_object": len(asked.groups),
        "wrong_colour": there,
        "wrong_count": there,
        "swapped_relation": sum({one.subject, one.object} <= kinds for one in asked.relations),
        "torn": groups,
        "melted": groups - counts["torn"],
        "cut_off": groups - counts["torn"] - counts["melted"],
        "seam": 1,
        "blur": 1,
        "noise": 1,
    }
    lists = [counts[kind] for kind in FAULTS], [chances[kind] for kind in FAULTS]
    return PolicySample(render(drawn, faults, seed, SIDE)[0], true_scores(truth)["overall"], *lists)


def as_pipeline(painted: Sequence[PolicySample]) -> torch.Tensor:
    """Images as a pipeline of diffusers gives them with output_type="pt": (N, 3, H, W), 0-1."""
    return torch.from_numpy(np.stack([np.asarray(p.image) for p in painted])).permute(0, 3, 1, 2).float() / 255


def train(reward: Callable[..., Any], arguments: argparse.Namespace, results: Results) -> None:
    """The loop: a row an epoch, with the mean reward and true score of its pictures, and that of held-out prompts."""
    # The policy: a logit for each fault rate.
    logits, rng = torch.logit(torch.tensor(list(RATES.values()))).requires_grad_(), Random(arguments.seed)
    optimiser = torch.optim.Adam([logits], lr=arguments.rate)
    prompts = [text for text in dict.fromkeys(demo_prompts(3000, 2)) if len(text) >= MIN_CHARACTERS]
    held_out, prompts = prompts[: arguments.held_out], prompts[HELD_OUT:]
    columns = {"epoch": "", "reward": ".3f", "truth": ".3f", "held_out": ".3f", "error": ".3f"}
    results.table(columns | {"seconds": ".1f", "cpu_seconds": ".1f"}, "training")
    with ThreadPoolExecutor(8) as pool:
        for epoch in range(arguments.epochs):
            batch = [text for text in rng.sample(prompts, arguments.prompts) for _ in range(arguments.group)]
            with timed() as usage:
                rates = dict(zip(FAULTS, torch.sigmoid(logits).tolist(), strict=True))
                painted = [paint(text, rates, f"{epoch} {number}") for number, text in enumerate(batch)]
                # As flow_grpo does: the judge scores in a thread while the loop goes on.
                future = pool.submit(reward, as_pipeline(painted), batch, [{} for _ in batch])
                seen = [paint(text, rates, f"held out {epoch} {number}").truth for number, text in enumerate(held_out)]
                rewards = torch.as_tensor(future.result()[0]).float()
            truth, error = fmean(one.truth for one in painted), stdev(seen) / len(seen) ** 0.5
            results.row(epoch, rewards.mean().item(), truth, fmean(seen), error, usage.wall, usage.cpu)
            # How far each reward lies from the mean of its group, in the batch's deviation: flow_grpo's global_std.
            # 1e-4 is its value too, and keeps a batch of equal rewards from dividing by nothing.
            groups = rewards.reshape(-1, arguments.group)
            centred = groups - groups.mean(1, keepdim=True)
            advantages = (centred / (centred.std() + 1e-4)).flatten()
            # Log-probability of the decisions behind each picture: (pictures, faults), summed over the faults.
            happened = torch.tensor([one.happened for one in painted], dtype=torch.float32)
            missed = torch.tensor([one.chances for one in painted], dtype=torch.float32) - happened
            log = torch.nn.functional.logsigmoid
            loss = -(advantages * (happened * log(logits) + missed * log(-logits)).sum(1)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    rows = list(results.rows)
    results.table({"fault": "", "rate before": ".2f", "after": ".2f"}, "fault rates")
    for kind, rate in zip(FAULTS, torch.sigmoid(logits).tolist(), strict=True):
        results.row(kind.replace("_", " "), RATES[kind], rate)
    if arguments.plot:
        plot(rows, arguments.plot)


def plot(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the reward and the held-out true score by epoch."""
    import matplotlib as mpl

    mpl.use("Agg")
    # Without a salt and without a date the same figures make the same file, so that git shows no change.
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


def speed(judge: Path, arguments: argparse.Namespace, results: Results) -> None:
    """Rewards a second, by way of asking; the same images each time, of four to a prompt."""
    texts = [text for text in demo_prompts(200, 3) if len(text) >= MIN_CHARACTERS][: max(1, arguments.images // 4)]
    batch = [text for text in texts for _ in range(4)]
    images = as_pipeline([paint(text, RATES, f"{number}") for number, text in enumerate(batch)])
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
        # The first call of each starts threads and connections.
        here(images[:1], batch[:1]), there(images[:1], batch[:1])
        columns = {"way": "", "rewards": "", "s": ".1f", "rewards/s": ".2f", "CPU s, with the server's": ".1f"}
        results.table(columns | {"rewards a CPU second": ".2f"})
        found = {}
        for way, ask in ways.items():
            busy = cpu_seconds(pid)
            with timed() as usage:
                found[way] = ask()
            busy = cpu_seconds(pid) - busy
            results.row(way, len(batch), usage.wall, len(batch) / usage.wall, busy, len(batch) / busy)
    first = np.array(found["one call, in process"])
    print(f"largest difference between ways: {max(abs(np.array(one) - first).max() for one in found.values()):.5f}")


def cpu_seconds(server_pid: int) -> float:
    """CPU time of this process and of the server: what a busy machine leaves alone."""
    # proc(5): fields 14 and 15 are user and system time. The name before may hold blanks, hence the last bracket.
    fields = Path(f"/proc/{server_pid}/stat").read_text().rpartition(")")[2].split()
    return sum(os.times()[:2]) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def singly(reward: Reward, images: torch.Tensor, prompts: Sequence[str], threads: int) -> list[float]:
    """A call an image."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda one: reward([one[0]], [one[1]])[0], zip(images, prompts, strict=True)))


def fast(judge: Path) -> Scorer:
    """The judge without the reasons behind its scores, which no trainer reads."""
    return Scorer.from_pretrained(judge, device="cpu", settings=ScorerSettings(mode="fast", batch_size=16))


def main() -> None:
    """Train on the demo judge, or measure how fast it gives rewards."""
    flags = Flags(__doc__)
    flags.add_argument("what", choices=("train", "speed"))
    flags.add_argument("--judge", type=Path, help="the demo judge's checkpoint; default: it is made anew")
    flags.add_argument("--epochs", type=int, default=24, smoke=2, help="default: %(default)s")
    flags.add_argument("--prompts", type=int, default=4, smoke=1, help="an epoch; default: %(default)s")
    flags.add_argument("--group", type=int, default=6, smoke=2, help="images of a prompt; default: %(default)s")
    flags.add_argument("--held-out", type=int, default=HELD_OUT, smoke=4, help="prompts; default: %(default)s")
    flags.add_argument("--rate", type=float, default=0.25, help="learning rate; default: %(default)s")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--plot", type=Path, help="train: SVG to write")
    flags.add_argument("--images", type=int, default=64, smoke=4, help="speed: default: %(default)s")
    arguments = flags.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        judge = arguments.judge or Path(folder) / "judge"
        if arguments.judge is None:
            write_judge(judge)
        if arguments.what == "speed":
            speed(judge, arguments, results)
        else:
            train(flow_grpo("cpu", fast(judge)), arguments, results)


if __name__ == "__main__":
    main()
