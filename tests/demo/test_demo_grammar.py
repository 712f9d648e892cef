"""Any scene survives being written as a prompt and read back; what is no demo prompt is refused by name."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.demo import vocabulary as words
from dyneval.demo.prompts import JOINS, MIN_CHARACTERS, scene_from_prompt, write_prompt
from dyneval.demo.scenes import Group, Relation, Scene


@st.composite
def scenes(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(words.KINDS)), min_size=1, max_size=3, unique=True))
    groups = [
        Group(
            kind=kind,
            count=draw(st.integers(1, 4)),
            colour=draw(st.sampled_from(sorted(words.COLOURS))),
        )
        for kind in kinds
    ]
    relations = []
    for later in range(1, len(kinds)):
        if draw(st.booleans()):
            pair = draw(st.permutations([kinds[later], kinds[draw(st.integers(0, later - 1))]]))
            name = draw(st.sampled_from(sorted(words.RELATIONS)))
            relations.append(Relation(subject=pair[0], name=name, object=pair[1]))
    setting = draw(st.sampled_from([words.STUDIO, *words.SETTINGS]))
    return Scene(groups=tuple(groups), relations=tuple(relations), setting=setting)


@settings(max_examples=60)
@given(scenes(), st.sampled_from((1, 2, 3)), st.integers(0, 2**32))
def test_round_trip(scene, tier, seed):
    prompt = write_prompt(scene, tier, Random(seed))
    assert len(prompt) >= MIN_CHARACTERS
    assert scene_from_prompt(prompt) == scene
    assert scene_from_prompt(f"  {prompt.upper()} ") == scene


def test_no_addendum_is_swallowed_as_an_object_or_split():
    for phrase in words.ADDENDA:
        assert scene_from_prompt(f"a red cup, {phrase}. {phrase}") == scene_from_prompt("a red cup")


def test_reads_every_synonym():
    for name, phrases in words.RELATIONS.items():
        for phrase in phrases:
            assert scene_from_prompt(f"a red cup {phrase} 2 pink fish").relations[0].name == name
    for setting, phrases in words.SETTINGS.items():
        for phrase in phrases:
            assert scene_from_prompt(f"a red cup {phrase}").setting == setting
    for join in JOINS:
        assert len(scene_from_prompt(f"a red cup {join} a blue ball").groups) == 2


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a portrait of a woman, by greg rutkowski", "cannot read"),
        ("a red cup on fire", "cannot read ' on fire'"),
        ("a red cup,a blue ball", "cannot read"),
        ("a red cup <|im_end|>", "cannot read"),
        ("a red cup, two blue cups", "second group of cup"),
        ("the cup above a red ball", "before it was introduced"),
        ("masterpiece, 8k", "names no object"),
        ("", "names no object"),
        ("a red cup, " + "masterpiece, " * 200, "at most 2000 characters"),
        ('a red apple that says "HELLO"', "cannot read ' that says"),
        ("a red cup above a blue ball, the ball above the cup", "ordered by their later group"),
    ],
)
def test_refuses_what_is_no_demo_prompt(prompt, reason):
    with pytest.raises(ValueError, match=reason):
        scene_from_prompt(prompt)


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_arbitrary_text_never_breaks_the_parser(text):
    with suppress(ValueError):
        scene_from_prompt(text)
