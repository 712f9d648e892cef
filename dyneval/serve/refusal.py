"""How the server refuses a request: one exception, and one form of answer, for every error.

Clients go by the `code`, people read the `message`, and Retry-After tells when to come back. All errors of the server
have this form, also those of routes that do not exist. A handler that raised anything else would answer 500 and write
a traceback to the log, which a stranger could fill that way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A message may quote what is wrong with a body, and a hostile body is one wrong value of 16 MiB.
_LONGEST_MESSAGE = 1000
"""Characters."""


class Refusal(Exception):
    """Ends a request with an error.

    Attributes:
        status: of HTTP, 400 to 599.
        code: for programs; it never changes.
        message: for people.
        headers: of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        # JSON may hold half of a surrogate pair, "\ud800". Quoted as it is, it could not be encoded as UTF-8, and the
        # refusal itself would end in status 500.
        message = message[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the answer, `code` and `message`."""
        return {"code": self.code, "message": self.message}


def busy(retry_after: int) -> Refusal:
    """429 with Retry-After: there is no place in the queue for `retry_after` seconds or so."""
    message = f"the queue is full; try again in {retry_after} s"
    return Refusal(429, "busy", message, {"Retry-After": str(retry_after)})


def warming_up(retry_after: int) -> Refusal:
    """503 with Retry-After: the student scores its first pair, for which a GPU has to compile its kernels."""
    return Refusal(503, "warming_up", "the student is warming up", {"Retry-After": str(retry_after)})


def too_large(what: str, most: int) -> Refusal:
    """413: `what` has more than `most` bytes."""
    # The rest of the body is not read, so the next request on this connection would begin in the middle of it.
    return Refusal(413, "too_large", f"{what} is over {most} bytes", {"Connection": "close"})


def late(seconds: float) -> Refusal:
    """504: there was no result within `seconds` of the request's arrival."""
    return Refusal(504, "timeout", f"no result within {seconds:g} s")


def unavailable() -> Refusal:
    """503 with Retry-After: this machine, not the image, is why the image cannot be decoded."""
    return Refusal(503, "unavailable", "images cannot be decoded at the moment", {"Retry-After": "5"})


def unprocessable(message: str) -> Refusal:
    """422: this pair cannot be scored, now or later, for the reason `message`."""
    return Refusal(422, "unprocessable", message)
