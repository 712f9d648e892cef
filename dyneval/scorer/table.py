"""The pairs that should be scored, from a table's rows or from image files. Light: nothing is opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dyneval.files.parts import Shard
from dyneval.files.tables import BadRow, text_of
from dyneval.records import prompt_id
from dyneval.scorer.pairs import Failure, default_pair_id
from dyneval.structs import Row


class Wanted(NamedTuple):
    """A pair that should be in the output; its image is a file, below the image folder where there is one."""

    pair_id: str
    prompt: str
    file_name: str
    prompt_id: str
    """The row's own, by which Steps 2 and 3 choose parts too, else that of the prompt's text."""


def wanted_pairs(rows: Iterable[Row | BadRow], shard: Shard | None = None) -> tuple[list[Wanted], list[Failure]]:
    """The pairs of a table, and what is wrong with its other rows, which count to the first part.

    Args:
        rows: with `prompt`, `file_name` and perhaps `pair_id` and `prompt_id`, texts or numbers.
        shard: take only this part.
    """
    wanted: dict[str, Wanted] = {}
    bad = []
    for number, row in enumerate(rows, 1):
        one = _wanted(row)
        if isinstance(one, str):
            bad.append(Failure(f"row {number}", one))
        elif one.pair_id in wanted:
            bad.append(
                Failure(one.pair_id, f"row {number} ({one.file_name}): the pair_id was used before in this file")
            )
        else:
            wanted[one.pair_id] = one
    if shard is None:
        return list(wanted.values()), bad
    mine = [one for one in wanted.values() if shard.holds(one.prompt_id)]
    return mine, bad if shard.index == 1 else []


def _wanted(row: Row | BadRow) -> Wanted | str:
    """The pair of a row, or what is wrong with it."""
    if isinstance(row, BadRow):
        return row.reason
    prompt, name = row.get("prompt"), row.get("file_name")
    if not isinstance(prompt, str) or not isinstance(name, str) or not name:
        return "expected the texts `prompt` and `file_name`"
    try:
        given = text_of(row.get("pair_id"))
    except TypeError as error:
        return f"pair_id: {error}"
    try:
        of_prompt = text_of(row.get("prompt_id"))
    except TypeError:  # nothing but the choice of a part hangs on it
        of_prompt = None
    return Wanted(
        default_pair_id(prompt, name) if given is None else given, prompt, name, of_prompt or prompt_id(prompt)
    )


def wanted_images(names: Sequence[str], prompt: str) -> list[Wanted]:
    """Image files that were made from one prompt; a file named twice counts once."""
    return [Wanted(default_pair_id(prompt, name), prompt, name, prompt_id(prompt)) for name in dict.fromkeys(names)]
