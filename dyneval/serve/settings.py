"""What can be set about the server. Light: imported by `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyneval.errors import SettingError


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """Limits of the server; together they bound its memory, about `queue * (max_body + 3 * max_pixels)` bytes.

    Attributes:
        queue: pairs that may wait, those still being read among them; one more is answered with 429.
        batch_wait: seconds that the first pair of a batch waits for company.
        timeout: seconds to read a request, and again to answer it (408, 504).
        max_body: bytes of a request (413).
        max_pixels: pixels of an image (an error of its pair).
        max_pairs: pairs in one request to /v1/score/batch; at most `queue`.
        token: what clients must send as `Authorization: Bearer ...`; None lets everyone in.
    """

    queue: int = 64
    batch_wait: float = 0.02
    timeout: float = 120.0
    max_body: int = 16 * 1024 * 1024
    max_pixels: int = 16 * 1024 * 1024
    max_pairs: int = 32
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("queue", "timeout", "max_body", "max_pixels", "max_pairs"):
            if getattr(self, name) <= 0:
                raise SettingError(f"{name} is {getattr(self, name)}, expected more than 0")
        if self.batch_wait < 0:
            raise SettingError(f"batch_wait is {self.batch_wait}, expected at least 0")
        if self.max_pairs > self.queue:
            raise SettingError(f"max_pairs is {self.max_pairs}, expected at most queue, {self.queue}")
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise SettingError("the token has under 16 characters, or others than ASCII")
