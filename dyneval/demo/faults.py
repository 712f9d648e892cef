"""What can go wrong between a prompt and an image, and how a demo model gets a scene wrong.

Alignment faults change the scene that is drawn; quality faults damage the picture of it (`dyneval.demo.damage`).
A severity s in (0, 1] is meant on the scale of the scores: what it spoils scores 5 - 4 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from random import Random
from typing import Any

from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import MAX_COUNT, Group, Relation, Scene, check_keys
from dyneval.structs import Row

ALIGNMENT_FAULTS = ("missing_object", "wrong_colour", "wrong_count", "swapped_relation", "wrong_text")
OBJECT_FAULTS = ("torn", "melted", "cut_off", "seam")
"""Quality faults of one group; a seam is a cut through the whole image that runs through that group."""
IMAGE_FAULTS = ("blur", "noise")
"""Quality faults of the whole image; their target is None."""
QUALITY_FAULTS = (*OBJECT_FAULTS, *IMAGE_FAULTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: its kind, its severity in (0, 1] and the kind of object it hit, None for the whole image."""

    kind: str
    severity: float
    target: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ALIGNMENT_FAULTS + QUALITY_FAULTS:
            raise ValueError(f"fault must be one of {[*ALIGNMENT_FAULTS, *QUALITY_FAULTS]}, not {self.kind!r}")
        number = isinstance(self.severity, (int, float)) and not isinstance(self.severity, bool)
        if not number or not 0 < self.severity <= 1:
            raise ValueError(f"severity of {self.kind} must be above 0 and at most 1, not {self.severity!r}")
        if (self.target is None) != (self.kind in IMAGE_FAULTS) or (self.target and self.target not in words.KINDS):
            raise ValueError(f"fault {self.kind} cannot have target {self.target!r}")

    def to_dict(self) -> Row:
        """Plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Fault:
        """Read what `to_dict` wrote. Raises ValueError that says which key is missing, unknown or wrong."""
        check_keys("fault", data, ("kind", "severity", "target"))
        return cls(**data)


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


def text_severity(asked: str, drawn: str | None) -> float:
    """From 0.5 for nearly the right letters to 1 for none of them."""
    if asked == drawn:
        return 0.0
    return 1.0 - 0.5 * SequenceMatcher(None, asked, drawn or "", autojunk=False).ratio()


# ---------------------------------------------------------------------------
# A demo model's mistakes


def misdraw(asked: Scene, rates: Mapping[str, float], rng: Random) -> tuple[Scene, list[Fault]]:
    """The scene that a model draws instead of `asked`, and its alignment faults.

    `rates` gives the probability of every alignment fault, for each group, relation or label it can hit. Where nothing
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
    if group.label and rng.random() < rates["wrong_text"]:
        label = _wrong_label(group.label, rng)
        drawn = replace(drawn, label=label)
        _add(faults, "wrong_text", text_severity(group.label, label), group)
    return drawn


def _other_kind(asked: Scene, rng: Random) -> Group:
    kinds = [kind for kind in sorted(words.KINDS) if asked.group(kind) is None]
    return replace(rng.choice(asked.groups), kind=rng.choice(kinds), label=None)


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


def _wrong_label(label: str, rng: Random) -> str:
    """Misspell `label` the ways image models do: letters changed, lost, doubled or swapped."""
    letters = list(label)
    for _ in range(rng.choice((1, 2, 3))):
        at = rng.randrange(len(letters))
        manner = rng.choice(("change", "drop", "double", "swap"))
        if manner == "drop" and len(letters) > 1:
            del letters[at]
        elif manner == "double" and len(letters) < 8:
            letters.insert(at, letters[at])
        elif manner == "swap":
            letters[at], letters[at - 1] = letters[at - 1], letters[at]
        else:
            letters[at] = rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    spoiled = "".join(letters)
    return spoiled if spoiled != label else _wrong_label(label, rng)


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
