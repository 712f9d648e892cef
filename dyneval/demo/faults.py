"""What can go wrong between a prompt and an image, and how a demo model gets a scene wrong.

Alignment faults change the scene that is drawn; quality faults damage the picture of it. A severity s in (0, 1] is
meant on the scale of the scores: what it spoils scores 5 - 4 s. The truth about an image rests on these numbers, so a
fault that does not look as bad as its severity says teaches a student the wrong scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from PIL import Image, ImageFilter

from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import MAX_COUNT, Group, Scene

ALIGNMENT_FAULTS = ("missing_object", "wrong_colour", "wrong_count", "swapped_relation")
OBJECT_FAULTS = ("torn", "melted", "cut_off", "seam")
"""Quality faults of one group; a seam is a cut through the whole image that runs through that group."""
IMAGE_FAULTS = ("blur", "noise")
"""Quality faults of the whole image; their target is None."""
QUALITY_FAULTS = (*OBJECT_FAULTS, *IMAGE_FAULTS)


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: its kind, its severity in (0, 1] and the kind of object it hit, None for the whole image."""

    kind: str
    severity: float
    target: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ALIGNMENT_FAULTS + QUALITY_FAULTS:
            raise ValueError(f"fault must be one of {[*ALIGNMENT_FAULTS, *QUALITY_FAULTS]}, not {self.kind!r}")
        if not 0 < self.severity <= 1:
            raise ValueError(f"severity of {self.kind} must be above 0 and at most 1, not {self.severity!r}")
        if (self.target is None) != (self.kind in IMAGE_FAULTS) or (self.target and self.target not in words.KINDS):
            raise ValueError(f"fault {self.kind} cannot have target {self.target!r}")


# ---------------------------------------------------------------------------
# How far what is drawn is from what was asked, as severities


def count_severity(asked: int, drawn: int) -> float:
    """Return how wrong a number of objects is, 0-1: one too many or too few 0.5, two 0.75, more 1."""
    return (0.0, 0.5, 0.75)[abs(asked - drawn)] if abs(asked - drawn) < 3 else 1.0


def colour_severity(asked: str, drawn: str) -> float:
    """Return how wrong a colour is: 0 for the right one, 0.75 for one that is easily taken for it, 1 for any other."""
    if asked == drawn:
        return 0.0
    return 0.75 if frozenset((asked, drawn)) in words.NEAR_COLOURS else 1.0


# ---------------------------------------------------------------------------
# A demo model's mistakes


def misdraw(asked: Scene, rates: Mapping[str, float], rng: Random) -> tuple[Scene, list[Fault]]:
    """Return the scene that a model draws instead of `asked`, and its alignment faults.

    Args:
        asked: the scene of the prompt.
        rates: probability 0-1 of every alignment fault, for each group or relation that it can hit.
        rng: the same state gives the same faults.
    """
    faults: list[Fault] = []
    groups = [g for group in asked.groups if (g := _misdraw_group(group, rates, rng, faults))]
    if not groups:
        # A model always draws something: where nothing that was asked is left, another kind.
        kinds = [kind for kind in sorted(words.KINDS) if asked.group(kind) is None]
        groups = [replace(rng.choice(asked.groups), kind=rng.choice(kinds))]
    drawn = {group.kind for group in groups}
    relations = []
    for relation in asked.relations:
        if not {relation.subject, relation.object} <= drawn:
            continue
        if rng.random() < rates["swapped_relation"]:
            faults.append(Fault(kind="swapped_relation", severity=1.0, target=relation.subject))
            relation = relation.inverse()
        relations.append(relation)
    return Scene(groups=tuple(groups), relations=tuple(relations), setting=asked.setting), faults


def _misdraw_group(group: Group, rates: Mapping[str, float], rng: Random, faults: list[Fault]) -> Group | None:
    """Return the group that is drawn instead, None for none, and add what is wrong with it to `faults`."""
    if rng.random() < rates["missing_object"]:
        faults.append(Fault(kind="missing_object", severity=1.0, target=group.kind))
        return None
    drawn = group
    if rng.random() < rates["wrong_colour"]:
        colour = rng.choice([c for c in sorted(words.COLOURS) if c != group.colour])
        drawn = replace(drawn, colour=colour)
        faults.append(Fault(kind="wrong_colour", severity=colour_severity(group.colour, colour), target=group.kind))
    if rng.random() < rates["wrong_count"]:
        others = [n for n in range(1, MAX_COUNT + 1) if n != group.count]
        # A near number is the commoner mistake: each step away is four times rarer.
        count = rng.choices(others, weights=[4 ** -abs(n - group.count) for n in others])[0]
        drawn = replace(drawn, count=count)
        faults.append(Fault(kind="wrong_count", severity=count_severity(group.count, count), target=group.kind))
    return drawn


def spoil(drawn: Scene, rates: Mapping[str, float], severity: tuple[float, float], rng: Random) -> list[Fault]:
    """Return quality faults for a picture of `drawn`.

    A group gets at most one of torn, melted and cut off, and an image at most one seam.

    Args:
        drawn: the scene that the picture shows.
        rates: probability 0-1 of every quality fault, for each group or for the image.
        severity: lowest and highest severity, 0-1.
        rng: the same state gives the same faults.
    """
    faults = []
    for group in drawn.groups:
        kind = next((kind for kind in ("torn", "melted", "cut_off") if rng.random() < rates[kind]), None)
        if kind:
            faults.append(Fault(kind=kind, severity=_between(severity, rng), target=group.kind))
    if drawn.groups and rng.random() < rates["seam"]:
        target = rng.choice(drawn.groups).kind
        faults.append(Fault(kind="seam", severity=_between(severity, rng), target=target))
    for kind in IMAGE_FAULTS:
        if rng.random() < rates[kind]:
            faults.append(Fault(kind=kind, severity=_between(severity, rng)))
    return faults


def _between(severity: tuple[float, float], rng: Random) -> float:
    """Return a random severity between the two, with three digits."""
    return round(rng.uniform(*severity), 3)


# ---------------------------------------------------------------------------
# Quality faults as damage to pixels, from hardly visible (severity near 0) to ruinous (1)


def melt(icon: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Let an RGBA icon sag and sway like wax; its top and bottom stay in place.

    Args:
        icon: of any size; it is not changed.
        severity: 0-1; at 1 a pixel comes from up to a quarter of the height away.
        rng: places the waves.

    Returns:
        An RGBA icon of the same size.
    """
    pixels = np.asarray(icon)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    # Every pixel is taken from elsewhere: waves of two lengths in each direction, strongest halfway down.
    belly = np.sin(np.pi * y / height)
    phase = rng.uniform(0, 2 * np.pi, 4)
    drip = np.sin(2 * np.pi * 2.3 * x / width + phase[0]) + 0.6 * np.sin(2 * np.pi * 4.7 * x / width + phase[1])
    sway = np.sin(2 * np.pi * 1.4 * y / height + phase[2]) + 0.5 * np.sin(2 * np.pi * 3.1 * y / height + phase[3])
    source_y = y - severity * height * belly * (0.08 + 0.1 * drip)
    source_x = x - severity * width * 0.085 * belly * sway
    rows = source_y.round().clip(0, height - 1).astype(np.intp)
    columns = source_x.round().clip(0, width - 1).astype(np.intp)
    return Image.fromarray(pixels[rows, columns], "RGBA")


def tear(icon: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Rip an RGBA icon in two along a ragged line, with a gap between the halves.

    Args:
        icon: of any size; it is not changed.
        severity: 0-1; at 1 the halves are a sixth of the width and a tenth of the height apart.
        rng: draws the line, and to which side the halves slip.

    Returns:
        An RGBA icon of the same size; what slips out of it is lost.
    """
    pixels = np.asarray(icon)
    height, width = pixels.shape[:2]
    ragged = np.interp(np.arange(width), np.linspace(0, width, 12), rng.uniform(-0.045, 0.045, 12)) * height
    tilt = rng.uniform(-0.35, 0.35) * (np.arange(width) - width / 2)
    edge = height * rng.uniform(0.42, 0.58) + ragged + tilt
    below = np.arange(height)[:, None] > edge
    upper, lower = pixels.copy(), pixels.copy()
    upper[below], lower[~below] = 0, 0
    dx, dy = round(severity * 0.16 * width * rng.choice((-1, 1))), round((0.015 + severity * 0.09) * height)
    torn = Image.new("RGBA", icon.size)
    for half, shift in ((upper, (-dx // 2, -dy // 2)), (lower, (dx // 2, dy // 2))):
        # Moved by paste, since alpha_composite refuses a place outside of the image.
        moved = Image.new("RGBA", icon.size)
        moved.paste(Image.fromarray(half, "RGBA"), shift)
        torn.alpha_composite(moved)
    return torn


def seam(image: Image.Image, x: float, severity: float, rng: np.random.Generator) -> Image.Image:
    """Break an RGB image along a vertical line: what lies right of it slips up or down and changes its light.

    Args:
        image: a square one.
        x: place of the line as a fraction of the side; it is kept within 0.1-0.9, so that both parts show.
        severity: 0-1; at 1 the right part slips by an eighth of the side.
        rng: decides whether it slips up or down, and whether it is darker or lighter.
    """
    size = image.height
    column = round(min(max(x, 0.1), 0.9) * size)
    slip = round((0.02 + severity * 0.11) * size) * int(rng.choice((-1, 1)))
    right = np.asarray(image)[:, column:]
    rows = (np.arange(size) - slip).clip(0, size - 1)
    light = 1 + severity * rng.choice((-0.24, 0.1))
    broken = np.asarray(image).copy()
    broken[:, column:] = (right[rows].astype(np.float32) * light).clip(0, 255).astype(np.uint8)
    thick = max(1, round(severity * size / 100))
    broken[:, column : column + thick] = broken[:, column : column + thick] // 2
    return Image.fromarray(broken, "RGB")


def blur(image: Image.Image, severity: float) -> Image.Image:
    """Blur an RGB image; at severity 1 small objects can only be guessed."""
    return image.filter(ImageFilter.GaussianBlur((0.35 + 3.4 * severity) * image.height / 256))


def noise(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Add grain to an RGB image, equally in all channels, and coloured specks.

    Args:
        image: of any size.
        severity: 0-1; at 1 the grain has a standard deviation of 45 of 255 levels, and 3 % of the pixels are specks.
        rng: draws the grain and the specks.
    """
    shape = (image.height, image.width)
    grain = rng.standard_normal(shape, np.float32)[..., None] * np.float32(5 + 40 * severity)
    noisy = np.asarray(image) + grain
    specks = rng.random(shape, np.float32) < 0.03 * severity
    noisy[specks] = rng.integers(0, 256, (int(specks.sum()), 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGB")
