"""Prompts as a stream of hashed tokens: whole batches at once in numpy, without a Python object per word.

A token is a word (a run of ASCII letters and digits and of non-ASCII characters, ASCII upper case folded) or a single
mark such as "," or '"'. Blanks, hyphens, apostrophes and underscores only separate, so "sci-fi", "sci - fi" and
"sci fi" are the same two tokens. A character of Chinese or Japanese is a word. A line feed ends each prompt.
"""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

FOLD: dict[str, str] = {
    **dict.fromkeys("“”„‟«»″〝〞「」『』", '"'),
    **dict.fromkeys("‘’‚‛′`´ʼ", "'"),
    **dict.fromkeys("‐‑‒–−", "-"),
    **dict.fromkeys("—―•·‧｜、，", ","),
    **{"…": ".", "。": ".", "！": "!", "？": "?", "：": ":", "；": ";", "（": "(", "）": ")", "×": "x", "＆": "&"},
}
"""Typographic punctuation and the ASCII character that stands for it while tokens are cut; prompts keep their own."""

SINGLE_QUOTES = r"(^|[ (:,])'([^' ]|[^' ][^']{0,60}[^' ])'($|[ ).,:;!?])"
"""Text in single quotes, as against apostrophes: quotes at the ends of words, outside and inside."""
_DOUBLE_QUOTES = '${1}"${2}"${3}'

SIGNS = r"[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
"""Characters of Chinese and Japanese, which are written without blanks: each is a token of its own."""
_OTHER_SCRIPT = r"[\pL--\p{Latin}]"

WORD, MARK, END_OF_PROMPT = 1, 2, 3
_SEPARATORS = b" -'_"


class Tokens(NamedTuple):
    """Tokens of a batch of prompts, in order; the last token of every prompt is its line feed.

    hashes: (tokens,) 64-bit hash of the token's lower-case bytes. first: (tokens,) its first byte. tail: (tokens,) the
    three bytes up to its last one as a number, see `tail`; lower-case all. ends: (prompts,) index of each line feed.
    """

    hashes: UInt64s
    first: Bytes
    tail: npt.NDArray[np.uint32]
    ends: Int64s


def tail(ending: str) -> int:
    """The number that `Tokens.tail` holds for a token with this three-letter ending."""
    return int.from_bytes(ending.encode(), "big")


def _byte_tables() -> tuple[bytes, bytes, UInt64s]:
    kind = np.full(256, MARK, np.uint8)
    kind[128:] = WORD
    for low, high in ("09", "AZ", "az"):
        kind[ord(low) : ord(high) + 1] = WORD
    kind[np.frombuffer(_SEPARATORS, np.uint8)] = 0
    kind[:32] = 0
    kind[ord("\n")] = END_OF_PROMPT
    lower = np.arange(256, dtype=np.uint8)
    lower[ord("A") : ord("Z") + 1] += 32
    # Fixed seed: the hashes decide MinHash signatures, which have to be the same on every machine.
    value = np.random.default_rng(20260711).integers(1, 2**63, 256, np.uint64)
    return kind.tobytes(), lower.tobytes(), value


_KIND, _LOWER, _VALUE = _byte_tables()
_BASE = 0x9E3779B97F4A7C15


@cache
def _powers(size: int) -> tuple[UInt64s, UInt64s]:
    """Powers 0..size of the base and of its inverse modulo 2**64."""
    powers = np.ones((2, size + 1), np.uint64)
    powers[0, 1:] = _BASE
    powers[1, 1:] = pow(_BASE, -1, 2**64)
    np.multiply.accumulate(powers, axis=1, out=powers)
    return powers[0], powers[1]


def in_other_script(prompts: pl.Series) -> npt.NDArray[np.bool_]:
    """(prompts,) True where half of the letters or more are not Latin: the word lists know none of these words."""
    prompt = pl.col("prompt")
    foreign = pl.when(prompt.str.len_bytes() != prompt.str.len_chars()).then(prompt)
    other, letters = foreign.str.count_matches(_OTHER_SCRIPT), foreign.str.count_matches(r"\pL")
    found = ((other * 2 >= letters) & (other > 0)).fill_null(False)
    return prompts.alias("prompt").to_frame().select(found).to_series().to_numpy()


def fold(prompts: pl.Series) -> pl.Series:
    """Replace typographic punctuation (see `FOLD`), make double quotes of single ones, put blanks around `SIGNS`."""
    prompt = pl.col("prompt")
    # The backtick is the only ASCII character that is folded.
    nothing_to_fold = (prompt.str.len_bytes() == prompt.str.len_chars()) & ~prompt.str.contains("`", literal=True)
    folded = pl.when(nothing_to_fold).then(prompt).otherwise(prompt.str.replace_many(list(FOLD), list(FOLD.values())))
    has_single = prompt.str.contains("'", literal=True)
    quoted = pl.when(has_single).then(prompt.str.replace_all(SINGLE_QUOTES, _DOUBLE_QUOTES)).otherwise(prompt)
    foreign = pl.when(prompt.str.len_bytes() != prompt.str.len_chars()).then(prompt)
    parted = pl.coalesce(foreign.str.replace_all(f"({SIGNS})", " $1 "), prompt)
    frame = prompts.alias("prompt").to_frame()
    for step in (folded, quoted, parted):
        frame = frame.select(step.alias("prompt"))
    return frame.to_series()


def tokenise(prompts: pl.Series) -> Tokens:
    """Cut prompts into tokens.

    Each token's hash is the polynomial sum(value[byte] * base**position) modulo 2**64; prefix sums over the whole
    batch and one multiplication by the inverse power give every token's hash without a loop.

    Raises:
        ValueError: a prompt contains a line feed; `dyneval.prompts.clean` removes them.
    """
    joined = fold(prompts).str.join("\n").item() if len(prompts) else None
    text = (joined + "\n").encode().translate(_LOWER) if joined is not None else b""
    data = np.frombuffer(text, np.uint8)
    starts, stops = _bounds(np.frombuffer(text.translate(_KIND), np.uint8))
    hashes = _hash(data, starts, stops)
    ends = np.flatnonzero(data[starts] == ord("\n"))
    if len(ends) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts hold {len(ends) - len(prompts)} line feeds; clean them first")
    return Tokens(hashes, data[starts], _tails(data, stops), ends)


def is_word(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """(tokens,) True for words, False for marks and line feeds."""
    return np.frombuffer(tokens.first.tobytes().translate(_KIND), np.uint8) == WORD


def _hash(data: Bytes, starts: Int64s, stops: Int64s) -> UInt64s:
    powers, inverses = _powers(1 << max(12, len(data).bit_length()))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(_VALUE[data.astype(np.int64)] * powers[: len(data)], out=sums[1:])
    return (sums[stops] - sums[starts]) * inverses[starts]


def _tails(data: Bytes, stops: Int64s) -> npt.NDArray[np.uint32]:
    tails = np.zeros(len(stops), np.uint32)
    for distance in (3, 2, 1):
        tails = (tails << np.uint32(8)) | data[np.maximum(stops - distance, 0)]
    return tails


def _bounds(kind: Bytes) -> tuple[Int64s, Int64s]:
    """First and one-past-last byte of every token."""
    is_word = kind == WORD
    single = kind > WORD
    begins, finishes = single | is_word, single | is_word
    begins[1:] &= ~(is_word[1:] & is_word[:-1])
    finishes[:-1] &= ~(is_word[:-1] & is_word[1:])
    return np.flatnonzero(begins), np.flatnonzero(finishes) + 1


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_in(values: npt.NDArray[np.uint64], ascending: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """(values,) True where a value occurs in the sorted array."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values
