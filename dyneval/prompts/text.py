"""Prompts as a stream of hashed tokens: whole batches at once in numpy, without a Python object per word.

Scores, labels and near-duplicates all start from these tokens, so this file decides what a word is. A token is a word
(a run of ASCII letters and digits and of non-ASCII characters, ASCII upper case folded) or a single mark such as ","
or '"'. Blanks, hyphens, apostrophes and underscores only separate, so "sci-fi", "sci - fi" and "sci fi" are the same
two tokens. A character of Chinese or Japanese is a word. A line feed ends each prompt. `wordlists.split` and the
plain implementation in `benchmarks/prompt_filter.py` cut by the same rule; a change here has to be made there, or
listed words are not found.
"""

from __future__ import annotations

import os
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
"""Kinds of bytes; 0 separates. Words come first: `kind > WORD` are the kinds whose every byte is a token of its own."""
_SEPARATORS = b" -'_"


class Tokens(NamedTuple):
    """Tokens of a batch of prompts, in order; the last token of every prompt is its line feed.

    hashes: (tokens,) 64-bit hash of the token's lower-case bytes, the same on every machine. first: (tokens,) its first
    byte. tail: (tokens,) the three bytes up to its last one as a number, see `tail`; lower-case all. ends: (prompts,)
    index of each line feed.
    """

    hashes: UInt64s
    first: Bytes
    tail: npt.NDArray[np.uint32]
    ends: Int64s


def tail(ending: str) -> int:
    """The number that `Tokens.tail` holds for a token with this three-letter ending."""
    return int.from_bytes(ending.encode(), "big")


# Tables over the 256 bytes for bytes.translate, which is the fastest way to classify text. Bytes from 128 on are
# parts of non-ASCII characters in UTF-8 and belong to words; control characters separate.
_KIND = bytes(
    END_OF_PROMPT if byte == ord("\n")
    else 0 if byte < 32 or byte in _SEPARATORS
    else WORD if byte >= 128 or chr(byte).isalnum()
    else MARK
    for byte in range(256)
)  # fmt: skip
_LOWER = bytes(byte + 32 if ord("A") <= byte <= ord("Z") else byte for byte in range(256))


def in_other_script(prompts: pl.Series) -> npt.NDArray[np.bool_]:
    """(prompts,) True where half of the letters or more are not Latin: the word lists know none of these words."""
    prompt = pl.col("prompt")
    # Bytes and characters differ where there is something besides ASCII. Most prompts have nothing, and counting
    # letters with a regular expression takes much longer than comparing two lengths.
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
    # A look for one character first: few prompts hold it, and the regular expression is slow.
    has_single = prompt.str.contains("'", literal=True)
    quoted = pl.when(has_single).then(prompt.str.replace_all(SINGLE_QUOTES, _DOUBLE_QUOTES)).otherwise(prompt)
    foreign = pl.when(prompt.str.len_bytes() != prompt.str.len_chars()).then(prompt)
    parted = pl.coalesce(foreign.str.replace_all(f"({SIGNS})", " $1 "), prompt)
    frame = prompts.alias("prompt").to_frame()
    for step in (folded, quoted, parted):
        frame = frame.select(step.alias("prompt"))
    return frame.to_series()


def tokenise(prompts: pl.Series) -> Tokens:
    """Cut prompts (one line each) into tokens.

    Raises:
        ValueError: a prompt contains a line feed; `dyneval.prompts.clean` removes them.
    """
    joined = fold(prompts).str.join("\n").item() if len(prompts) else None
    text = (joined + "\n").encode().translate(_LOWER) if joined is not None else b""
    data, kind = np.frombuffer(text, np.uint8), np.frombuffer(text.translate(_KIND), np.uint8)
    is_word, is_single = kind == WORD, kind > WORD
    begins, finishes = is_single | is_word, is_single | is_word
    begins[1:] &= ~(is_word[1:] & is_word[:-1])
    finishes[:-1] &= ~(is_word[:-1] & is_word[1:])
    starts, stops = np.flatnonzero(begins), np.flatnonzero(finishes) + 1
    ends = np.flatnonzero(data[starts] == ord("\n"))
    if len(ends) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts hold {len(ends) - len(prompts)} line feeds; clean them first")
    tails = np.zeros(len(stops), np.uint32)
    for distance in (3, 2, 1):
        tails = (tails << np.uint32(8)) | data[np.maximum(stops - distance, 0)]
    return Tokens(_hash(text, starts, stops), data[starts], tails, ends)


def is_word(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """(tokens,) True for words, False for marks and line feeds."""
    return np.frombuffer(tokens.first.tobytes().translate(_KIND), np.uint8) == WORD


def _hash(text: bytes, starts: Int64s, stops: Int64s) -> UInt64s:
    """Mix the bytes of each token, eight at a time; nine of ten tokens have no more than eight."""
    # A view with stride 1 has an 8-byte number at every byte of the text; a mask cuts the bytes of the token out of it,
    # whatever follows. The eight zeros let the last token be read without leaving the buffer.
    eights = np.ndarray(len(text) + 1, "<u8", text + b"\0" * 8, strides=(1,))
    lengths = stops - starts
    hashes = _mixed((eights[starts] & _MASKS[np.minimum(lengths, 8)]) ^ lengths.astype(np.uint64))
    longer = np.flatnonzero(lengths > 8)
    begin = 8
    while len(longer):
        more = eights[starts[longer] + begin] & _MASKS[np.minimum(lengths[longer] - begin, 8)]
        hashes[longer] = _mixed(hashes[longer] ^ more)
        begin += 8
        longer = longer[lengths[longer] > begin]
    return hashes


_MASKS = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)


def _mixed(values: UInt64s) -> UInt64s:
    # Multiply and shift with fixed numbers: the hash table takes bits from the middle and MinHash the upper half, so
    # all have to depend on every byte, and signatures have to be the same on every machine.
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(29))) * np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(32))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_in(values: npt.NDArray[np.uint64], ascending: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """(values,) True where a value occurs in the sorted array."""
    if not len(ascending):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values
