"""Words of the demo world: what can stand in a scene, and how people write about it.

Everything the demo knows is in these tables; the other modules hold no words of their own. A scene stores the
canonical word (the key); prompts may use any of the synonyms listed with it. The shipped students know these words and
no others, so a word that is added here is one that they cannot judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

RGB = tuple[int, int, int]


KINDS: dict[str, str] = {
    "apple": "apples",
    "ball": "balls",
    "balloon": "balloons",
    "bird": "birds",
    "boat": "boats",
    "book": "books",
    "car": "cars",
    "cat": "cats",
    "cube": "cubes",
    "cup": "cups",
    "fish": "fish",
    "flower": "flowers",
    "house": "houses",
    "lamp": "lamps",
    "mushroom": "mushrooms",
    "rocket": "rockets",
    "sign": "signs",
    "star": "stars",
    "tree": "trees",
    "umbrella": "umbrellas",
}
"""Every kind of object and its plural."""
NOUNS: dict[str, str] = {noun: kind for kind, plural in KINDS.items() for noun in (kind, plural)}
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
# Pairs that lie side by side on the colour wheel, or differ in lightness alone.
NEAR_COLOURS: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (("red", "orange"), ("orange", "yellow"), ("blue", "purple"), ("purple", "pink"), ("red", "pink"))
)
"""Colours that a viewer may mix up; taking one for the other is the smaller mistake."""

COUNTS: dict[int, str] = {1: "one", 2: "two", 3: "three", 4: "four"}

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

# Style, quality and camera words: they change no scene, only how long and rich a prompt is. Spaces within "3 d render",
# "award - winning" and the like are as in DiffusionDB, so that Step 1 meets both forms here as well.

MEDIA: tuple[str, ...] = (
    "photo", "photograph", "photorealistic photograph", "macro photo", "polaroid photo", "film still",
    "closeup photograph", "product photo", "painting", "oil painting", "watercolor painting", "digital painting",
    "matte painting", "gouache painting", "drawing", "pencil drawing", "charcoal sketch", "ink drawing",
    "children's book illustration", "flat vector illustration", "isometric illustration", "storybook illustration",
    "3 d render", "3d render", "low poly render", "claymation still", "concept art", "poster", "retro travel poster",
    "pixel art", "paper craft model", "stained glass window", "woodblock print", "comic book panel",
)  # fmt: skip
"""What an image is said to be: "an oil painting of ..."."""

STYLES: tuple[str, ...] = (
    "digital art", "concept art", "fantasy art", "pop art", "art deco", "art nouveau", "bauhaus", "baroque",
    "impressionism", "expressionism", "surrealism", "minimalism", "cubism", "pointillism", "photorealism",
    "synthwave", "vaporwave", "steampunk", "cyberpunk", "solarpunk", "dieselpunk", "gothic", "rococo",
    "anime style", "cartoon style", "comic style", "storybook style", "flat design", "line art", "cel shaded",
    "ukiyo - e", "folk art", "naive art", "in the style of an old master", "in the style of a dutch still life",
    "in the style of a vintage poster", "in the style of a picture book", "by a famous illustrator",
    "by a renaissance painter", "by a japanese printmaker", "by an impressionist master", "studio anime background",
    "dreamlike", "whimsical", "surreal", "ethereal", "nostalgic", "cute", "epic composition", "moody",
)  # fmt: skip
"""Style and artist words without the name of any person."""

QUALITY: tuple[str, ...] = (
    "highly detailed", "ultra detailed", "extremely detailed", "intricate details", "intricate", "sharp focus",
    "masterpiece", "award winning", "award - winning", "trending on artstation", "trending on cgsociety",
    "featured on behance", "4k", "4 k", "8k", "8 k", "8 k resolution", "hd", "uhd", "high quality", "best quality",
    "professional", "stunning", "beautiful", "elegant", "hyperrealistic", "hyper realistic", "ultra realistic",
    "smooth", "crisp", "clean lines", "fine textures", "rich textures", "vivid colors", "vibrant colors",
    "pastel colors", "muted colors", "warm palette", "triadic color scheme", "wallpaper",
)  # fmt: skip
"""Words by which people ask for a better image."""

CAMERA: tuple[str, ...] = (
    "octane render", "unreal engine 5", "unreal engine", "blender cycles", "ray tracing", "global illumination",
    "ambient occlusion", "subsurface scattering", "physically based rendering", "volumetric lighting",
    "volumetric fog", "cinematic lighting", "dramatic lighting", "studio lighting", "soft lighting", "rim lighting",
    "golden hour", "blue hour", "backlit", "god rays", "bokeh", "depth of field", "shallow depth of field",
    "tilt shift", "long exposure", "wide angle", "wide - angle", "fisheye lens", "telephoto lens", "35mm", "3 5 mm",
    "50mm lens", "8 5 mm lens", "f/1.8", "f / 2", "dslr", "kodachrome", "film grain", "hdr", "symmetrical",
    "centered composition", "rule of thirds", "bird's eye view", "low angle shot", "full shot", "imax 7 0 mm",
)  # fmt: skip
"""Rendering, light and camera terms."""

ADDENDA: frozenset[str] = frozenset(STYLES + QUALITY + CAMERA)
"""Every phrase that may stand between commas in a demo prompt without meaning an object."""


def with_article(noun: str) -> str:
    """Return `noun` with its indefinite article: "an apple", "a cup"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def any_of(phrases: Iterable[str]) -> str:
    """Return a regular expression that matches each of the phrases, in a group that is not captured.

    The longest comes first: of "photograph" the expression would else match "photo".
    """
    return "(?:" + "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)) + ")"
