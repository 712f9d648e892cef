"""Do work ahead of its use, in threads or in tasks of an event loop, with a bound on how many results wait.

    from dyneval.work.ahead import ahead

    print(list(ahead((lambda n=n: n * n for n in range(5)), threads=2)))

A scorer reads the next images while it scores, a client has many requests in flight. Without the bound, a fast reader
would fill the memory with the images of a whole table.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def ahead(tasks: Iterable[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """Yield what `tasks` return, in order.

    Args:
        tasks: functions; at most twice as many as `threads` are taken before the first result is yielded.
        threads: how many run at the same time, at least 1.

    What a task raises is raised in its place. Tasks that have not begun are then dropped, as when the caller stops.
    """
    # Twice: one task that takes long then leaves the other threads something to do.
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


async def ahead_async(
    tasks: AsyncIterable[Callable[[], Awaitable[Result]]], together: int
) -> AsyncGenerator[Result, None]:
    """As `ahead` for coroutine functions, of which `together` run at the same time in the event loop.

    A caller that stops before the end must close the iterator (`contextlib.aclosing`), which cancels the tasks.
    """
    under_way: deque[asyncio.Task[Result]] = deque()
    turns = asyncio.Semaphore(together)

    async def in_turn(task: Callable[[], Awaitable[Result]]) -> Result:
        async with turns:
            return await task()

    try:
        async for task in tasks:
            under_way.append(asyncio.create_task(in_turn(task)))
            if len(under_way) >= 2 * together:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for one in under_way:
            one.cancel()
        # Cancelling only asks a task to end: wait, so that none still uses what the caller closes next.
        await asyncio.gather(*under_way, return_exceptions=True)


async def together(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run `work` in `count` tasks until all have ended; if one raises, or the caller is cancelled, all others end.

    When this returns, no task is still running.
    """
    workers = [asyncio.create_task(work()) for _ in range(count)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def each(values: Iterable[Result] | AsyncIterable[Result]) -> AsyncIterator[Result]:
    """Yield the values of an iterable or of an asynchronous iterable."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
