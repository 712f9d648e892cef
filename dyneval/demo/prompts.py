"""Demo prompts in the manner of DiffusionDB users, from terse to long-winded, and how to read them back.

    $ python -m dyneval.demo.prompts --count 20000 --seed 7 --output output/demo/raw_prompts.txt

Text-to-image models get nothing but the text, so `scene_from_prompt` reads from it the scene that it asks for. Writing
and reading must agree: a prompt that is read as another scene gets a wrong truth. A prompt is a list of pieces between
commas and full stops. A piece is an addendum (style, quality, camera words), a setting, or a run of objects joined by
"and", "with" or a relation:

    [MEDIUM of] OBJECT (JOIN OBJECT)* [SETTING]      OBJECT = COUNT colour noun | the noun
"""

from __future__ import annotations

import argparse
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NoReturn

from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import Group, Relation, Scene, random_scene
from dyneval.demo.vocabulary import any_of
from dyneval.files.atomic import atomic_write

logger = logging.getLogger(__name__)

MIN_CHARACTERS = 30
SHORT_SHARE = 0.02
REPEATED_SHARE = 0.02
"""Shares of junk, so that filtering has something to do: prompts too short to keep, and exact repetitions."""

# The longest of 20,000 demo prompts has 452; a much longer text is not one and is not searched.
MAX_CHARACTERS = 2000
JOINS = ("and", "with", "next to")
"""Words between two objects that say nothing about their places."""
_SEPARATOR = re.compile(r"\s*[,.;!]+(?:\s+|$)")
_COUNTS = {word: count for count, word in words.COUNTS.items()} | {str(count): count for count in words.COUNTS}
_COUNTS |= {"a": 1, "an": 1}
# So many that Step 1 finds each of its three tiers in more than a fifth of the prompts.
_ADDENDA = {1: (9, 18), 2: (2, 6), 3: (0, 2)}
"""Fewest and most style, quality and camera phrases per tier."""


def demo_prompts(count: int, seed: int) -> list[str]:
    """Return prompts, about a third from each tier, in random order; the same arguments give the same list.

    All are distinct and at least 30 characters long except for about 2 % shorter ones and 2 % exact repetitions.

    Args:
        count: how many, 1 or more.
        seed: another one gives other prompts.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rng = Random(f"demo prompts {seed}")
    prompts: list[str] = []
    seen: set[str] = set()
    for _ in range(count):
        junk = rng.random()
        if junk < SHORT_SHARE:
            group = Group(kind=rng.choice(sorted(words.KINDS)), colour=rng.choice(sorted(words.COLOURS)))
            text = _describe(group, rng)
            prompts.append(text.upper() if rng.random() < 0.2 else text)
        elif junk < SHORT_SHARE + REPEATED_SHARE and prompts:
            prompts.append(rng.choice(prompts))
        else:
            text = ""
            while not text or text in seen:
                tier = rng.choice((1, 2, 3))
                text = write_prompt(random_scene(rng, tier), tier, rng)
            seen.add(text)
            prompts.append(text)
    return prompts


def write_prompt(scene: Scene, tier: int, rng: Random) -> str:
    """Return a prompt of at least 30 characters from which `scene_from_prompt` reads `scene` again.

    Args:
        scene: with at least one group.
        tier: how wordy: 1 hard, 3 easy.
        rng: the same state gives the same prompt.

    Raises:
        ValueError: `scene` is empty.
    """
    if not scene.groups:
        raise ValueError("a prompt needs a scene with at least one group")
    pieces = _scene_pieces(scene, tier, rng)
    fewest, most = _ADDENDA[tier]
    pool = list(words.QUALITY + words.CAMERA + words.STYLES)
    rng.shuffle(pool)
    addenda = [pool.pop() for _ in range(rng.randint(fewest, most))]
    while len(", ".join(pieces + addenda)) < MIN_CHARACTERS:
        addenda.append(pool.pop())
    if addenda and rng.random() < 0.15:
        pieces.insert(0, addenda.pop())
    return _dress(pieces, addenda, rng)


# ---------------------------------------------------------------------------
# From scene to pieces


def _scene_pieces(scene: Scene, tier: int, rng: Random) -> list[str]:
    """Name every group in order, each with its relation to an earlier one, then the setting."""
    first = _describe(scene.groups[0], rng)
    if rng.random() <= {1: 0.8, 2: 0.6, 3: 0.35}[tier]:
        medium = rng.choice(words.MEDIA)
        first = f"{words.with_article(medium)} of {first}" if rng.random() < 0.7 else f"{medium} of {first}"
    pieces = [first]
    for i, group in enumerate(scene.groups[1:], 1):
        # A scene has at most one relation between a group and all groups before it.
        earlier = [{group.kind, other.kind} for other in scene.groups[:i]]
        relation = next((r for r in scene.relations if {r.subject, r.object} in earlier), None)
        _name_group(pieces, scene, i, relation, rng)
    if scene.setting != words.STUDIO:
        _append(pieces, rng.choice(words.SETTINGS[scene.setting]), rng.random() < 0.7)
    return pieces


def _name_group(pieces: list[str], scene: Scene, i: int, relation: Relation | None, rng: Random) -> None:
    """Add the group with index `i` to the pieces, in one of the ways in which people put things into words."""
    group, described = scene.groups[i], _describe(scene.groups[i], rng)
    if relation is None:
        _append(pieces, f"{rng.choice(JOINS)} {described}", rng.random() < 0.6, alone=described)
        return
    name = rng.choice(words.RELATIONS[relation.name])
    other = scene.group(relation.object if relation.subject == group.kind else relation.subject)
    assert other is not None, "a relation joins two groups of its scene"
    if relation.subject == group.kind:
        joined = f"{described} {name} the {other.noun}"
        _append(pieces, f"{rng.choice(JOINS)} {joined}", rng.random() < 0.4, alone=joined)
    elif other is scene.groups[i - 1] and pieces[-1].endswith(f"{other.noun}") and rng.random() < 0.8:
        pieces[-1] += f" {name} {described}"
    else:
        _append(pieces, f"{rng.choice(JOINS)} {described}", rng.random() < 0.5, alone=described)
        verb = rng.choice(("", "is " if other.count == 1 else "are "))
        pieces.append(f"the {other.noun} {verb}{name} the {group.noun}")


def _append(pieces: list[str], text: str, same_piece: bool, alone: str | None = None) -> None:
    """Add `text` to the last piece, or as a piece of its own, then in the form `alone`."""
    if same_piece:
        pieces[-1] += f" {text}"
    else:
        pieces.append(alone or text)


def _describe(group: Group, rng: Random) -> str:
    if group.count == 1:
        return f"{words.with_article(group.colour)} {group.noun}"
    number = words.COUNTS[group.count] if rng.random() < 0.85 else group.count
    return f"{number} {group.colour} {group.noun}"


# ---------------------------------------------------------------------------
# From pieces to text


def _dress(pieces: list[str], addenda: list[str], rng: Random) -> str:
    """Join the pieces the ways users do: one comma list, sentences first, odd spaces, any case."""
    manner = rng.random()
    if manner < 0.2:
        sentences = [*pieces, ", ".join(addenda)] if addenda else pieces
        text = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
    else:
        text = (" , " if manner < 0.3 else ", ").join(pieces + addenda)
    case = rng.random()
    if case < 0.03:
        return text.upper()
    return text if case < 0.6 else text[0].upper() + text[1:] if case < 0.75 else text.lower()


# ---------------------------------------------------------------------------
# From text to scene


# Every synonym -> the word that a scene stores.
_RELATIONS, _SETTINGS = (
    {synonym: word for word, synonyms in table.items() for synonym in synonyms}
    for table in (words.RELATIONS, words.SETTINGS)
)
_MEDIUM = re.compile(rf"(?:an? )?{any_of(words.MEDIA)} of ")
_GROUP = re.compile(
    rf"(?P<count>{any_of(_COUNTS)}) (?P<colour>{any_of(words.COLOURS)}) (?P<noun>{any_of(words.NOUNS)})\b"
)
_MENTION = re.compile(rf"the (?P<noun>{any_of(words.NOUNS)})\b")
_JOIN = re.compile(rf" (?:{any_of(JOINS)}|(?:is |are )?(?P<relation>{any_of(_RELATIONS)})) ")
_SETTING = re.compile(rf" ?(?P<setting>{any_of(_SETTINGS)})")


def scene_from_prompt(prompt: str) -> Scene:
    """Return the scene that a demo prompt asks for.

    Raises:
        ValueError: the prompt is not a demo prompt; the message quotes the first piece that could not be read.
    """
    if len(prompt) > MAX_CHARACTERS:
        raise ValueError(f"a demo prompt has at most {MAX_CHARACTERS} characters, this one has {len(prompt)}")
    reader = _SceneReader()
    for piece in _SEPARATOR.split(" ".join(prompt.casefold().split())):
        if piece and piece not in words.ADDENDA:
            reader.read(piece.removeprefix("there is ").removeprefix("there are "))
    if not reader.groups:
        raise ValueError("demo prompt: it names no object of the demo world")
    return Scene(groups=tuple(reader.groups.values()), relations=tuple(reader.relations), setting=reader.setting)


@dataclass(slots=True)
class _SceneReader:
    """Collects groups (by kind), relations and the setting while the pieces of a prompt go by."""

    groups: dict[str, Group] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    setting: str = words.STUDIO

    def read(self, piece: str) -> None:
        """Take one piece apart. Raises ValueError when it is not in the grammar."""
        medium = _MEDIUM.match(piece)
        at = medium.end() if medium else 0
        if not medium and (setting := _SETTING.fullmatch(piece)):
            self.setting = _SETTINGS[setting["setting"]]
            return
        kind, at = self._object(piece, at)
        while join := _JOIN.match(piece, at):
            other, at = self._object(piece, join.end())
            if join["relation"]:
                self.relations.append(Relation(subject=kind, name=_RELATIONS[join["relation"]], object=other))
            kind = other
        if setting := _SETTING.match(piece, at):
            self.setting, at = _SETTINGS[setting["setting"]], setting.end()
        if at < len(piece):
            _refuse(piece, at)

    def _object(self, piece: str, at: int) -> tuple[str, int]:
        """Read the object at a place of a piece; returns its kind and where it ends. Raises ValueError as `read`."""
        if mention := _MENTION.match(piece, at):
            kind = words.NOUNS[mention["noun"]]
            if kind not in self.groups:
                raise ValueError(f"demo prompt: {mention[0]!r} is named before it was introduced, in {piece!r}")
            return kind, mention.end()
        found = _GROUP.match(piece, at)
        if not found:
            _refuse(piece, at)
        group = Group(kind=words.NOUNS[found["noun"]], count=_COUNTS[found["count"]], colour=found["colour"])
        if group.kind in self.groups:
            raise ValueError(f"demo prompt: a second group of {group.kind} in {piece!r}; a scene has one of each kind")
        self.groups[group.kind] = group
        return group.kind, found.end()


def _refuse(piece: str, at: int) -> NoReturn:
    raise ValueError(f"not a demo prompt: cannot read {piece[at : at + 60]!r} in {piece[:80]!r}")


def main() -> None:
    """Write demo prompts as text, one a line."""
    parser = argparse.ArgumentParser(description="Write demo prompts, one a line.")
    parser.add_argument("--count", type=int, required=True, help="how many prompts")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same prompts (default 0)")
    parser.add_argument("--output", type=Path, required=True, help="text file to write")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count must be at least 1, not {args.count}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_prompts_file(args.output, args.count, args.seed)


def write_prompts_file(path: Path, count: int, seed: int) -> None:
    """Write `demo_prompts(count, seed)` to `path`, one a line, all or nothing.

    Raises:
        ValueError: `count` is below 1.
        OSError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.writelines(f"{prompt}\n" for prompt in demo_prompts(count, seed))
    logger.info("%s: %d demo prompts, seed %d", path, count, seed)


if __name__ == "__main__":
    main()
