"""Patterns over units: short sequences of word classes, matched at every place of a whole batch at once.

A pattern is a row of steps separated by blanks. A step is one or more classes joined by `|`, which one unit has to
have; `!` before it turns it round (any unit of the prompt but these); `?` after it makes it optional; `*3` lets it
stand zero to three times, `*` any number of times. `color|material attribute*2 thing` is a colour or material, up to
two attributes, a thing.

What a word is may depend on its neighbours: "walks" is a verb in "a dog walks to the door" and none in "long walks". A
`Context` names the units of a class that have certain patterns around them, and is used as a class by other patterns.

The rules of `data/categories.toml` are written in this language, because regular expressions over the text of 1.8
million prompts take minutes and cannot ask what a word is. A pattern never looks past the end of its prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dyneval.prompts.lexicon import END, Lexicon
from dyneval.prompts.text import Bytes, Int64s
from dyneval.prompts.units import Units
from dyneval.prompts.wordlists import split

Bools = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint64]
_STEP = re.compile(r"(!?)([a-z_0-9|]+)(\?|\*\d?)?")
_ANY_NUMBER = -1
"""`PatternStep.most` of a step with `*`."""


class PatternStep(NamedTuple):
    """One step: a unit with one of `classes` (with none of them where `negated`), `least` to `most` times.

    `most` is -1 where there is no limit.
    """

    classes: tuple[str, ...]
    negated: bool
    least: int
    most: int


Pattern = tuple[PatternStep, ...]


def parse(text: str) -> Pattern:
    """Parse a pattern.

    Args:
        text: Steps with blanks between them.

    Raises:
        ValueError: a step has another form (the message names it), or the first or last step may be left out.
    """
    steps = []
    for step in text.split():
        match = _STEP.fullmatch(step)
        if match is None:
            raise ValueError(f"{step!r} is no step of a pattern; expected [!]class[|class][?|*n]")
        negated, classes, repeat = match.groups()
        if repeat == "*":
            least, most = 0, _ANY_NUMBER
        else:
            least, most = (1, 1) if repeat is None else (0, int(repeat[1:] or 1))
        steps.append(PatternStep(tuple(classes.split("|")), bool(negated), least, most))
    # A match is marked at its first or last unit, so that unit has to exist.
    if not steps or not (steps[0].least and steps[-1].least):
        raise ValueError(f"{text!r}: a pattern begins and ends with a step that has to be there")
    return tuple(steps)


class Context(NamedTuple):
    """Units with all of `at` that one of `after` ends before and one of `before` begins behind, and none of `not_`."""

    at: Pattern
    after: tuple[Pattern, ...]
    before: tuple[Pattern, ...]
    not_after: tuple[Pattern, ...]
    not_before: tuple[Pattern, ...]


class Classes:
    """Word classes as tables over the lexicon's entries, and contexts.

    A class is a list of tags, of which an entry has to have one, or a table: `any` (of these), `all`, `none`, `words`
    (these entries too) and `without` (but not these). Every tag is a class, and a class may name earlier classes.
    """

    def __init__(
        self,
        lexicon: Lexicon,
        definitions: Mapping[str, list[str] | dict[str, list[str]]],
        contexts: Mapping[str, list[dict[str, Any]]] = MappingProxyType({}),
    ) -> None:
        """Raises ValueError on a name that is neither a tag nor an earlier class, and on a word of no list."""
        self._names = {name: number for number, name in enumerate(lexicon.names)}
        self._tables = {tag: lexicon.having(tag) for tag in lexicon.tags}
        self._end = np.arange(len(lexicon.names)) == END
        for name, definition in definitions.items():
            parts = {"any": definition} if isinstance(definition, list) else definition
            self._tables[name] = self._define(name, parts)
        self._columns: dict[tuple[str, ...], int] = {}
        self._bytes: list[Bytes] = []
        self.contexts: dict[str, tuple[Context, ...]] = {}
        around = ("after", "before", "not_after", "not_before")
        for name, alternatives in contexts.items():
            made = []
            for one in alternatives:
                if not {"at"} <= one.keys() <= {"at", *around}:
                    raise ValueError(
                        f"context {name}: expected at and any of {', '.join(around)}; found {', '.join(one)}"
                    )
                made.append(Context(parse(one["at"]), *(tuple(map(parse, one.get(key, ()))) for key in around)))
            self.contexts[name] = tuple(made)
        # All names are known only here: a pattern may name a context that comes later in the file.
        for context in (one for alternatives in self.contexts.values() for one in alternatives):
            for pattern in (context.at, *context.after, *context.before, *context.not_after, *context.not_before):
                self.prepare(pattern)

    def prepare(self, pattern: Pattern) -> None:
        """Make a pattern fast to match.

        Raises:
            ValueError: a step names no word list, class or context.
        """
        # A set of classes is a bit in a table of bytes over the entries, eight sets a table. The rules name 285 sets;
        # with a table each, every unit of a batch would be looked up 285 times instead of 36.
        for step in pattern:
            names = self.plain(step)
            if names and names not in self._columns:
                number = len(self._columns)
                if number % 8 == 0:
                    self._bytes.append(np.zeros(len(self._end), np.uint8))
                self._bytes[-1] |= self._either(names).astype(np.uint8) << np.uint8(number % 8)
                self._columns[names] = number

    def plain(self, step: PatternStep) -> tuple[str, ...]:
        """Those of a step's classes that are no contexts."""
        return tuple(name for name in step.classes if name not in self.contexts)

    def marks(self, names: tuple[str, ...], entries: Int64s, looked_up: dict[int, Bytes]) -> Bools | Bytes:
        """(units,) not 0 where a unit's entry has one of the classes.

        Eight sets of classes share a table of bytes. Looking units up in a table takes ten times as long as picking a
        bit of what was found, so `looked_up` keeps that, by table, for all patterns on the same units.
        """
        if names not in self._columns:
            return self._either(names)[entries]
        table, bit = divmod(self._columns[names], 8)
        if table not in looked_up:
            looked_up[table] = self._bytes[table][entries]
        return looked_up[table] & np.uint8(1 << bit)

    def _either(self, names: Iterable[str]) -> Bools:
        """(entries,) True where an entry has one of the tags or earlier classes."""
        table = np.zeros_like(self._end)
        for name in names:
            if name not in self._tables:
                raise ValueError(f"{name!r} is neither a word list nor a class defined before its use")
            table |= self._tables[name]
        return table

    def _define(self, name: str, parts: dict[str, list[str]]) -> Bools:
        if not parts.keys() <= {"any", "all", "none", "words", "without"}:
            raise ValueError(f"class {name}: expected any, all, none, words, without; found {', '.join(parts)}")
        entries: dict[str, list[int]] = {"words": [], "without": []}
        for key, found in entries.items():
            for word in parts.get(key, []):
                entry = self._names.get(" ".join(split(word)))
                if entry is None:
                    raise ValueError(f"class {name}: {word!r} is in no word list")
                found.append(entry)
        # The order is the meaning: words join what any and all leave, and none takes out some of these words again.
        table = self._either(parts.get("any", ()))
        for part in parts.get("all", ()):
            table &= self._either([part])
        table[entries["words"]] = True
        table &= ~self._either(parts.get("none", ()))
        table[entries["without"]] = False
        return table


class Matcher:
    """Patterns on one batch of units. Which units are marked is kept as bits, eight times as fast as bytes."""

    def __init__(self, units: Units, classes: Classes) -> None:
        """Patterns that `classes` has not prepared are matched, too, only slower."""
        self._entries, self._classes = units.entries, classes
        self._looked_up: dict[int, Bytes] = {}
        self._found: dict[tuple[tuple[str, ...], bool], Bits] = {}
        self._contexts: dict[str, Bits] = {}
        self._inner = _packed(units.entries != END)

    def starts(self, *patterns: Pattern) -> Bools:
        """(units,) True where a match of one of the patterns begins.

        A unit counts once, however many matches of whatever length begin at it.
        """
        return self._unpacked(self._match(patterns, backward=True))

    def ends(self, *patterns: Pattern) -> Bools:
        """(units,) True where a match of one of the patterns has its last unit.

        Asked for when what comes behind the pattern matters, as for the noun that "like a" goes before.
        """
        return self._unpacked(self._match(patterns, backward=False))

    def _match(self, patterns: tuple[Pattern, ...], backward: bool) -> Bits:
        """Walk the steps from the far end; `reached` marks the units before (or behind) which the rest matches."""
        if len(patterns) > 1:
            return np.bitwise_or.reduce([self._match((pattern,), backward) for pattern in patterns])
        (pattern,) = patterns
        # From the end backward, so that what is left marked are the units where a match begins; forward, where one
        # ends.
        ordered = pattern[::-1] if backward else pattern
        reached = self._has(ordered[0])
        for step in ordered[1:]:
            here = self._has(step)
            if step.most == _ANY_NUMBER:
                reached = _packed(_through(self._unpacked(here), self._unpacked(reached), backward))
            elif step.least:
                reached = here & _beside(reached, backward)
            else:
                for _ in range(step.most):
                    reached = reached | (here & _beside(reached, backward))
        return reached

    def _has(self, step: PatternStep) -> Bits:
        key = (step.classes, step.negated)
        # Hundreds of patterns share their steps, so what a step marks is kept for the whole batch.
        if key not in self._found:
            plain = self._classes.plain(step)
            marks = [_packed(self._classes.marks(plain, self._entries, self._looked_up))] if plain else []
            for name in step.classes:
                if name in plain:
                    continue
                if name not in self._contexts:
                    found = [self._in_context(context) for context in self._classes.contexts[name]]
                    self._contexts[name] = np.bitwise_or.reduce(found)
                marks.append(self._contexts[name])
            either = np.bitwise_or.reduce(marks) if len(marks) > 1 else marks[0]
            self._found[key] = self._inner & ~either if step.negated else either
        return self._found[key]

    def _in_context(self, context: Context) -> Bits:
        """Units that a context names."""
        marks = np.bitwise_and.reduce([self._has(step) for step in context.at])
        if context.after:
            marks = marks & _beside(self._match(context.after, backward=False), backward=False)
        if context.before:
            marks = marks & _beside(self._match(context.before, backward=True), backward=True)
        if context.not_after:
            marks = marks & ~_beside(self._match(context.not_after, backward=False), backward=False)
        if context.not_before:
            marks = marks & ~_beside(self._match(context.not_before, backward=True), backward=True)
        return marks

    def _unpacked(self, bits: Bits) -> Bools:
        return np.unpackbits(bits.view(np.uint8), count=len(self._entries), bitorder="little").view(bool)


def _packed(marks: Bools | Bytes) -> Bits:
    """Bits in words of 64, the first unit the lowest bit of the first; those behind the last unit are 0."""
    packed = np.zeros((len(marks) + 63) // 64 * 8, np.uint8)
    packed[: (len(marks) + 7) // 8] = np.packbits(marks, bitorder="little")
    return packed.view("<u8")


def _beside(marks: Bits, backward: bool) -> Bits:
    """Bits of the units whose next unit (the one before, if not backward) is marked.

    The bit behind the last unit may be set. Callers take the result together with marks, which have no such bit.
    """
    if backward:
        found = marks >> np.uint64(1)
        found[:-1] |= marks[1:] << np.uint64(63)
    else:
        found = marks << np.uint64(1)
        found[1:] |= marks[:-1] >> np.uint64(63)
    return found


def _through(here: Bools, reached: Bools, backward: bool) -> Bools:
    """(units,) True where `reached` is reached over units that are `here` alone: none of them, one or more."""
    if not backward:
        return _through(here[::-1], reached[::-1], backward=True)[::-1]
    # Between two gaps (units that are not `here`) all up to the last goal reach it. The loop that this replaces would
    # take as many passes over the batch as the longest such stretch has units, which is the length of a prompt.
    gaps, goals = np.flatnonzero(~here), np.flatnonzero(reached)
    stretch = np.searchsorted(gaps, goals)
    last = np.append(stretch[1:] != stretch[:-1], True)[: len(goals)]
    edges = np.zeros(len(here) + 1, np.int8)
    edges[np.append(0, gaps + 1)[stretch[last]]] += 1
    edges[goals[last] + 1] -= 1
    return np.cumsum(edges[:-1], dtype=np.int8).view(bool)
