"""Filters: named functions that keep, change or drop prompts, and the account of what each of them did.

    $ python extract_diverse_prompts.py --list-filters
    $ python extract_diverse_prompts.py --input p.txt --output out --filter weights --filter language=en,fr --filter pii

`FILTERS` is the whole table. A filter of one's own is named `module:function`, with or without `=VALUE`. The function
gets the prompts as a polars Series (and VALUE, a text) and returns, for each, whether to keep it (bool) or the text to
go on with (None drops it). Every row that a run leaves out is counted in `Drops`; a row that nothing counts would be a
prompt that vanished.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import IO, NamedTuple

import polars as pl

from dyneval.errors import SettingError
from dyneval.prompts.text import SIGNS
from dyneval.registry import own

Apply = Callable[[pl.DataFrame], pl.Series]
"""Rows with a column `prompt` -> for each, whether it is kept, or its new text (None drops it)."""
SAMPLES, _SAMPLE_CHARS = 3, 200
_WORD = r"[\pL\pN]+"
_SIGNS = SIGNS[1:-1]

ALWAYS: dict[str, str] = {
    "unreadable": "the row could not be parsed (not JSON, no such column, not text); listed in the rejects file",
    "missing": "the prompt is NULL",
    "nsfw_prompt": "prompt_nsfw is above the limit",
    "nsfw_image": "image_nsfw is above the limit",
    "exact_duplicate": "the same text was read before",
    "too_short": "fewer characters than the minimum, after cleaning; empty prompts too",
    "too_long": "more characters than the maximum, after cleaning",
    "excluded": "equal or nearly equal to a prompt of an exclusion file (leakage)",
    "near_duplicate": "nearly equal to a kept prompt of its cluster",
    "between_tiers": "rank tiering leaves out the lower half of the top third and the upper half of the bottom third",
    "not_selected": "the selection took enough others",
    "unlabelled": "the language model gave no usable labels; run again to ask once more",
}
"""Reasons for which rows are dropped without a filter being asked for, in the order in which rows meet them."""


class Filter(NamedTuple):
    """One filter of a run. `name` is the reason that is counted."""

    name: str
    meaning: str
    apply: Apply


class FilterKind(NamedTuple):
    """A row of `FILTERS`: what it does, its value where none is given (None: one is needed), and how it is made."""

    meaning: str
    default: str | None
    make: Callable[[str], Apply]  # from the value; raises ValueError, to which `parse` adds the filter's name


def parse(text: str) -> Filter:
    """Make a filter from what stands behind --filter.

    Args:
        text: NAME[=VALUE], a name of `FILTERS`, or module:function[=VALUE].

    Raises:
        SettingError: there is no such filter, or it does not take the value.
    """
    name, has_value, value = text.partition("=")
    if ":" in name:
        return Filter(name, f"{text} did not keep it", _own(name, value if has_value else None))
    kind = FILTERS.get(name)
    if kind is None:
        raise SettingError(f"--filter {text}: no such filter; expected {', '.join(FILTERS)}, or module:function")
    if not has_value and kind.default is None:
        raise SettingError(f"--filter {name}: needs a value, {name}=VALUE: {kind.meaning}")
    try:
        apply = kind.make(value if has_value else kind.default or "")
    except ValueError as error:
        raise SettingError(f"--filter {text}: {error}") from error
    return Filter(name, kind.meaning, apply)


def listing() -> str:
    """The table of filters, for people."""
    rows = [(f"{name}=VALUE" if kind.default is None else f"{name}[={kind.default or 'VALUE'}]", kind.meaning)
            for name, kind in FILTERS.items()]  # fmt: skip
    rows.append(("module:function[=VALUE]", "your own; gets the prompts, returns whether to keep each or its text"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {meaning}" for name, meaning in rows)


# ---------------------------------------------------------------------------------------------------------------------
# The filters


def _length(value: str) -> Apply:
    """Keep prompts of MIN to MAX words."""
    match = re.fullmatch(r"(\d*)-(\d*)", value)
    if match is None or not any(match.groups()):
        raise ValueError("expected MIN-MAX, MIN- or -MAX")
    low, high = int(match[1] or 0), float(match[2] or "inf")
    if low > high:
        raise ValueError(f"{low} is more than {high:g}")
    count = pl.col("prompt").str.count_matches(_WORD)
    return lambda rows: rows.select(count.is_between(low, high)).to_series()


def _words(value: str) -> Apply:
    """Drop what holds a word or phrase of a file, or of the packaged list."""
    path = Path(value) if value else files("dyneval.prompts").joinpath("data", "nsfw.txt")
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{value} cannot be read ({error})") from error
    words = [line.strip().lower() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise ValueError(f"{value} holds no words; expected a word or phrase a line")

    def apply(rows: pl.DataFrame) -> pl.Series:
        text = pl.col("prompt").str.to_lowercase()
        # A list of 20,000 words is more than a regular expression takes; most prompts hold none of them.
        found = rows.select(text=text, hits=text.str.extract_many(words, overlapping=True))
        clean = [not any(_whole(hit).search(one) for hit in hits) for one, hits in zip(*found, strict=True)]
        return pl.Series(clean, dtype=pl.Boolean)

    return apply


@cache  # of the words that occur: making all patterns of a list of 20,000 takes half a minute
def _whole(word: str) -> re.Pattern[str]:
    """Finds a word where no letter stands before or after it; signs of Chinese and Japanese stand side by side."""
    before, after = (f"(?<![^\\W{_SIGNS}])", f"(?![^\\W{_SIGNS}])")
    sign = re.compile(f"[{_SIGNS}]")
    return re.compile(
        ("" if sign.match(word[0]) else before) + re.escape(word) + ("" if sign.match(word[-1]) else after)
    )


def _repetition(value: str) -> Apply:
    """Drop what repeats its own words: the share of words that were there before is above the limit."""
    limit = float(value) if re.fullmatch(r"\d*\.?\d+", value) else -1.0
    if not 0 <= limit <= 1:
        raise ValueError("expected a number from 0 to 1")
    words = pl.col("prompt").str.to_lowercase().str.extract_all(_WORD)
    repeated = 1 - words.list.n_unique() / words.list.len().clip(1)
    return lambda rows: rows.select(repeated <= limit).to_series()


def _language(value: str) -> Apply:
    """Keep prompts in one of these languages (ISO 639-1), as py3langid finds it."""
    wanted = {name.strip() for name in value.split(",")}
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise SettingError("--filter language needs the package py3langid (extra language)") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    if unknown := wanted - set(map(str, identifier.labels)):
        raise ValueError(f"no language {', '.join(sorted(unknown))}; expected ISO 639-1 codes such as en,fr,zh")
    return lambda rows: pl.Series([identifier.classify(one)[0] in wanted for one in rows["prompt"]], dtype=pl.Boolean)


def _marks(patterns: tuple[tuple[str, str], ...], value: str) -> Apply:
    """Take marks out of prompts (strip), or drop prompts that have some."""
    if value not in ("strip", "drop"):
        raise ValueError("expected strip or drop")
    if value == "drop":
        found = pl.any_horizontal(pl.col("prompt").str.contains(pattern) for pattern, _ in patterns)
        return lambda rows: rows.select(~found).to_series()
    text = pl.col("prompt")
    for pattern, replacement in patterns * _DEPTH:
        text = text.str.replace_all(pattern, replacement)
    return lambda rows: rows.select(text).to_series()


_DEPTH = 3
"""How often marks are taken out: they stand within one another, as in ((a cat:1.2), red)."""
_WEIGHTS = (r"\(([^()]*?):\s*[0-9.]+\s*\)", "$1"), (r"\(\(+([^()]*)\)\)+", "$1"), (r"\[([^\[\]:|]*)\]", "$1")
_BRACES = (r"\{([^{}]*)\}", "$1"), (r"(\w)::\s*-?[0-9.]+", "$1")
_LORA = (r"(?i)<(?:lora|lyco|locon|hypernet|embedding|ti)\s*:[^<>]*>", "")
_NUMBERED = (
    "ar|aspect|beta|chaos|c|creative|cw|draft|exp|fast|hd|height|h|hq|iw|mp|niji|ow|quality|q|raw|relax|repeat|r|sameseed|"
    "seed|stop|stylize|sw|s|testp|test|tile|turbo|upanime|upbeta|uplight|version|video|v|weird|width|w"
)
# Telephones write a dash for "--", and so do people who write prose: only names that are known are options. What --no
# takes goes on to the next option, what --style takes is a word.
_OPTIONS = (
    r"(?i)(?:^|\s)(?:--|—)"
    rf"(?:no(?:\s+[^\s\-—]\S*)+|(?:style|sref|cref|oref|profile|p)\s+\S+|(?:{_NUMBERED})(?:\s*[\d.:]+\b|\b))",
    " ",
)
_MAIL = (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "")
_PHONE = (r"(?:\+\d[\d ().-]{7,}\d)|(?:\b\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b)", "")
_PERSONAL = re.compile(rf"{_MAIL[0]}|{_PHONE[0]}")
"""What no sample shows."""
_URL = (r"(?i)\b(?:https?://|www\.)\S+", "")

FILTERS: dict[str, FilterKind] = {
    "words": FilterKind("words, MIN-MAX", None, _length),
    "language": FilterKind("language, as ISO 639-1 codes: en or en,fr,zh", None, _language),
    "nsfw-words": FilterKind(
        "drop prompts with a word of this file, a word a line (default: a packaged list)", "", _words
    ),
    "repetition": FilterKind("drop prompts of whose words more than this share were said before", "0.6", _repetition),
    "weights": FilterKind(
        "prompt weights such as (red hat:1.2), ((red hat)), red::2: strip or drop",
        "strip",
        partial(_marks, (*_WEIGHTS, *_BRACES)),
    ),
    "lora": FilterKind("tags of adapters such as <lora:name:0.8>: strip or drop", "strip", partial(_marks, (_LORA,))),
    "options": FilterKind(
        "options of image models such as --ar 16:9: strip or drop", "strip", partial(_marks, (_OPTIONS,))
    ),
    "urls": FilterKind("web addresses: strip or drop", "strip", partial(_marks, (_URL,))),
    "pii": FilterKind(
        "e-mail addresses and telephone numbers: strip or drop", "drop", partial(_marks, (_MAIL, _PHONE))
    ),
}
"""Every filter by its name."""


def _own(name: str, value: str | None) -> Apply:
    function = own(name, f"--filter {name}")
    more = () if value is None else (value,)

    def apply(rows: pl.DataFrame) -> pl.Series:
        kept = pl.Series(function(rows["prompt"], *more))
        if kept.dtype == pl.Null:  # a list of None has no type of its own: the filter drops all
            kept = kept.cast(pl.String)
        if len(kept) != len(rows) or kept.dtype not in (pl.Boolean, pl.String):
            told = f"{len(kept)} values of {kept.dtype} for {len(rows)} prompts"
            raise SettingError(f"--filter {name}: returned {told}; expected one of bool or text for each")
        return kept

    return apply


# ---------------------------------------------------------------------------------------------------------------------
# What they did


_TOLD = ("prompt", "prompt_nsfw", "image_nsfw", "source", "prompt_id", "cluster_id")
"""Columns of a dropped row that are written."""


class Drops:
    """Counts rows by the reason they were dropped for, and texts by the filter that changed them, with samples.

    With `file` (binary) given, dropped rows are written to it as JSONL.
    """

    def __init__(self, filters: Iterable[Filter] = (), file: IO[bytes] | None = None) -> None:
        self.meanings = ALWAYS | {one.name: one.meaning for one in filters}
        self.counts: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.samples: dict[str, list[str]] = {}
        """A few of the prompts that each reason met, shortened; of changed ones, the text before."""
        self._file = file

    def keep(self, reason: str, rows: pl.DataFrame, keep: pl.Series) -> pl.DataFrame:
        """Leave rows out.

        Args:
            reason: Why, a key of `meanings`.
            rows: With a column prompt and any others.
            keep: (rows,) True for those that stay.

        Returns:
            The rows that stay; the others are counted, and written where rows are wanted.

        Raises:
            ValueError: there is no such reason.
        """
        bad = (~keep).arg_true()
        if not len(bad):
            return rows
        if reason not in self.meanings:
            raise ValueError(f"unknown reason {reason!r}")  # the report would have no words for it
        self.counts[reason] += len(bad)
        self.sample(reason, rows["prompt"], bad)
        if self._file is not None:
            told = [name for name in _TOLD if name in rows.columns]
            rows[bad].select(pl.lit(reason).alias("reason"), *told).write_ndjson(self._file)
        return rows.filter(keep)

    def sample(self, reason: str, prompts: pl.Series, places: pl.Series) -> None:
        """Keep a few of the prompts at `places` for the report, without the addresses and numbers of people."""
        found = self.samples.setdefault(reason, [])
        some = prompts[places.head(SAMPLES - len(found))] if len(found) < SAMPLES else ()
        found += [_PERSONAL.sub("[...]", text)[:_SAMPLE_CHARS] for text in some if text]

    def apply(self, one: Filter, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that a filter keeps, with the texts that it gives them."""
        if rows.is_empty():
            return rows
        found = one.apply(rows)
        if found.dtype == pl.Boolean:
            return self.keep(one.name, rows, found.fill_null(True))
        other = (found != rows["prompt"]).fill_null(False).arg_true()
        if len(other):
            self.changed[one.name] += len(other)
            self.sample(one.name, rows["prompt"], other)
        return self.keep(one.name, rows, found.is_not_null()).with_columns(found.drop_nulls().alias("prompt"))

    def summary(self) -> dict[str, int]:
        """Counts in the order in which rows meet the reasons, reasons without rows left out."""
        return {reason: self.counts[reason] for reason in self.meanings if self.counts[reason]}
