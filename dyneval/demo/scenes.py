"""Scenes of the demo world: groups of like objects, the relations between groups, and a setting.

A scene is what a prompt asks for or what an image shows; style and quality words are not part of it. The classes refuse
what cannot be drawn or told apart, so no other module needs to look.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from msgspec import Struct

from dyneval.demo import vocabulary as words
from dyneval.hashing import number

# A small world, since the demo's students see an image as 16 visual tokens.
MAX_GROUPS = 3
MAX_COUNT = 4


class Group(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` (1-4) equal objects of one kind and colour. Raises ValueError on a word outside the vocabulary."""

    kind: str
    colour: str
    count: int = 1

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, words.KINDS)
        _one_of("colour", self.colour, words.COLOURS)
        if type(self.count) is not int or not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"count of {self.kind} must be a whole number 1-{MAX_COUNT}, not {self.count!r}")

    @property
    def noun(self) -> str:
        """The noun, singular or plural as `count` asks."""
        return self.kind if self.count == 1 else words.KINDS[self.kind]


class Relation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`subject` stands `name` `object`: kinds of two groups, for example cup, "left of", house."""

    subject: str
    name: str
    object: str

    def __post_init__(self) -> None:
        _one_of("relation", self.name, words.RELATIONS)
        _one_of("relation subject", self.subject, words.KINDS)
        _one_of("relation object", self.object, words.KINDS)

    def inverse(self) -> Relation:
        """Return the same two groups with the opposite relation between them."""
        return Relation(subject=self.subject, name=words.INVERSE[self.name], object=self.object)


class Scene(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to three groups of different kinds (so that "the cup" means one of them), their relations and the setting.

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
        # There is one way to write a set of relations, so that equal scenes are equal values: each relation belongs to
        # the later one of its two groups, and they come in the order of these.
        later = []
        for relation in self.relations:
            if relation.subject not in kinds or relation.object not in kinds or relation.subject == relation.object:
                raise ValueError(f"{relation} does not join two groups of the scene {kinds}")
            later.append(max(kinds.index(relation.subject), kinds.index(relation.object)))
        if any(second <= first for first, second in pairwise(later)):
            raise ValueError("relations must be ordered by their later group, one for each later group")

    def group(self, kind: str) -> Group | None:
        """Return the group of `kind`, or None when the scene has none."""
        return next((group for group in self.groups if group.kind == kind), None)

    def relation(self, subject: str, object: str) -> Relation | None:
        """Return the relation between the kinds `subject` and `object`, told from the side of `subject`, or None."""
        for found in self.relations:
            if (found.subject, found.object) == (subject, object):
                return found
            if (found.object, found.subject) == (subject, object):
                return Relation(subject=subject, name=words.INVERSE[found.name], object=object)
        return None


def kept_back(group: Group) -> bool:
    """Whether the base never met this kind in this colour, such as a blue rocket: a tenth of all pairs.

    A student that judges those as well as the others has not learned pictures by heart.
    """
    return number(f"{group.colour} {group.kind}", "demo kept back") % 10 == 0


def random_scene(rng: Random, tier: int) -> Scene:
    """Return a scene as prompts of `tier` ask for it: tier 3 mostly one group, tier 2 two, tier 1 two or three."""
    # Tables are sorted before anything is drawn from them: their order may then change, and the scenes stay the same.
    size = rng.choices((1, 2, 3), weights={1: (0, 4, 6), 2: (2, 7, 1), 3: (8, 2, 0)}[tier])[0]
    # The more groups, the less space: at 128 pixels, four cats in a third of the image cannot be told from three.
    counts = {1: (10, 5, 3, 2), 2: (10, 4, 2, 0), 3: (10, 3, 0, 0)}[size]
    groups = [
        Group(
            kind=kind,
            colour=rng.choice(sorted(words.COLOURS)),
            count=rng.choices(range(1, MAX_COUNT + 1), weights=counts)[0],
        )
        for kind in rng.sample(sorted(words.KINDS), size)
    ]
    relations = []
    for i in range(1, size):
        if rng.random() < 0.7:
            pair = [groups[i].kind, groups[rng.randrange(i)].kind]
            rng.shuffle(pair)  # either may be the subject: "the cat left of the cup", "the cup right of the cat"
            relations.append(Relation(subject=pair[0], name=rng.choice(sorted(words.RELATIONS)), object=pair[1]))
    return Scene(
        groups=tuple(groups),
        relations=tuple(relations),
        setting=rng.choice(sorted(words.SETTINGS)) if rng.random() < 0.6 else words.STUDIO,
    )


def _one_of(what: str, value: object, allowed: Any) -> None:
    """Raise ValueError where `value` is not one of the words that are allowed."""
    # The type first: a list, as JSON may hold one, cannot be looked up in a table.
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{what} must be one of {sorted(allowed)}, not {value!r}")
