"""How requests are refused: one form of answer for every error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 1000
"""Characters of a message: one that quotes a body may quote all of it."""


class Refusal(Exception):
    """An answer other than the one hoped for: `status`, a `code` for programs and a `message` for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        message = message[:_LONGEST].encode("utf-8", "backslashreplace").decode()  # a body may have half a character
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"code": self.code, "message": self.message}


def busy(retry_after: int) -> Refusal:
    """429 with Retry-After."""
    message = f"the queue is full; try again in {retry_after} s"
    return Refusal(429, "busy", message, {"Retry-After": str(retry_after)})


def warming_up(retry_after: int) -> Refusal:
    """503 with Retry-After: the first pair is being scored, which on a GPU makes its kernels."""
    return Refusal(503, "warming_up", "the student is warming up", {"Retry-After": str(retry_after)})


def too_large(what: str, most: int) -> Refusal:
    """413; the rest of the body is not read, so the connection cannot serve another request."""
    return Refusal(413, "too_large", f"{what} is over {most} bytes", {"Connection": "close"})


def late(seconds: float) -> Refusal:
    """504: there is no answer within the time of a request."""
    return Refusal(504, "timeout", f"no result within {seconds:g} s")


def unavailable() -> Refusal:
    """503 with Retry-After: this machine, not the image, is why it cannot be decoded."""
    return Refusal(503, "unavailable", "images cannot be decoded at the moment", {"Retry-After": "5"})


def unprocessable(message: str) -> Refusal:
    """422: this pair cannot be scored, now or later."""
    return Refusal(422, "unprocessable", message)
