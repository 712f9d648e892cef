"""JSON request bodies with ready-made parts that are megabytes long, sent without being copied."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import orjson


class JsonBody:
    """JSON of a value in which `bytes` are JSON already: an HTTP client takes it piece by piece, as often as it must.

    To join the pieces first would copy every image once more for each request and each retry.
    """

    def __init__(self, value: Any) -> None:
        """Encode `value`. Raises TypeError where something in it has no JSON form."""
        ready: list[bytes] = []
        mark = secrets.token_hex(16)  # nobody who writes a prompt can know it

        def default(part: object) -> str:
            if not isinstance(part, bytes):
                raise TypeError
            ready.append(part)
            return mark

        first, *others = orjson.dumps(value, default=default).split(f'"{mark}"'.encode("ascii"))
        self._pieces = [first, *(piece for pair in zip(ready, others, strict=True) for piece in pair)]

    def __len__(self) -> int:
        """Bytes."""
        return sum(map(len, self._pieces))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each time from the first."""
        for piece in self._pieces:
            yield piece

    # The openai package repeats a request only if it can rewind its body as a file; this one always begins anew.

    def read(self) -> bytes:
        """All of it in one piece."""
        return b"".join(self._pieces)

    def seekable(self) -> bool:
        """It can be sent again."""
        return True

    def tell(self) -> int:
        """Where the next sending begins."""
        return 0

    def seek(self, position: int) -> int:
        """Go back to the begin, where it is anyway."""
        return 0
