"""A bounded number of places that requests take, some at once, others in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque


class PlacePool:
    """Places of one event loop; who waits for one is served before anyone who came later."""

    def __init__(self, places: int) -> None:
        self.places = self.free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    def has(self, count: int = 1) -> bool:
        """True where so many are free, and nobody waits for one."""
        return count <= self.free and not self._waiting

    def take(self, count: int = 1) -> bool:
        """Take places if they are free and nobody waits for one."""
        if not self.has(count):
            return False
        self.free -= count
        return True

    async def take_in_turn(self) -> None:
        """Take a place when it is free; who is cancelled meanwhile has none."""
        if self.take():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it came in the same moment
            raise

    def give(self, count: int = 1) -> None:
        """Give places back: to those who wait first."""
        self.free += count
        while self._waiting and self.free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(None)
