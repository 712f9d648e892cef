"""What can go wrong between a prompt and an image, and how a demo model gets a scene wrong.

Alignment faults change the scene that is drawn; quality faults damage the picture of it.
A severity s in (0, 1] is meant on the scale of the scores: what it spoils scores 5 - 4 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import MAX_COUNT, Group, Relation, Scene

Pixels = NDArray[np.uint8]

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
    """One object too many or too few 0.5, two 0.75, more 1."""
    return (0.0, 0.5, 0.75)[abs(asked - drawn)] if abs(asked - drawn) < 3 else 1.0


def colour_severity(asked: str, drawn: str) -> float:
    """A colour that is easily mixed up with the right one 0.75, any other 1."""
    if asked == drawn:
        return 0.0
    return 0.75 if frozenset((asked, drawn)) in words.NEAR_COLOURS else 1.0


# ---------------------------------------------------------------------------
# A demo model's mistakes


def misdraw(asked: Scene, rates: Mapping[str, float], rng: Random) -> tuple[Scene, list[Fault]]:
    """The scene that a model draws instead of `asked`, and its alignment faults.

    `rates` gives the probability of every alignment fault, for each group or relation it can hit. Where nothing
    that was asked is left, the model draws something else.
    """
    faults: list[Fault] = []
    groups = [g for group in asked.groups if (g := _misdraw_group(group, rates, rng, faults))]
    groups = groups or [_other_kind(asked, rng)]
    kinds = {group.kind for group in groups}
    relations = []
    for relation in asked.relations:
        if {relation.subject, relation.object} <= kinds:
            relations.append(_misdraw_relation(relation, rates, rng, faults))
    return Scene(groups=tuple(groups), relations=tuple(relations), setting=asked.setting), faults


def _misdraw_group(group: Group, rates: Mapping[str, float], rng: Random, faults: list[Fault]) -> Group | None:
    if rng.random() < rates["missing_object"]:
        faults.append(Fault(kind="missing_object", severity=1.0, target=group.kind))
        return None
    drawn = group
    if rng.random() < rates["wrong_colour"]:
        colour = rng.choice([c for c in sorted(words.COLOURS) if c != group.colour])
        drawn = replace(drawn, colour=colour)
        _add(faults, "wrong_colour", colour_severity(group.colour, colour), group)
    if rng.random() < rates["wrong_count"]:
        count = _wrong_count(group.count, rng)
        drawn = replace(drawn, count=count)
        _add(faults, "wrong_count", count_severity(group.count, count), group)
    return drawn


def _other_kind(asked: Scene, rng: Random) -> Group:
    kinds = [kind for kind in sorted(words.KINDS) if asked.group(kind) is None]
    return replace(rng.choice(asked.groups), kind=rng.choice(kinds))


def _misdraw_relation(relation: Relation, rates: Mapping[str, float], rng: Random, faults: list[Fault]) -> Relation:
    if rng.random() >= rates["swapped_relation"]:
        return relation
    faults.append(Fault(kind="swapped_relation", severity=1.0, target=relation.subject))
    return relation.inverse()


def _add(faults: list[Fault], kind: str, severity: float, group: Group) -> None:
    faults.append(Fault(kind=kind, severity=severity, target=group.kind))


def _wrong_count(count: int, rng: Random) -> int:
    others = [n for n in range(1, MAX_COUNT + 1) if n != count]
    return rng.choices(others, weights=[4 ** -abs(n - count) for n in others])[0]


def spoil(drawn: Scene, rates: Mapping[str, float], severity: tuple[float, float], rng: Random) -> list[Fault]:
    """Quality faults for a picture of `drawn`.

    `rates` gives the probability of every quality fault, for each group or for the image; severities lie between the
    two of `severity`. A group gets at most one of torn, melted and cut off, and an image at most one seam.
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
    return round(rng.uniform(*severity), 3)


# ---------------------------------------------------------------------------
# Quality faults as damage to pixels, from hardly visible (severity near 0) to ruinous (1)


def melt(icon: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Let an RGBA icon sag and sway like wax; its top and bottom stay in place."""
    pixels = np.asarray(icon)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
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
    """Rip an RGBA icon in two along a ragged line, with a gap between the halves."""
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
        piece = Image.fromarray(half, "RGBA")
        torn.alpha_composite(_moved(piece, *shift))
    return torn


def _moved(image: Image.Image, dx: int, dy: int) -> Image.Image:
    moved = Image.new(image.mode, image.size)
    moved.paste(image, (dx, dy))
    return moved


def seam(image: Image.Image, x: float, severity: float, rng: np.random.Generator) -> Image.Image:
    """Break an RGB image at `x` (0-1): what lies right of it slips up or down and changes its light."""
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
    """Add grain to an RGB image, equally in all channels, and coloured specks."""
    shape = (image.height, image.width)
    grain = rng.standard_normal(shape, np.float32)[..., None] * np.float32(5 + 40 * severity)
    noisy = np.asarray(image) + grain
    specks = rng.random(shape, np.float32) < 0.03 * severity
    noisy[specks] = rng.integers(0, 256, (int(specks.sum()), 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGB")
