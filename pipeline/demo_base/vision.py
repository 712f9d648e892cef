"""First part of the pretraining of the demo's base: the vision tower learns what stands where, and what is damaged.

Linear heads predict the labels of `pictures.Pictures` from every visual token and from the mean of all; they are thrown
away afterwards. A label for each token teaches a tower of 1 M parameters in minutes what labels of whole pictures would
not: which of three groups is the torn one.
"""

from __future__ import annotations

import math
import time

import torch
from pictures import CELLS, COLOURS, KINDS, SETTINGS, Pictures
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from dyneval.demo.faults import OBJECT_FAULTS

BATCH = 64
# Time, height and width in patches: a visual token is 2 x 2 patches of 16 pixels.
GRID = [1, 2 * CELLS, 2 * CELLS]
PATCH = 16


def look(visual: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Features (B, 16, width) of pictures (B, 128, 128, 3): those of the tower's end, then of each deepstack layer."""
    # The rows that the image processor makes of pictures, (B * 64, 1536), computed here for whole batches.
    scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    blocks = scaled.reshape(len(pixels), 3, CELLS, 2, PATCH, CELLS, 2, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    # Twice the same in time: a picture is a video of two equal frames.
    patches = blocks.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * PATCH**2)
    grid = torch.tensor([GRID]).repeat(len(pixels), 1)
    with torch.autocast("cpu", torch.bfloat16):
        seen = visual(patches, grid_thw=grid)
    return [one.reshape(len(pixels), CELLS**2, -1) for one in (seen.pooler_output, *seen.deepstack_features)]


class Heads(nn.Module):
    """Linear heads on the tokens of one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds, self.colours = nn.Linear(width, len(KINDS) + 1), nn.Linear(width, len(COLOURS) + 1)
        self.centres, self.damage = nn.Linear(width, 1), nn.Linear(width, len(OBJECT_FAULTS))
        self.whole, self.settings = nn.Linear(width, 3), nn.Linear(width, len(SETTINGS))
        self.counts = nn.Linear(width, len(KINDS))

    def loss(self, tokens: Tensor, pictures: Pictures, index: Tensor) -> Tensor:
        """Loss of all heads for the pictures at `index` (B,), whose features are `tokens` (B, 16, width)."""
        # Damage counts only where a token shows an object; elsewhere its label 0 says nothing.
        mean = tokens.mean(1)
        kinds, colours = pictures.kinds[index].flatten(), pictures.colours[index].flatten()
        there = (pictures.kinds[index] < len(KINDS)).unsqueeze(-1).float()
        damage = (self.damage(tokens) - pictures.damage[index]) ** 2 * there
        return (
            cross_entropy(self.kinds(tokens).flatten(0, 1), kinds)
            + cross_entropy(self.colours(tokens).flatten(0, 1), colours)
            + mse_loss(self.centres(tokens).squeeze(-1), pictures.centres[index])
            # Severities have a variance near 0.05: the factors bring them to the size of the other terms.
            + 10 * damage.sum() / there.sum().clamp(min=1) / len(OBJECT_FAULTS)
            + 10 * mse_loss(self.whole(mean), pictures.whole[index])
            + 0.3 * cross_entropy(self.settings(mean), pictures.settings[index])
            + 2 * mse_loss(self.counts(mean), pictures.counts[index].float())
        )


def train(visual: nn.Module, pictures: Pictures, steps: int, heldout: int, learning_rate: float = 2e-3) -> None:
    """Train the tower in place; progress is printed.

    Args:
        visual: the vision tower of a Qwen3-VL.
        pictures: with their labels.
        steps: batches of `BATCH` pictures.
        heldout: the last so many pictures are kept for the figures that are printed.
        learning_rate: the highest, after 5 % of the steps.
    """
    width = visual.config.out_hidden_size
    layers = 1 + len(visual.config.deepstack_visual_indexes)
    heads = nn.ModuleList([Heads(width) for _ in range(layers)])
    parameters = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.05)
    pixels = torch.from_numpy(pictures.pixels)
    started = time.monotonic()
    for step in range(1, steps + 1):
        index = torch.randint(len(pixels) - heldout, (BATCH,))
        seen = look(visual, pixels[index])
        losses = [head.loss(tokens.float(), pictures, index) for head, tokens in zip(heads, seen, strict=True)]
        # The language model reads the last layer most; the deepstack layers should be readable, too.
        loss = losses[0] + 0.3 * sum(losses[1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps:
            passed = time.monotonic() - started
            left = passed / step * (steps - step)
            print(
                f"vision {step}/{steps}, loss {loss.item():.3f}, {report(visual, heads[0], pictures, heldout)}, "
                f"{passed:.0f} s, {left:.0f} s left",
                flush=True,
            )


@torch.no_grad()
def report(visual: nn.Module, heads: Heads, pictures: Pictures, heldout: int) -> str:
    """Measure how well the heads read the held-out pictures.

    Returns:
        Shares of right kinds, colours, settings and numbers, then the correlation of each damage.
    """
    index = torch.arange(len(pictures.pixels) - heldout, len(pictures.pixels))
    pixels = torch.from_numpy(pictures.pixels[-heldout:])
    tokens = torch.cat([look(visual, part)[0].float() for part in pixels.split(BATCH)])
    kinds, colours = pictures.kinds[index], pictures.colours[index]
    there = kinds < len(KINDS)
    mean = tokens.mean(1)
    right = {
        "kind": (heads.kinds(tokens).argmax(-1) == kinds)[there],
        "colour": (heads.colours(tokens).argmax(-1) == colours)[there],
        "setting": heads.settings(mean).argmax(-1) == pictures.settings[index],
        "number": (heads.counts(mean).round() == pictures.counts[index])[pictures.counts[index] > 0],
    }
    said = {name: math.nan for name in ("torn", "melted", "cut off", "seam", "blur", "noise")}
    damage = heads.damage(tokens)
    for position, name in enumerate(("torn", "melted", "cut off")):
        said[name] = float(correlation(damage[..., position][there], pictures.damage[index][..., position][there]))
    for position, name in enumerate(("blur", "noise", "seam")):
        said[name] = float(correlation(heads.whole(mean)[:, position], pictures.whole[index][:, position]))
    shares = " ".join(f"{name} {value.float().mean():.2f}" for name, value in right.items())
    return f"{shares} | " + " ".join(f"{name} {value:.2f}" for name, value in said.items())


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of two tensors (N,)."""
    return torch.corrcoef(torch.stack([one, other]))[0, 1]
