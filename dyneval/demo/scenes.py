"""Scenes of the demo world: groups of like objects, the relations between groups, and a setting.

A scene is what a prompt asks for or what an image shows; style and quality words are no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random
from typing import Any

from dyneval.demo import vocabulary as words
from dyneval.structs import Row

MAX_GROUPS = 4
MAX_COUNT = 5
_LABEL = re.compile(r"[A-Z]{1,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """`count` (1-5) equal objects of one kind. Raises ValueError on a word outside the vocabulary."""

    kind: str
    colour: str
    count: int = 1
    size: str = words.MEDIUM
    material: str = words.PLAIN
    label: str | None = None
    """Text written on each of the objects: 1-8 capital letters."""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, words.KINDS)
        _one_of("colour", self.colour, words.COLOURS)
        _one_of("size", self.size, (words.MEDIUM, *words.SIZES))
        _one_of("material", self.material, (words.PLAIN, *words.MATERIALS))
        if type(self.count) is not int or not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"count of {self.kind} must be a whole number 1-{MAX_COUNT}, not {self.count!r}")
        if self.label is not None:
            self._check_label(self.label)

    def _check_label(self, label: str) -> None:
        if not words.KINDS[self.kind].labelled:
            raise ValueError(f"a {self.kind} has no room for a label")
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise ValueError(f"label of {self.kind} must be 1-8 capital letters A-Z, not {label!r}")

    @property
    def noun(self) -> str:
        """Singular or plural noun, as `count` asks."""
        return words.noun_for(self.kind, self.count)

    @property
    def parts(self) -> tuple[str, str]:
        """Names of the two parts of such an object, main part first."""
        return words.KINDS[self.kind].parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """`subject` stands `name` `object`: kinds of two groups, for example cup, "left of", house."""

    subject: str
    name: str
    object: str

    def __post_init__(self) -> None:
        _one_of("relation", self.name, words.RELATIONS)
        _one_of("relation subject", self.subject, words.KINDS)
        _one_of("relation object", self.object, words.KINDS)

    def inverse(self) -> Relation:
        """The same two groups with the opposite relation between them."""
        return Relation(subject=self.subject, name=words.INVERSE[self.name], object=self.object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Up to four groups of different kinds (so that "the cup" means one of them), their relations and the setting.

    Each group has at most one relation to a group before it, and the relations stand in that order. So no two
    relations can contradict each other, and every scene can be laid out. Raises ValueError otherwise.
    """

    groups: tuple[Group, ...]
    relations: tuple[Relation, ...] = ()
    setting: str = words.STUDIO

    def __post_init__(self) -> None:
        _one_of("setting", self.setting, (words.STUDIO, *words.SETTINGS))
        kinds = [group.kind for group in self.groups]
        if len(kinds) > MAX_GROUPS or len(set(kinds)) < len(kinds):
            raise ValueError(f"a scene holds at most {MAX_GROUPS} groups of different kinds, not {kinds}")
        later = []
        for relation in self.relations:
            if relation.subject not in kinds or relation.object not in kinds or relation.subject == relation.object:
                raise ValueError(f"{relation} does not join two groups of the scene {kinds}")
            later.append(max(kinds.index(relation.subject), kinds.index(relation.object)))
        if any(second <= first for first, second in pairwise(later)):
            raise ValueError("relations must be ordered by their later group, one for each later group")

    def group(self, kind: str) -> Group | None:
        """The group of `kind`, or None when the scene has none."""
        return next((group for group in self.groups if group.kind == kind), None)

    def relation(self, subject: str, object: str) -> Relation | None:
        """The relation that joins the kinds `subject` and `object`, told from the side of `subject`; None if none."""
        for found in self.relations:
            if (found.subject, found.object) == (subject, object):
                return found
            if (found.object, found.subject) == (subject, object):
                return Relation(subject=subject, name=words.INVERSE[found.name], object=object)
        return None

    def to_dict(self) -> Row:
        """Plain JSON values; `from_dict` reads them back."""
        return {
            "groups": [asdict(group) for group in self.groups],
            "relations": [asdict(relation) for relation in self.relations],
            "setting": self.setting,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Scene:
        """Read what `to_dict` wrote. Raises ValueError that says which key is missing, unknown or wrong."""
        check_keys("scene", data, ("groups", "relations", "setting"))
        for key in ("groups", "relations"):
            if not isinstance(data[key], list):
                raise ValueError(f"scene: {key!r} must be a list, not {type(data[key]).__name__}")
        return cls(
            groups=tuple(_read_group(item) for item in data["groups"]),
            relations=tuple(_read_relation(item) for item in data["relations"]),
            setting=data["setting"],
        )


def random_scene(rng: Random, tier: int) -> Scene:
    """A scene as prompts of `tier` ask for it: tier 3 mostly one group, tier 2 two, tier 1 three or four."""
    number = rng.choices((1, 2, 3, 4), weights={1: (0, 0, 6, 4), 2: (1, 7, 2, 0), 3: (8, 2, 0, 0)}[tier])[0]
    rich = {1: 0.6, 2: 0.4, 3: 0.25}[tier]
    groups = [_random_group(rng, kind, rich) for kind in rng.sample(sorted(words.KINDS), number)]
    # A sign without words on it looks forgotten; elsewhere a label is rarer, and one in a scene is enough.
    room = [i for i, group in enumerate(groups) if words.KINDS[group.kind].labelled and group.count == 1]
    if room and (rng.random() < rich or any(groups[i].kind == "sign" for i in room)):
        chosen = next((i for i in room if groups[i].kind == "sign"), room[0])
        groups[chosen] = _labelled(groups[chosen], rng.choice(words.LABELS))
    return Scene(
        groups=tuple(groups),
        relations=tuple(_random_relations(rng, groups)),
        setting=rng.choice(sorted(words.SETTINGS)) if rng.random() < 0.6 else words.STUDIO,
    )


def _random_group(rng: Random, kind: str, rich: float) -> Group:
    return Group(
        kind=kind,
        colour=rng.choice(sorted(words.COLOURS)),
        count=rng.choices((1, 2, 3, 4, 5), weights=(10, 4, 3, 2, 1))[0],
        size=rng.choice(sorted(words.SIZES)) if rng.random() < rich else words.MEDIUM,
        material=rng.choice(sorted(words.MATERIALS)) if rng.random() < rich else words.PLAIN,
    )


def _labelled(group: Group, label: str) -> Group:
    return Group(kind=group.kind, colour=group.colour, size=group.size, material=group.material, label=label)


def _random_relations(rng: Random, groups: Sequence[Group]) -> list[Relation]:
    relations = []
    for i in range(1, len(groups)):
        if rng.random() < 0.7:
            pair = [groups[i].kind, groups[rng.randrange(i)].kind]
            rng.shuffle(pair)
            relations.append(Relation(subject=pair[0], name=rng.choice(sorted(words.RELATIONS)), object=pair[1]))
    return relations


def check_keys(what: str, data: Any, keys: Sequence[str]) -> None:
    """Raise ValueError unless `data` is a mapping with exactly `keys`."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{what}: expected an object with {list(keys)}, got {type(data).__name__}")
    missing, unknown = sorted(set(keys) - set(data)), sorted(map(str, set(data) - set(keys)))
    if missing or unknown:
        raise ValueError(f"{what}: missing keys {missing}, unknown keys {unknown}; expected {list(keys)}")


def _read_group(data: Any) -> Group:
    check_keys("group", data, ("kind", "colour", "count", "size", "material", "label"))
    return Group(**data)


def _read_relation(data: Any) -> Relation:
    check_keys("relation", data, ("subject", "name", "object"))
    return Relation(**data)


def _one_of(what: str, value: object, allowed: Any) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{what} must be one of {sorted(allowed)}, not {value!r}")
