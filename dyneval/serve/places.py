"""Places in the server's queue: a bounded number, given out at once or in the order in which requests came.

They bound the memory of the server, since each place may hold one decoded image. Two kinds of requests ask for them.
Those of ordinary clients take what they need at once or are refused with 429. Those of trainers wait for their turn,
because their clients end a training run when they are refused. Without the order, one trainer with a thousand images
would take each place that becomes free, and a small request behind it would wait for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque


class PlacePool:
    """The places of one event loop. Whoever waits for a place is served before anyone who came later.

    Attributes:
        places: how many there are.
        free: how many nobody holds.
    """

    def __init__(self, places: int) -> None:
        self.places = self.free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    def has(self, count: int = 1) -> bool:
        """Tell whether `count` places are free and nobody waits for one."""
        return count <= self.free and not self._waiting

    async def take_in_turn(self) -> None:
        """Take one place, and wait for it if none is free. A caller that is cancelled while it waits holds no place."""
        if self.has():
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # The place may have come in the same moment as the cancelling. Kept, it would be lost for good.
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def give(self, count: int = 1) -> None:
        """Give `count` places back; those who wait get them first, the one that came first before the others."""
        self.free += count
        while self._waiting and self.free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(None)
