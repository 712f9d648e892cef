"""The word lists under `data/words/`: one file a tag, read into (words of the entry, tags) pairs with all forms.

They hold what a score counts and what WordNet does not know: styles, artists, phrases, what an image model is told.
People edit them, so they are plain text and name each word once; its other forms are made here. A file begins with
`#` lines that define the tag; the line `# inflect: noun|verb|adjective|none` says which forms its entries get.
Entries are separated by commas or line ends and may have several words; `goose|geese` gives a form that the rules
would get wrong; `{comma}` and `{bar}` are those marks themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

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
    # In the order of the names, for the numbers of entries follow from it and have to be the same on every machine.
    for file in sorted((item for item in folder.iterdir() if item.name.endswith(".txt")), key=lambda item: item.name):
        tag, lines = file.name.removesuffix(".txt"), file.read_text("utf-8").splitlines()
        header = "\n".join(line for line in lines if line.startswith("#"))
        kind = re.search(r"^#\s*inflect:\s*(\w+)", header, re.MULTILINE)
        if kind is None or kind[1] not in _KINDS:
            raise ValueError(f"{file.name}: needs a line '# inflect: {'|'.join(_KINDS)}'")
        for entry in ",".join(line for line in lines if not line.startswith("#")).split(","):
            if not entry.strip():
                continue
            base, *extra = (split(_ESCAPES.get(form, form)) for form in entry.strip().split("|"))
            if not base or not all(extra):
                raise ValueError(f"{file.name}: {entry.strip()!r} has a form without words")
            found.setdefault(base, set()).add(tag)
            for form, added in _forms(kind[1], base, extra):
                found.setdefault(form, set()).update((tag, *added))
    return {words: frozenset(tags) for words, tags in sorted(found.items())}


_KINDS = ("noun", "verb", "adjective", "none")


def _forms(kind: str, base: Words, extra: list[Words]) -> Iterator[tuple[Words, tuple[str, ...]]]:
    """The forms of an entry of a list of this kind, each with its tags; `extra` are forms that the list gives."""
    if kind == "noun" and not extra and _LISTED_PLURAL.search(base[-1]):
        yield base, (PLURAL,)
    elif kind == "noun":
        for form in extra or ((*base[:-1], plural(base[-1])),):
            yield form, (PLURAL,)
    elif kind == "verb":
        verb, rest = base[0], base[1:]
        yield base, (BASE,)
        yield (plural(verb), *rest), (FINITE,)
        for form in ((present_participle(verb), *rest), (past(verb), *rest), *extra):
            yield form, (ING if form[0].endswith("ing") else PAST,)
    else:
        if kind == "adjective" and len(base) == 1:
            degree = comparative(base[0])
            yield (degree,), (COMPARATIVE,)
            yield (degree[:-1] + "st",), (SUPERLATIVE,)
        for form in extra:
            yield form, ()
