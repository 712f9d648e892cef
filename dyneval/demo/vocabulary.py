"""Words of the demo world: what can stand in a scene, and how people write about it.

Everything the demo knows is in these tables; the other modules hold no words of their own. A scene stores the
canonical word (the key); prompts may use any of the synonyms listed with it.
"""

from __future__ import annotations

from typing import NamedTuple

RGB = tuple[int, int, int]


class Kind(NamedTuple):
    """One kind of object: its plural, its named parts, main part first, and whether a text label fits on it."""

    plural: str
    parts: tuple[str, str]
    labelled: bool = False


KINDS: dict[str, Kind] = {
    "apple": Kind("apples", ("body", "stem")),
    "ball": Kind("balls", ("body", "stripe")),
    "balloon": Kind("balloons", ("body", "string"), labelled=True),
    "bird": Kind("birds", ("body", "wing")),
    "boat": Kind("boats", ("hull", "sail")),
    "book": Kind("books", ("cover", "spine"), labelled=True),
    "car": Kind("cars", ("body", "front wheel")),
    "cat": Kind("cats", ("body", "tail")),
    "cube": Kind("cubes", ("front face", "top face"), labelled=True),
    "cup": Kind("cups", ("body", "handle"), labelled=True),
    "fish": Kind("fish", ("body", "tail")),
    "flower": Kind("flowers", ("bloom", "stem")),
    "house": Kind("houses", ("wall", "roof")),
    "lamp": Kind("lamps", ("shade", "stand")),
    "mushroom": Kind("mushrooms", ("cap", "stem")),
    "rocket": Kind("rockets", ("body", "tail fin")),
    "sign": Kind("signs", ("board", "post"), labelled=True),
    "star": Kind("stars", ("centre", "upper tip")),
    "tree": Kind("trees", ("crown", "trunk")),
    "umbrella": Kind("umbrellas", ("canopy", "handle")),
}
NOUNS: dict[str, str] = {noun: kind for kind, entry in KINDS.items() for noun in (kind, entry.plural)}
"""Every noun, singular or plural, with the kind it names."""

COLOURS: dict[str, RGB] = {
    "red": (222, 48, 48),
    "orange": (246, 128, 32),
    "yellow": (250, 205, 46),
    "green": (50, 160, 78),
    "blue": (44, 110, 222),
    "purple": (136, 70, 196),
    "pink": (246, 126, 178),
    "brown": (136, 88, 54),
    "white": (244, 244, 240),
    "black": (54, 54, 60),
}
NEAR_COLOURS: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (("red", "orange"), ("orange", "yellow"), ("blue", "purple"), ("purple", "pink"), ("red", "pink"))
)
"""Colours that a viewer may mix up; taking one for the other is the smaller mistake."""

PLAIN = "plain"
MATERIALS: dict[str, str] = {
    "wooden": "wood",
    "metal": "metal",
    "glass": "glass",
    "stone": "stone",
    "knitted": "yarn",
    "mosaic": "mosaic tiles",
}
"""Adjective in a prompt and what the thing is then made of; a group without one is `PLAIN`."""

MEDIUM = "medium"
SIZES: dict[str, tuple[str, ...]] = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge", "giant")}
"""Size and its synonyms; a group without one is `MEDIUM`."""

COUNTS: dict[int, str] = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}

RELATIONS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "on the left of", "left of"),
    "right of": ("to the right of", "on the right of", "right of"),
    "above": ("above", "floating above", "hovering over"),
    "below": ("below", "beneath", "underneath"),
}
INVERSE: dict[str, str] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

STUDIO = "studio"
SETTINGS: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "in a grassy meadow", "on a green meadow in spring"),
    "beach": ("on a beach", "on a sandy beach", "on a sunny beach by the sea"),
    "night": ("at night", "under a starry night sky", "at night under the moon"),
    "snow": ("in the snow", "in a snowy landscape", "in front of snowy mountains"),
    "desert": ("in a desert", "in the desert at sunset", "among desert dunes"),
    "city": ("in a city", "in front of a city skyline", "on a city street"),
    "room": ("in a room", "in a cozy room", "inside a living room"),
    "sea": ("underwater", "under the sea", "at the bottom of the ocean"),
}
"""Setting and how a prompt names it; a scene without one is `STUDIO`."""

SETTING_NAMES: dict[str, str] = {
    "meadow": "a meadow",
    "beach": "a beach",
    "night": "a night scene",
    "snow": "a snowy landscape",
    "desert": "a desert",
    "city": "a city",
    "room": "a room",
    "sea": "an underwater scene",
}

LABELS: tuple[str, ...] = (
    "ART", "BAKERY", "BOOKS", "CAFE", "DREAM", "EXIT", "FREE", "HELLO", "HOME", "HOPE", "JAZZ", "LOVE",
    "MAGIC", "MOON", "NOVA", "OPEN", "PARK", "PEACE", "SALE", "STOP", "TAXI", "TEA", "WOW", "ZOO",
)  # fmt: skip
LABEL_PHRASES: tuple[str, ...] = ("with the text", "with the word", "labeled")


def with_article(noun: str) -> str:
    """`noun` with its indefinite article: "an apple", "a cup"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def noun_for(kind: str, count: int) -> str:
    """The noun for `count` objects of `kind`."""
    return kind if count == 1 else KINDS[kind].plural
