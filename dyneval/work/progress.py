"""How far a step is: a bar on a terminal; elsewhere, as in the file of a batch job, a line of the log a minute.

A bar in such a file would be thousands of copies of itself on one line, with carriage returns between them.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from dyneval.errors import without_secrets

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

PERIOD = 60.0
"""Seconds between two lines of the log."""


class _SecretFreeFormatter(logging.Formatter):
    """Lines of the log, whoever writes them, without passwords in addresses."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def log_to_stderr(form: str, level: int = logging.WARNING) -> None:
    """Send the log of this process to stderr, in the form of logging's own format strings, without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(_SecretFreeFormatter(form))
    logging.basicConfig(handlers=[handler], level=level)


def bar(label: str, total: int | None, unit: str, *, is_quiet: bool = False) -> Bar:
    """A progress bar over so many items (None: nobody knows), to be used in a `with` statement.

    `unit` is what one item is called: "img", "pair". A quiet one counts and tells nothing.
    """
    return Bar(label, total, unit, is_quiet)


class Bar:
    """Counts items that are done and tells of them; `bar` makes one."""

    def __init__(self, label: str, total: int | None, unit: str, is_quiet: bool = False) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self._note = ""
        self._told_at = self._started = time.monotonic()
        self._told = 0
        self._drawn = _tqdm_bar(label, total, unit) if sys.stderr.isatty() and not is_quiet else None
        self._period = math.inf if is_quiet else PERIOD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.close()
        elif self._told != self.done and time.monotonic() - self._started >= self._period:
            self._tell(time.monotonic())  # a log that told of the work also tells of its end

    def update(self, count: int = 1) -> None:
        """Count items that are done."""
        self.done += count
        if self._drawn is not None:
            self._drawn.update(count)
        elif (now := time.monotonic()) - self._told_at >= self._period:
            self._tell(now)

    def note(self, text: str) -> None:
        """Say something about the work so far, shown behind the figures."""
        self._note = text
        if self._drawn is not None:
            self._drawn.set_postfix_str(text, refresh=False)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass `items` through, counting each when the next one is asked for."""
        for item in items:
            yield item
            self.update()

    def _tell(self, now: float) -> None:
        # Rate and remaining time by what was done since the line before: that a resumed run passes over finished items
        # quickly says nothing of the rest.
        rate = (self.done - self._told) / max(now - self._told_at, 1e-9)
        parts = [f"{self.label}: {self.done}" + ("" if self.total is None else f"/{self.total}") + f" {self.unit}"]
        parts.append(f"{rate:.3g} {self.unit}/s")
        if self.total is not None and rate > 0:
            parts.append(f"{span((self.total - self.done) / rate)} left")
        logger.info("%s", ", ".join([*parts, self._note] if self._note else parts))
        self._told_at, self._told = now, self.done


def _tqdm_bar(label: str, total: int | None, unit: str) -> Any:
    from tqdm import tqdm

    # Prompts are read by the hundred thousand a second: 1.20M says more than 1203871.
    return tqdm(
        desc=label, total=total, unit=unit, unit_scale=total is None or total > 99_999, smoothing=0.05, mininterval=0.5
    )


def span(seconds: float) -> str:
    """A duration as 2:05:09."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
