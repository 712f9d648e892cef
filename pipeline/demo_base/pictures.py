"""Draws the pictures on which the demo's base is pretrained, with labels of what stands where.

Their prompts are none of the demo's, and neither prompt nor picture holds a pair of kind and colour that is kept back
(`dyneval.demo.scenes.kept_back`): the demo claims that its student judges pictures and pairs that it has not seen.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dyneval.demo import vocabulary as words
from dyneval.demo.faults import OBJECT_FAULTS
from dyneval.demo.layout import Place
from dyneval.demo.painters import PAINTERS, draw_with_places
from dyneval.demo.prompts import demo_prompts, write_prompt
from dyneval.demo.scenes import Group, kept_back, random_scene
from dyneval.demo.truth import Truth

SIZE = 128
"""Width and height in pixels: 4 x 4 visual tokens of 32 pixels."""
CELLS = 4
"""Visual tokens along a side."""
KINDS, COLOURS = sorted(words.KINDS), sorted(words.COLOURS)
SETTINGS = [words.STUDIO, *sorted(words.SETTINGS)]
DEMO_SEEDS, DEMO_PROMPTS = range(20), 4000
"""Seeds of the demo, and prompts of each, that are never used here."""


class Pictures(NamedTuple):
    """N pictures and their labels. A token is one of the 4 x 4 cells, row by row, and shows one object or none."""

    pixels: NDArray[np.uint8]
    """(N, 128, 128, 3)."""
    truths: list[Truth]
    kinds: torch.Tensor
    """(N, 16): index into `KINDS` of the object that covers the token most, or `len(KINDS)`."""
    colours: torch.Tensor
    """(N, 16), as `kinds`, of `COLOURS`."""
    centres: torch.Tensor
    """(N, 16): how many objects have their centre in the token."""
    damage: torch.Tensor
    """(N, 16, 4): severities of the `OBJECT_FAULTS` of the token's object, 0 where there is none."""
    whole: torch.Tensor
    """(N, 3): severities of blur, noise and seam."""
    counts: torch.Tensor
    """(N, 20): number of objects of each kind."""
    settings: torch.Tensor
    """(N,): index into `SETTINGS`."""


def held_out(groups: tuple[Group, ...]) -> bool:
    """True when one of the groups has a kind and colour that the base must not see together."""
    return any(kept_back(group) for group in groups)


@cache
def forbidden() -> frozenset[str]:
    """Prompts that the demo may have."""
    return frozenset(prompt for seed in DEMO_SEEDS for prompt in demo_prompts(DEMO_PROMPTS, seed))


def allowed_prompt(rng: Random) -> str:
    """A random prompt that the base may see."""
    while True:
        tier = rng.choice((1, 2, 3))
        scene = random_scene(rng, tier)
        prompt = write_prompt(scene, tier, rng)
        if not held_out(scene.groups) and prompt not in forbidden():
            return prompt


def draw_all(count: int, seed: int) -> Pictures:
    """Let the three demo models draw `count` distinct prompts each.

    Args:
        count: prompts; three pictures each, without those that show a kept-back pair.
        seed: of the prompts and of the order of the pictures.
    """
    rng = Random(f"demo base {seed}")
    chosen: dict[str, None] = {}  # a set whose order does not depend on the process
    while len(chosen) < count:
        chosen[allowed_prompt(rng)] = None
    jobs = [(slug, prompt) for prompt in chosen for slug in PAINTERS]
    # Shuffled, since the last pictures are held out: they should be of all three models and of many prompts.
    Random(seed).shuffle(jobs)
    with ProcessPoolExecutor() as pool:
        drawn = [
            one
            for one in tqdm(
                pool.map(_draw, jobs, chunksize=64), total=len(jobs), desc="draw", unit="picture", mininterval=10
            )
            if one is not None
        ]
    columns = list(zip(*drawn, strict=True))
    pixels, truths = np.stack(columns[0]), list(columns[1])
    tensors = [torch.from_numpy(np.stack(column)) for column in columns[2:]]
    return Pictures(pixels, truths, *tensors)


def _draw(job: tuple[str, str]) -> tuple[NDArray[np.generic] | Truth, ...] | None:
    slug, prompt = job
    image, truth, places = draw_with_places(slug, prompt, seed=0, size=SIZE)
    # A model may draw another colour than it was asked for, and so a kept-back pair.
    if held_out(truth.drawn.groups):
        return None
    severities = {(fault.kind, fault.target): fault.severity for fault in truth.faults}
    whole = [severities.get((kind, None), 0.0) for kind in ("blur", "noise")]
    whole.append(max((s for (kind, _), s in severities.items() if kind == "seam"), default=0.0))
    counts = {group.kind: group.count for group in truth.drawn.groups}
    owner, centres = _owners(places)
    kinds = np.full(CELLS**2, len(KINDS))
    colours = np.full(CELLS**2, len(COLOURS))
    damage = np.zeros((CELLS**2, len(OBJECT_FAULTS)), np.float32)
    for cell, kind in enumerate(owner):
        if kind is not None:
            group = truth.drawn.group(kind)
            assert group is not None
            kinds[cell], colours[cell] = KINDS.index(kind), COLOURS.index(group.colour)
            damage[cell] = [severities.get((fault, kind), 0.0) for fault in OBJECT_FAULTS]
    return (
        np.asarray(image),
        truth,
        kinds,
        colours,
        centres,
        damage,
        np.array(whole, np.float32),
        np.array([counts.get(kind, 0) for kind in KINDS]),
        np.array(SETTINGS.index(truth.drawn.setting)),
    )


def _owners(places: dict[str, list[Place]]) -> tuple[list[str | None], NDArray[np.float32]]:
    """The kind of the object that covers most of each cell, a quarter at least, and the number of centres in it."""
    edges = np.arange(CELLS + 1) / CELLS
    best = np.full(CELLS**2, 0.25)
    owner: list[str | None] = [None] * CELLS**2
    centres = np.zeros(CELLS**2, np.float32)
    for kind, objects in places.items():
        for place in objects:
            column, row = (min(max(int(value * CELLS), 0), CELLS - 1) for value in (place.x, place.y))
            centres[row * CELLS + column] += 1
            # Share of each of the four cells that the object covers, along each of the two axes.
            middle = np.array([[place.x], [place.y]])
            low = np.maximum(edges[:-1], middle - place.side / 2)
            high = np.minimum(edges[1:], middle + place.side / 2)
            across, down = np.maximum(high - low, 0) * CELLS
            covered = np.outer(down, across).ravel()
            for cell in np.flatnonzero(covered > best):
                best[cell], owner[cell] = covered[cell], kind
    return owner, centres
