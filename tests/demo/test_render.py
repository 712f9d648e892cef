"""Pictures show what the scene says, and every fault can be seen in them, the more the more severe it is."""

from random import Random

import numpy as np
import pytest

from dyneval.demo import vocabulary as words
from dyneval.demo.faults import IMAGE_FAULTS, OBJECT_FAULTS, Fault
from dyneval.demo.render import render
from dyneval.demo.scenes import Group, Scene, random_scene
from dyneval.demo.shapes import icon

SCENE = Scene(groups=(Group(kind="cup", colour="blue"), Group(kind="tree", colour="green", count=3)))


def pixels(scene, faults=(), seed="seed", size=128):
    return np.asarray(render(scene, faults, seed, size)[0], np.int16)


def difference(a, b):
    return float(np.abs(a - b).mean())


def test_same_arguments_same_bytes():
    for seed in range(20):
        scene = random_scene(Random(seed), 1)
        assert np.array_equal(pixels(scene, seed=str(seed)), pixels(scene, seed=str(seed)))
    assert difference(pixels(SCENE), pixels(SCENE, seed="another")) > 1


@pytest.mark.parametrize("kind", OBJECT_FAULTS + IMAGE_FAULTS)
def test_a_fault_shows_and_grows_with_its_severity(kind):
    target = "tree" if kind in OBJECT_FAULTS else None
    seeds = [str(seed) for seed in range(8)]

    def seen(severity):
        fault = Fault(kind=kind, severity=severity, target=target)
        return sum(difference(pixels(SCENE, [fault], seed), pixels(SCENE, (), seed)) for seed in seeds) / len(seeds)

    slight, strong = seen(0.1), seen(1.0)
    assert slight > 0.3
    if kind != "cut_off":  # moved over the edge in either case; how far is a matter of the layout
        assert strong > slight


def test_an_object_fault_leaves_other_objects_alone():
    scene = Scene(groups=(Group(kind="cup", colour="blue"), Group(kind="tree", colour="green")))
    fault = Fault(kind="melted", severity=1.0, target="cup")
    changed = np.abs(pixels(scene, [fault], size=256) - pixels(scene, size=256)).sum(axis=(0, 2)) > 0
    assert not (changed[:100].any() and changed[156:].any())


@pytest.mark.parametrize("kind", words.KINDS)
def test_icons_keep_their_colour(kind):
    found = {}
    for colour, paint in words.COLOURS.items():
        rgba = np.asarray(icon(kind, colour), np.float64)
        assert rgba[0, :, 3].max() < 40, "the sticker must not touch the edge of its square"
        found[colour] = (rgba[..., :3] * (rgba[..., 3:] / 255)).mean(axis=(0, 1)), paint
    for (mean, paint), (other, other_paint) in ((found[a], found[b]) for a in found for b in found if a != b):
        assert np.dot(mean - other, np.subtract(paint, other_paint)) > 0


def test_empty_scene_is_its_backdrop():
    assert render(Scene(groups=(), setting="beach"), (), "seed", 64)[0].size == (64, 64)


@pytest.mark.parametrize("size", [63, 1025, 0])
def test_size_is_bounded(size):
    with pytest.raises(ValueError, match="64-1024"):
        render(SCENE, (), "seed", size)
