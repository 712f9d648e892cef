"""Work done ahead in threads, with a bound on how much of it is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def ahead(tasks: Iterable[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """Yield what `tasks` return, in order. At most twice as many as `threads` are taken before the first is yielded.

    What a task raises is raised in its place; those that have not begun are then dropped, as when the caller stops.
    """
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            for task in tasks:
                under_way.append(pool.submit(task))
                if len(under_way) >= 2 * threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
