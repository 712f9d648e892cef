"""What can be set about the server. Light: imported by `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyneval.errors import SettingError

_LEAST_TIMEOUT, _TIMES = 120.0, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """Limits of the server; together they bound its memory, about `most_held + 3 * queue * max_pixels` bytes.

    Attributes:
        queue: pairs that may wait, those still being read among them; one more is answered with 429.
        batch_wait: seconds that the first pair of a batch waits for company.
        timeout: seconds from a request's arrival to its answer (408, 504); None: 120, or 10 times what the first pair
            took where that is more.
        max_body: bytes of a request (413).
        max_bodies: bytes of all requests together (429; trainers' wait unread); None: `queue * max_body`.
        max_pixels: pixels of an image (an error of its pair).
        max_prompt: bytes of a prompt (an error of its pair), so that nobody waits for its tokens to be counted.
        max_pairs: pairs in one request to /v1/score/batch; at most `queue`.
        allow_hosts: names that clients and pages know the server by, beside its addresses, localhost and the name of
            this machine; "*" is any. With a token clients may use any name.
        token: what clients must send as `Authorization: Bearer ...`; None lets everyone in.
        rewards: whether there are routes for trainers, see `dyneval.serve.rewards`.
        reward_timeout: seconds from a trainer's request to its answer: they wait for room instead of being refused.
        pickles: whether trainers may send pickles.
    """

    queue: int = 64
    batch_wait: float = 0.02
    timeout: float | None = None
    max_body: int = 16 * 1024 * 1024
    max_bodies: int | None = None
    max_pixels: int = 16 * 1024 * 1024
    max_prompt: int = 64 * 1024
    max_pairs: int = 32
    allow_hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    rewards: bool = False
    reward_timeout: float = 1800
    pickles: bool = False

    def __post_init__(self) -> None:
        for name in (
            "queue",
            "timeout",
            "max_body",
            "max_bodies",
            "max_pixels",
            "max_prompt",
            "max_pairs",
            "reward_timeout",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(f"{name} is {value}, expected more than 0")
        if not self.batch_wait >= 0:
            raise SettingError(f"batch_wait is {self.batch_wait}, expected at least 0")
        if self.max_pairs > self.queue:
            raise SettingError(f"max_pairs is {self.max_pairs}, expected at most queue, {self.queue}")
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise SettingError("the token has under 16 characters, or others than ASCII")

    @property
    def most_held(self) -> int:
        """Bytes of all requests together."""
        return self.max_bodies or self.queue * self.max_body

    def seconds(self, first_pair: float) -> float:
        """Seconds from a request's arrival to its answer, where the first pair of all took `first_pair`."""
        return self.timeout or max(_LEAST_TIMEOUT, _TIMES * first_pair)
