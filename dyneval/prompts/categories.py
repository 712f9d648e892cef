"""Categories: 9 dimensions with 42 sub-categories, several a prompt, by the rules in `data/categories.toml`.

The names are DynEval's, and boards and selection go by them; definitions and rules are ours. This file reads the
rules and applies them to a batch of prompts; two things are code instead of rules, for they need more than a pattern:
text in quotes and the number of objects. Labels are wrong where the rules are: `benchmarks/prompt_skills.py` and
`prompt_categories.py` measure how often.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.prompts import lexicon
from dyneval.prompts.lexicon import UNKNOWN, Lexicon
from dyneval.prompts.patterns import Bools, Classes, Matcher, Pattern, parse
from dyneval.prompts.text import Int64s, UInt64s
from dyneval.prompts.units import Units

LONGEST_QUOTE = 12
"""Units between two quotes that still count as text in the picture; whole prompts come in quotes as well."""


def hide_quoted(entries: Int64s, rows: Int64s, lexicon: Lexicon) -> Int64s:
    """Make what stands between two quotes of a prompt unknown.

    The words on a sign are no things in the picture: a sign that says "hot dogs" shows no food. A quote that opens its
    prompt is left alone: there it encloses the prompt.

    Args:
        entries: (units,) of a batch.
        rows: (units,) the prompt of each.
        lexicon: Tells which entries are quote marks.

    Returns:
        (units,) a copy of the entries, with `UNKNOWN` for what is hidden.
    """
    marks = np.flatnonzero(lexicon.having("quote_mark")[entries])
    # Every second mark of a prompt opens, counted from its first.
    first = np.searchsorted(rows[marks], rows[marks])
    opening = np.flatnonzero((np.arange(len(marks)) - first) % 2 == 0)
    opening = opening[opening + 1 < len(marks)]
    a, b = marks[opening], marks[opening + 1]
    hides = (rows[a] == rows[b]) & (b - a <= LONGEST_QUOTE) & (a > 0) & (rows[a - 1] == rows[a])
    change = np.zeros(len(entries) + 1, np.int8)
    np.add.at(change, a[hides] + 1, 1)
    np.add.at(change, b[hides], -1)
    return np.where(np.cumsum(change[:-1]) > 0, UNKNOWN, entries)


# A mere place, a part of a body or what a sign shows is no object, and the first of two nouns belongs to the second.
_OBJECT, _PLURAL = parse("object_head"), parse("object_plural")
_NO_HEAD = [parse(pattern) for pattern in ("object_head object_head|place_only|premises|body", "depiction of")]
_LIKENED = parse("liked determiner? attribute*3 object_head")
_NEW = parse("article attribute*4 object_head")
_SEVERAL = [
    parse(pattern)
    for pattern in (
        "joint",
        "amount attribute*3 object_head",
        "object_head joining determiner? attribute*3 object_head",
        "object_head joining determiner attribute*3 clothing",
        "object_head !separator*4 comparison",
        "object_head !separator*4 comparing than",
    )
]
_INSTEAD = [parse(pattern) for pattern in ("clothing", "body", "article attribute*3 nature|sky|space")]
_OBJECT_PATTERNS = (_OBJECT, _PLURAL, *_NO_HEAD, _LIKENED, _NEW, *_SEVERAL, *_INSTEAD)


def count_objects(units: Units, matcher: Matcher, rows: npt.NDArray[np.int64]) -> tuple[Bools, Bools]:
    """Tell prompts of several objects from prompts of one.

    Parts, worn clothes and surroundings are no objects of their own (class `object_head` leaves them out); where there
    is nothing else, a garment, a part or a piece of nature is the object. Neither is what something is only likened to,
    nor the picture of something. In a compound ("robot dog") the last word counts. The same word counts once, unless
    it is introduced twice ("a chair next to a chair").

    Args:
        units: A batch of units.
        matcher: Of the same batch.
        rows: (units,) the prompt of each unit.

    Returns:
        (prompts,) True where there are several, (prompts,) True where there is exactly one.
    """
    prompts = len(units.ends)
    heads = matcher.starts(_OBJECT) & ~matcher.ends(_LIKENED)
    heads &= ~matcher.starts(*_NO_HEAD)
    several, instead = np.zeros(prompts, bool), np.zeros(prompts, bool)
    several[rows[heads & matcher.starts(_PLURAL)]] = True
    several |= np.bincount(rows[heads & matcher.ends(_NEW)], minlength=prompts) > 1
    several[rows[matcher.starts(*_SEVERAL)]] = True
    # Two words of a prompt are different where one differs from its first: counting the different ones with unique took
    # 7 % of the time of labels.
    places = np.flatnonzero(heads)
    first = np.full(prompts, UNKNOWN)
    first[rows[places[::-1]]] = units.entries[places[::-1]]
    several[rows[places[units.entries[places] != first[rows[places]]]]] = True
    instead[rows[matcher.starts(*_INSTEAD)]] = True
    instead[rows[places]] = True
    return several, instead & ~several


_PART_BITS = 14
"""Label sets are expanded in parts of so many bits: whole sets are nearly all different, parts are few."""
_RULE_KEYS = {"any", "min", "none", "objects"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds for a prompt in which `patterns` begin at `least` places or more and `vetoes` nowhere.

    With `objects`, it holds for prompts of one object, or of several, instead.
    """

    patterns: tuple[Pattern, ...]
    least: int
    vetoes: tuple[Pattern, ...]
    objects: Literal["one", "several"] | None


@dataclass(frozen=True, slots=True)
class Category:
    """A sub-category: assigned when any of its rules holds."""

    name: str
    dimension: str
    definition: str
    rules: tuple[Rule, ...]


class Labeller:
    """The rules, bound to a lexicon. A label set is a 64-bit number; bit i stands for `names[i]`."""

    def __init__(self, lexicon: Lexicon, data: dict[str, Any]) -> None:
        """Build from the parsed TOML. Raises ValueError on an unknown key, word list or class."""
        self.classes = Classes(lexicon, data["classes"], data.get("contexts", {}))
        made = []
        for dimension, entries in data["dimensions"].items():
            for name, entry in entries.items():
                rules = []
                for rule in entry["rules"]:
                    # A misspelt key would make a rule that never holds, or always.
                    if not rule.keys() <= _RULE_KEYS:
                        expected = ", ".join(sorted(_RULE_KEYS))
                        raise ValueError(f"category {name}: unknown key in {rule}; expected {expected}")
                    patterns, vetoes = (tuple(map(parse, rule.get(key, []))) for key in ("any", "none"))
                    rules.append(Rule(patterns, rule.get("min", 1), vetoes, rule.get("objects")))
                made.append(Category(name, dimension, entry["definition"], tuple(rules)))
        self.categories = tuple(made)
        self.names = tuple(category.name for category in self.categories)
        # Every pattern is looked at before the first prompt, so that a mistake in the file is told at once.
        rules = [rule for category in self.categories for rule in category.rules]
        for pattern in (*(one for rule in rules for one in (*rule.patterns, *rule.vetoes)), *_OBJECT_PATTERNS):
            self.classes.prepare(pattern)

    def label(self, units: Units, lexicon: Lexicon) -> UInt64s:
        """Assign sub-categories to a batch of prompts.

        Args:
            units: Of the prompts.
            lexicon: The one that the units and this labeller come from.

        Returns:
            (prompts,) label set of each.
        """
        rows = np.repeat(np.arange(len(units.ends)), np.diff(units.ends, prepend=-1))  # the prompt of each unit
        units = units._replace(entries=hide_quoted(units.entries, rows, lexicon))
        matcher = Matcher(units, self.classes)
        labels = np.zeros(len(units.ends), np.uint64)
        several, one = count_objects(units, matcher, rows)

        def begin(patterns: tuple[Pattern, ...]) -> Int64s:
            """(prompts,) number of places where one of the patterns begins."""
            return np.bincount(rows[np.flatnonzero(matcher.starts(*patterns))], minlength=len(labels))

        for bit, category in enumerate(self.categories):
            for rule in category.rules:
                if rule.objects:
                    holds = one if rule.objects == "one" else several
                else:
                    holds = begin(rule.patterns) >= rule.least
                    if rule.vetoes and holds.any():
                        holds &= begin(rule.vetoes) == 0
                labels[holds] |= np.uint64(1 << bit)
        return labels

    def pack(self, names: Iterable[str]) -> int:
        """Label set of the given names, each counted once.

        Raises:
            ValueError: there is no such name.
        """
        return sum({1 << self.names.index(name) for name in names})

    def expand(self, labels: UInt64s) -> pl.Series:
        """Give label sets back as names.

        Args:
            labels: (prompts,) label sets.

        Returns:
            (prompts,) lists of names, each in the order of `names`.
        """
        # A list in Python for each of two million prompts would take longer than labelling them; polars picks from the
        # lists of the few distinct parts instead.
        parts = []
        for begin in range(0, len(self.names), _PART_BITS):
            part = (labels >> np.uint64(begin)) & np.uint64((1 << _PART_BITS) - 1)
            distinct, where = np.unique(part, return_inverse=True)
            lists = [[name for bit, name in enumerate(self.names[begin:]) if int(p) >> bit & 1] for p in distinct]
            parts.append(pl.Series(f"part{begin}", lists, pl.List(pl.String)).gather(where))
        return pl.DataFrame(parts).select(pl.concat_list(pl.all()).alias("categories")).to_series()


@cache
def load() -> Labeller:
    """The packaged rules."""
    text = files("dyneval.prompts").joinpath("data", "categories.toml").read_text("utf-8")
    return Labeller(lexicon.load(), tomllib.loads(text))
