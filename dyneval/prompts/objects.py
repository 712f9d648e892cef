"""How many objects a prompt asks for: one, several, or none that the word lists know."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dyneval.prompts.patterns import Bools, Matcher, parse
from dyneval.prompts.units import Units

_OBJECT, _PLURAL = parse("object_head"), parse("object_plural")
_NO_HEAD = [parse(pattern) for pattern in ("object_head object_head|place_only|premises|body", "depiction of")]
_LIKENED = parse("liked determiner? attribute*3 object_head")
_NEW = parse("article attribute*4 object_head")
_SEVERAL = [
    parse(pattern)
    for pattern in (
        "joint",
        "many attribute*3 object_head",
        "object_head joining determiner? attribute*3 object_head",
        "object_head joining determiner attribute*3 clothing",
        "object_head !separator*4 comparison",
        "object_head !separator*4 comparing than",
    )
]
_INSTEAD = [parse(pattern) for pattern in ("clothing", "body", "article attribute*3 nature|sky|space")]


def count(units: Units, matcher: Matcher, rows: npt.NDArray[np.int64]) -> tuple[Bools, Bools]:
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
    heads = matcher.starts(_OBJECT) & ~matcher.ends(_LIKENED)
    for pattern in _NO_HEAD:
        heads &= ~matcher.starts(pattern)
    several = _different(heads & matcher.starts(_PLURAL), units, rows) > 0
    several |= np.bincount(rows[heads & matcher.ends(_NEW)], minlength=len(units.ends)) > 1
    for pattern in _SEVERAL:
        several[rows[matcher.starts(pattern)]] = True
    number = _different(heads, units, rows)
    instead = np.zeros(len(units.ends), bool)
    for pattern in _INSTEAD:
        instead[rows[matcher.starts(pattern)]] = True
    return several | (number > 1), ((number == 1) | ((number == 0) & instead)) & ~several


def _different(heads: Bools, units: Units, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(prompts,) how many different words are heads."""
    places = np.flatnonzero(heads)
    distinct = np.unique((rows[places] << 32) | units.entries[places]) >> 32
    return np.bincount(distinct, minlength=len(units.ends))
