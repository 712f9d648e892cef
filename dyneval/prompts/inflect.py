"""English inflection: the forms of a noun, verb or adjective that a prompt may use, made when the lexicon is loaded.

Generating forms once, rather than reducing every word of every prompt to a lemma, keeps matching a table lookup.
"""

from __future__ import annotations

import re

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
