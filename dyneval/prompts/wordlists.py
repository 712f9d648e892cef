"""The word lists under `data/words/`: one file a tag, read into (words of the entry, tags) pairs with all forms.

A file begins with `#` lines that define the tag; the line `# inflect: noun|verb|adjective|none` says which forms its
entries get. Entries are separated by commas or line ends and may have several words; `goose|geese` gives a form that
the rules would get wrong; `{comma}` and `{bar}` are those marks themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"[^aeiou]y$")
# One vowel between consonants at the end of a short word doubles the last letter: run, running; but not row, fix.
_DOUBLES = re.compile(r"^(?:[^aeiou]*|qu)[aeiou][bdgklmnprt]$")


def plural(noun: str) -> str:
    """Regular plural of a noun: fox -> foxes, city -> cities, cat -> cats."""
    if _SIBILANT.search(noun):
        return noun + "es"
    if _CONSONANT_Y.search(noun):
        return noun[:-1] + "ies"
    return noun + "s"


def present_participle(verb: str) -> str:
    """Regular -ing form of a verb: ride -> riding, tie -> tying, run -> running."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return (verb + verb[-1] if _DOUBLES.match(verb) else verb) + "ing"


def past(verb: str) -> str:
    """Regular -ed form of a verb: ride -> rided, carry -> carried, hug -> hugged."""
    if verb.endswith("e"):
        return verb + "d"
    if _CONSONANT_Y.search(verb):
        return verb[:-1] + "ied"
    return (verb + verb[-1] if _DOUBLES.match(verb) else verb) + "ed"


def comparative(adjective: str) -> str:
    """Regular comparative of a short adjective: big -> bigger, tiny -> tinier, large -> larger."""
    return past(adjective)[:-1] + "r"


_LISTED_PLURAL = re.compile(r"(?<![suia])s$|(?<=ie)s$")
"""Entries that look like plurals (stars, jeans) are taken for such; glass, bus, iris and canvas do not look so."""
Words = tuple[str, ...]
PLURAL = "plural"
"""Tag that noun lists give to their plural forms, beside their own."""
ING, BASE, FINITE, PAST = "ing", "base", "finite", "past"
"""Tags that verb lists give to their -ing, base, -s and past forms, beside their own."""
COMPARATIVE, SUPERLATIVE = "comparative", "superlative"
"""Tags that adjective lists give to their -er and -est forms, beside their own."""
_ESCAPES = {"{comma}": ",", "{bar}": "|"}
_WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+|[^\x00-\x20'_-]")


def split(text: str) -> Words:
    """Cut a lower-case text into tokens by the rule of `dyneval.prompts.text`."""
    return tuple(_WORD.findall(text))


@cache
def load() -> dict[Words, frozenset[str]]:
    """Every form of every entry with the tags of all lists that hold it.

    Raises:
        ValueError: a list names an unknown kind of inflection.
    """
    found: dict[Words, set[str]] = {}
    folder = files("dyneval.prompts").joinpath("data", "words")
    for file in sorted((item for item in folder.iterdir() if item.name.endswith(".txt")), key=lambda item: item.name):
        for words, tags in _read(file):
            found.setdefault(words, set()).update(tags)
    return {words: frozenset(tags) for words, tags in sorted(found.items())}


def _read(file: Traversable) -> Iterator[tuple[Words, tuple[str, ...]]]:
    tag = file.name.removesuffix(".txt")
    header, entries = _parse(file.read_text("utf-8"))
    kind = re.search(r"^#\s*inflect:\s*(\w+)", header, re.MULTILINE)
    if kind is None or kind[1] not in _FORMS:
        raise ValueError(f"{file.name}: needs a line '# inflect: {'|'.join(_FORMS)}'")
    for entry in entries:
        base, *extra = (split(_ESCAPES.get(form, form)) for form in entry.split("|"))
        if not base or not all(extra):
            raise ValueError(f"{file.name}: {entry!r} has a form without words")
        yield base, (tag,)
        for form, added in _FORMS[kind[1]](base, tuple(extra)):
            yield form, (tag, *added)


def _parse(text: str) -> tuple[str, list[str]]:
    lines = text.splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    body = ",".join(line for line in lines if not line.startswith("#"))
    return header, [entry.strip() for entry in body.split(",") if entry.strip()]


Forms = Iterator[tuple[Words, tuple[str, ...]]]


def _noun(base: Words, extra: tuple[Words, ...]) -> Forms:
    if not extra and _LISTED_PLURAL.search(base[-1]):
        yield base, (PLURAL,)
        return
    for form in extra or ((*base[:-1], plural(base[-1])),):
        yield form, (PLURAL,)


def _verb(base: Words, extra: tuple[Words, ...]) -> Forms:
    verb, rest = base[0], base[1:]
    yield base, (BASE,)
    yield (plural(verb), *rest), (FINITE,)
    for form in ((present_participle(verb), *rest), (past(verb), *rest), *extra):
        yield form, (ING if form[0].endswith("ing") else PAST,)


def _adjective(base: Words, extra: tuple[Words, ...]) -> Forms:
    if len(base) == 1:
        degree = comparative(base[0])
        yield (degree,), (COMPARATIVE,)
        yield (degree[:-1] + "st",), (SUPERLATIVE,)
    for form in extra:
        yield form, ()


def _unchanged(base: Words, extra: tuple[Words, ...]) -> Forms:
    for form in extra:
        yield form, ()


_FORMS = {"noun": _noun, "verb": _verb, "adjective": _adjective, "none": _unchanged}
