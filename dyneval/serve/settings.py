"""What can be set about the server: limits of time and memory, and who may use it.

`dyneval serve --help` imports this module to make flags from it, so it imports nothing heavy. The limits belong
together: without any one of them a stranger, or one large trainer, could take all memory or all time of the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dyneval.errors import SettingError

# A large student takes far longer over a pair on a CPU than on a GPU. A fixed limit would end every request there, so
# the limit follows the first pair wherever that takes more than 12 s.
_LEAST_TIMEOUT, _TIMEOUT_IN_FIRST_PAIRS = 120.0, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """Limits of the server; together they bound its memory, about `most_held + 3 * queue * max_pixels` bytes.

    Attributes:
        queue: pairs that may wait, those still being read among them; one more is answered with 429.
        batch_wait: seconds that the first pair of a batch waits for others to be scored together with it.
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
        reward_timeout: seconds from a trainer's request to its answer: they wait for places instead of being refused.
        pickles: whether trainers may send pickles.

    Raises:
        SettingError: a value is out of its range; the message names it.
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
    token: str | None = field(default=None, repr=False)  # a log that shows the settings must not show the token
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
            # "not above 0" and not "at most 0", so that NaN, which compares with nothing, is refused too.
            if value is not None and not value > 0:
                raise SettingError(f"{name} is {value}, expected more than 0")
        if not self.batch_wait >= 0:
            raise SettingError(f"batch_wait is {self.batch_wait}, expected at least 0")
        # A larger batch could never hold all its places at once, so it would be answered with 429 for ever.
        if self.max_pairs > self.queue:
            raise SettingError(f"max_pairs is {self.max_pairs}, expected at most queue, {self.queue}")
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise SettingError("the token has under 16 characters, or others than ASCII")

    @property
    def most_held(self) -> int:
        """Bytes of the bodies of all requests together."""
        return self.max_bodies or self.queue * self.max_body

    def seconds(self, first_pair: float) -> float:
        """Return how many seconds a request may take from its arrival to its answer.

        Args:
            first_pair: seconds that scoring the first pair took, 0 where that is not known yet.
        """
        return self.timeout or max(_LEAST_TIMEOUT, _TIMEOUT_IN_FIRST_PAIRS * first_pair)
