"""Show how far a step is: a progress bar on a terminal, and a line of the log each minute elsewhere.

    from dyneval.work.progress import bar

    with bar("score", total=3, unit="pair") as progress:
        for pair in progress.over(["a", "b", "c"]):
            progress.note(f"at {pair}")

In the output file of a batch job a bar would be thousands of copies of itself on one line, with carriage returns
between them. Every log line is written without the passwords and keys that addresses may hold.
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
SETTLED = 10.0
"""Seconds after which a bar shows the remaining time: before, loading and finished items that are skipped decide it."""
_UNSETTLED = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
"""The form of tqdm's own bar without the remaining time."""


class _SecretFreeFormatter(logging.Formatter):
    """Formats log lines, also those of libraries, without passwords and queries in addresses."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def log_to_stderr(form: str, level: int = logging.WARNING) -> None:
    """Send the log of this process to stderr, without secrets.

    Args:
        form: format string of the logging module, such as "%(message)s".
        level: lowest level that is shown.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_SecretFreeFormatter(form))
    logging.basicConfig(handlers=[handler], level=level)


def bar(label: str, total: int | None, unit: str, *, is_quiet: bool = False) -> Bar:
    """Make a progress bar, to be used in a `with` statement.

    Args:
        label: what is being done.
        total: number of items; None: it is not known.
        unit: what one item is called, such as "img" or "pair".
        is_quiet: count the items, and show nothing.
    """
    return Bar(label, total, unit, is_quiet)


class Bar:
    """Counts finished items and shows the count; `bar` makes one."""

    def __init__(self, label: str, total: int | None, unit: str, is_quiet: bool = False) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self._note = ""
        self._logged_at = self._started = time.monotonic()
        self._logged = 0
        self._drawn: Any = None
        self._period = math.inf if is_quiet else PERIOD
        if sys.stderr.isatty() and not is_quiet:
            from tqdm import tqdm

            # Prompts are read by the hundred thousand a second: 1.20M says more than 1203871.
            is_large = total is None or total > 99_999
            # Of an unknown total there is no remaining time, and tqdm has another form.
            form = _UNSETTLED if total else None
            self._drawn = tqdm(
                desc=label,
                total=total,
                unit=unit,
                unit_scale=is_large,
                smoothing=0.05,
                mininterval=0.5,
                bar_format=form,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.close()
        elif self._logged != self.done and time.monotonic() - self._started >= self._period:
            self._log(time.monotonic())  # a log that shows the work also shows its end

    def update(self, count: int = 1) -> None:
        """Count finished items."""
        self.done += count
        if self._drawn is not None:
            if time.monotonic() - self._started >= SETTLED:
                self._drawn.bar_format = None
            self._drawn.update(count)
        elif (now := time.monotonic()) - self._logged_at >= self._period:
            self._log(now)

    def note(self, text: str) -> None:
        """Set a text about the work so far, which is shown behind the figures."""
        self._note = text
        if self._drawn is not None:
            self._drawn.set_postfix_str(text, refresh=False)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass `items` through, counting each when the next one is asked for."""
        for item in items:
            yield item
            self.update()

    def _log(self, now: float) -> None:
        # Rate and remaining time come from what was done since the line before: a resumed run skips finished items in
        # no time, which says nothing about the rest.
        rate = (self.done - self._logged) / max(now - self._logged_at, 1e-9)
        parts = [f"{self.label}: {self.done}" + ("" if self.total is None else f"/{self.total}") + f" {self.unit}"]
        parts.append(f"{rate:.3g} {self.unit}/s")
        if self.total is not None and rate > 0:
            parts.append(f"{span((self.total - self.done) / rate)} left")
        logger.info("%s", ", ".join([*parts, self._note] if self._note else parts))
        self._logged_at, self._logged = now, self.done


def span(seconds: float) -> str:
    """A duration in seconds as hours, minutes and seconds: 2:05:09."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
