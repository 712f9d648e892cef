"""Reads a demo prompt back into the scene it asks for; text-to-image models get nothing but the text.

A prompt is a list of pieces between commas and full stops. A piece is an addendum (style, quality, camera words), a
setting, or a run of objects joined by "and", "with" or a relation:

    [MEDIUM of] OBJECT (JOIN OBJECT)* [SETTING]      OBJECT = COUNT [size] colour [material] noun [label] | the noun
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from dyneval.demo import styles
from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import Group, Relation, Scene

MAX_CHARACTERS = 2000
JOINS = ("and", "with", "next to")
"""Words between two objects that say nothing about where they stand."""

_SEPARATOR = re.compile(r"\s*[,.;!]+(?:\s+|$)")
_COUNTS = {word: count for count, word in words.COUNTS.items()} | {str(count): count for count in words.COUNTS}
_LABEL_VERBS = ("that says", "that say")
_COUNTS |= {"a": 1, "an": 1}


def _synonyms(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {synonym: word for word, synonyms in table.items() for synonym in synonyms}


_SIZES, _RELATIONS, _SETTINGS = map(_synonyms, (words.SIZES, words.RELATIONS, words.SETTINGS))


def _any(phrases: Iterable[str]) -> str:
    return "(?:" + "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)) + ")"


_MEDIUM = re.compile(rf"(?:an? )?{_any(styles.MEDIA)} of ")
_GROUP = re.compile(
    rf"(?P<count>{_any(_COUNTS)}) (?:(?P<size>{_any(_SIZES)}) )?(?P<colour>{_any(words.COLOURS)}) "
    rf"(?:(?P<material>{_any(words.MATERIALS)}) )?(?P<noun>{_any(words.NOUNS)})\b"
    rf'(?: {_any((*words.LABEL_PHRASES, *_LABEL_VERBS))} "(?P<label>[a-z]{{1,8}})")?'
)
_MENTION = re.compile(rf"the (?P<noun>{_any(words.NOUNS)})\b")
_JOIN = re.compile(rf" (?:{_any(JOINS)}|(?:is |are )?(?P<relation>{_any(_RELATIONS)})) ")
_SETTING = re.compile(rf" ?(?P<setting>{_any(_SETTINGS)})")


def scene_from_prompt(prompt: str) -> Scene:
    """The scene that a demo prompt asks for.

    Raises:
        ValueError: the prompt is no demo prompt; the message quotes the first piece that could not be read.
    """
    if len(prompt) > MAX_CHARACTERS:
        raise ValueError(f"a demo prompt has at most {MAX_CHARACTERS} characters, this one has {len(prompt)}")
    reader = _Reader()
    for piece in _SEPARATOR.split(" ".join(prompt.casefold().split())):
        if piece and piece not in styles.ADDENDA:
            reader.read(piece.removeprefix("there is ").removeprefix("there are "))
    return reader.scene()


class _Reader:
    """Collects groups, relations and the setting while the pieces of a prompt go by."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._relations: list[Relation] = []
        self._setting = words.STUDIO

    def read(self, piece: str) -> None:
        """Take one piece apart. Raises ValueError when it is not in the grammar."""
        medium = _MEDIUM.match(piece)
        at = medium.end() if medium else 0
        if not medium and (setting := _SETTING.fullmatch(piece)):
            self._setting = _SETTINGS[setting["setting"]]
            return
        kind, at = self._object(piece, at)
        while join := _JOIN.match(piece, at):
            other, at = self._object(piece, join.end())
            if join["relation"]:
                self._relations.append(Relation(subject=kind, name=_RELATIONS[join["relation"]], object=other))
            kind = other
        if setting := _SETTING.match(piece, at):
            self._setting, at = _SETTINGS[setting["setting"]], setting.end()
        if at < len(piece):
            _refuse(piece, at)

    def _object(self, piece: str, at: int) -> tuple[str, int]:
        if mention := _MENTION.match(piece, at):
            kind = words.NOUNS[mention["noun"]]
            if kind not in self._groups:
                raise ValueError(f"demo prompt: {mention[0]!r} is named before it was introduced, in {piece!r}")
            return kind, mention.end()
        found = _GROUP.match(piece, at)
        if not found:
            _refuse(piece, at)
        group = _group(found)
        if group.kind in self._groups:
            raise ValueError(f"demo prompt: a second group of {group.kind} in {piece!r}; a scene has one of each kind")
        self._groups[group.kind] = group
        return group.kind, found.end()

    def scene(self) -> Scene:
        """What was read. Raises ValueError when no object was named or the scene is not allowed."""
        if not self._groups:
            raise ValueError("demo prompt: it names no object of the demo world")
        return Scene(groups=tuple(self._groups.values()), relations=tuple(self._relations), setting=self._setting)


def _group(found: re.Match[str]) -> Group:
    return Group(
        kind=words.NOUNS[found["noun"]],
        count=_COUNTS[found["count"]],
        colour=found["colour"],
        size=_SIZES.get(found["size"], words.MEDIUM),
        material=found["material"] or words.PLAIN,
        label=found["label"].upper() if found["label"] else None,
    )


def _refuse(piece: str, at: int) -> NoReturn:
    raise ValueError(f"not a demo prompt: cannot read {piece[at : at + 60]!r} in {piece[:80]!r}")
