"""Scenes keep their invariants and say what is wrong with data that breaks them."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.demo.scenes import Group, Relation, Scene, random_scene

CUP, BALL, TREE = (Group(kind=kind, colour="red") for kind in ("cup", "ball", "tree"))
ABOVE = Relation(subject="cup", name="above", object="ball")


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from((1, 2, 3)))
def test_random_scenes_survive_json(seed, tier):
    scene = random_scene(Random(seed), tier)
    assert msgspec.json.decode(msgspec.json.encode(scene), type=Scene) == scene
    assert random_scene(Random(seed), tier) == scene


def test_relation_is_found_from_both_sides():
    scene = Scene(groups=(CUP, BALL, TREE), relations=(ABOVE,))
    assert scene.relation("cup", "ball") == ABOVE
    assert scene.relation("ball", "cup") == Relation(subject="ball", name="below", object="cup")
    assert scene.relation("ball", "tree") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "mauve"}, "colour must be one of"),
        ({"colour": ["red"]}, r"Expected `str`, got `array` - at `\$\.groups\[0\]\.colour`"),
        ({"count": 5}, "whole number 1-4"),
        ({"count": True}, "Expected `int`, got `bool`"),
        ({"shape": "round"}, "unknown field `shape`"),
    ],
)
def test_bad_group_in_a_file(change, reason):
    group = {"kind": "cup", "colour": "red", "count": 1}
    assert msgspec.convert({"groups": [group], "relations": [], "setting": "studio"}, Scene).groups == (CUP,)
    with pytest.raises(ValueError, match=reason):
        msgspec.convert({"groups": [group | change], "relations": [], "setting": "studio"}, Scene)


@pytest.mark.parametrize(
    ("groups", "relations", "reason"),
    [
        ((CUP, CUP), (), "different kinds"),
        ((CUP, TREE), (ABOVE,), "does not join two groups"),
        ((CUP, BALL), (ABOVE, ABOVE.inverse()), "one for each later group"),
        ((CUP,), (Relation(subject="cup", name="above", object="cup"),), "does not join"),
    ],
)
def test_bad_scene(groups, relations, reason):
    with pytest.raises(ValueError, match=reason):
        Scene(groups=groups, relations=relations)


@pytest.mark.parametrize("data", [None, [], {"groups": {}, "relations": [], "setting": "studio"}])
def test_other_shapes_are_refused(data):
    with pytest.raises(msgspec.ValidationError, match="Expected"):
        msgspec.convert(data, Scene)
