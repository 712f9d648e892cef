"""Patterns over units: short sequences of word classes, matched at every place of a whole batch at once.

A pattern is a row of steps separated by blanks. A step is one or more classes joined by `|`, which one unit has to
have; `!` before it turns it round (any unit of the prompt but these); `?` after it makes it optional; `*3` lets it
stand zero to three times. `color|material attribute*2 thing` is a colour or material, up to two attributes, a thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyneval.prompts.lexicon import END, Lexicon
from dyneval.prompts.units import Units
from dyneval.prompts.wordlists import split

Bools = npt.NDArray[np.bool_]
_STEP = re.compile(r"(!?)([a-z_0-9|]+)(\?|\*\d)?")


class Step(NamedTuple):
    """One step: a unit with one of `classes` (with none of them where `negated`), `least` to `most` times."""

    classes: tuple[str, ...]
    negated: bool
    least: int
    most: int


Pattern = tuple[Step, ...]


def parse(text: str) -> Pattern:
    """Parse a pattern. Raises ValueError naming the step that is none, or a pattern whose outer steps are optional."""
    pattern = tuple(_parse_step(step) for step in text.split())
    if not pattern or not (pattern[0].least and pattern[-1].least):
        raise ValueError(f"{text!r}: a pattern begins and ends with a step that has to be there")
    return pattern


def _parse_step(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no step of a pattern; expected [!]class[|class][?|*n]")
    negated, classes, repeat = match.groups()
    least, most = (1, 1) if repeat is None else (0, int(repeat[1:] or 1))
    return Step(tuple(classes.split("|")), bool(negated), least, most)


class Classes:
    """Word classes as tables over the lexicon's entries.

    A class is a list of tags, of which an entry has to have one, or a table: `any` (of these), `all`, `none`, `words`
    (these entries too) and `without` (but not these). Every tag is a class, and a class may name earlier classes.
    """

    def __init__(self, lexicon: Lexicon, definitions: Mapping[str, list[str] | dict[str, list[str]]]) -> None:
        """Raises ValueError on a name that is neither a tag nor an earlier class, and on a word of no list."""
        self._names = {name: number for number, name in enumerate(lexicon.names)}
        self._tables = {tag: lexicon.having(tag) for tag in lexicon.tags}
        self._end = np.arange(len(lexicon.names)) == END
        for name, definition in definitions.items():
            parts = {"any": definition} if isinstance(definition, list) else definition
            self._tables[name] = self._define(name, parts)

    def table(self, step: Step) -> Bools:
        """(entries,) True where an entry satisfies the step; the end of a prompt never does."""
        table = np.logical_or.reduce([self._of(name) for name in step.classes])
        return ~table & ~self._end if step.negated else table

    def _define(self, name: str, parts: dict[str, list[str]]) -> Bools:
        if not parts.keys() <= {"any", "all", "none", "words", "without"}:
            raise ValueError(f"class {name}: expected any, all, none, words, without; found {', '.join(parts)}")
        table = np.logical_or.reduce([np.zeros_like(self._end), *(self._of(part) for part in parts.get("any", []))])
        for part in parts.get("all", []):
            table = table & self._of(part)
        table[[self._entry(name, word) for word in parts.get("words", [])]] = True
        for part in parts.get("none", []):
            table = table & ~self._of(part)
        table[[self._entry(name, word) for word in parts.get("without", [])]] = False
        return table

    def _entry(self, name: str, word: str) -> int:
        entry = self._names.get(" ".join(split(word)))
        if entry is None:
            raise ValueError(f"class {name}: {word!r} is in no word list")
        return entry

    def _of(self, name: str) -> Bools:
        if name not in self._tables:
            raise ValueError(f"{name!r} is neither a word list nor a class defined before its use")
        return self._tables[name]


class Matcher:
    """Patterns on one batch of units."""

    def __init__(self, units: Units, classes: Classes) -> None:
        self._units, self._classes = units, classes
        self._steps: dict[tuple[tuple[str, ...], bool], Bools] = {}

    def starts(self, pattern: Pattern) -> Bools:
        """(units,) True where a match of the pattern begins."""
        return self._match(pattern, backward=True)

    def ends(self, pattern: Pattern) -> Bools:
        """(units,) True where a match of the pattern has its last unit."""
        return self._match(pattern, backward=False)

    def _match(self, pattern: Pattern, backward: bool) -> Bools:
        """Walk the steps from the far end; `reached` marks the units before (or behind) which the rest matches."""
        ordered = pattern[::-1] if backward else pattern
        reached: Bools | None = None
        for step in ordered:
            here = self._has(step)
            found = reached if step.least == 0 else None
            for _ in range(step.most):
                reached = here if reached is None else _before(here, reached, backward)
                found = reached if found is None else found | reached
                reached = found
            reached = found
        assert reached is not None, "a pattern has a step"
        return reached

    def _has(self, step: Step) -> Bools:
        key = (step.classes, step.negated)
        if key not in self._steps:
            self._steps[key] = self._classes.table(step)[self._units.entries]
        return self._steps[key]


def _before(marks: Bools, reached: Bools, backward: bool) -> Bools:
    """`marks` where the next unit (the one before, if not backward) is reached."""
    found = marks.copy()
    if backward:
        found[:-1] &= reached[1:]
        found[-1:] = False
    else:
        found[1:] &= reached[:-1]
        found[:1] = False
    return found
