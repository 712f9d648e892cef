"""Score over HTTP, with a page to try it on; or let people rate pictures.

    dyneval serve --checkpoint output/dyneval_4b_stage2_iqa --port 8000
    DYNEVAL_TOKEN=$(openssl rand -hex 16) dyneval serve --host 0.0.0.0
    dyneval serve --rewards                        # for trainers: flow_grpo, Flow-Factory, UniRL, verl-omni, DDPO
    dyneval serve --rate gendb/metadata.jsonl --ratings mine.csv

A token in the environment variable DYNEVAL_TOKEN must be sent by clients as `Authorization: Bearer ...`. Ctrl-C or
SIGTERM ends the server after the requests that it has taken are answered.

With --rate the page shows the pairs one by one, each rater in another order and without the image model's name, and
what they say is in --ratings at once: `dyneval benchmark --benchmark generic --annotations mine.csv` compares it with
scores. A student is loaded beside it only where --checkpoint names one; its page is then at / and the other at /rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dyneval.checkpoints.names import DEFAULT
from dyneval.cli.running import run, shared
from dyneval.cli.student import StudentOptions
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg
from dyneval.serve.settings import ServerSettings

if TYPE_CHECKING:
    from dyneval.serve.judges import Judges

# No flag: a command line can be read by everyone on the machine.
TOKEN = "DYNEVAL_TOKEN"
DEFAULTS = ServerSettings()
# Bytes of one trainer's request, and of all at once: 16 PNGs of 1024 px are 64 MiB in base64 where they are noise, as
# early in training; and 64 such requests.
REWARD_BODY, REWARD_BODIES = 1 << 27, 1 << 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """Where the server listens, what it takes, and who scores."""

    host: Annotated[str, arg("address to listen on; 0.0.0.0 for all", heading="server")] = "127.0.0.1"
    port: Annotated[int, arg("port, 0 for a free one", ge=0, le=65535)] = 8000
    queue: Annotated[int, arg("pairs that may wait", ge=1)] = DEFAULTS.queue
    batch_wait: Annotated[float, arg("seconds to wait for more", ge=0)] = DEFAULTS.batch_wait
    timeout: Annotated[
        float | None,
        arg("seconds from a request to its answer; default: 120, or 10 times what the first pair took", gt=0),
    ] = DEFAULTS.timeout
    max_body: Annotated[
        int | None, arg(f"bytes of a request; default: {DEFAULTS.max_body}, with --rewards {REWARD_BODY}", ge=1)
    ] = None
    max_image: Annotated[int, arg("pixels of an image", ge=1)] = DEFAULTS.max_pixels
    max_pairs: Annotated[int, arg("pairs of a batch request", ge=1)] = DEFAULTS.max_pairs
    allow_host: Annotated[
        tuple[str, ...],
        arg(
            "a name that clients call this server by, such as that of a proxy; * is any. Its addresses, localhost and "
            "this machine's name are known; with a token clients may use any name",
            metavar="NAME",
        ),
    ] = ()
    rewards: Annotated[
        bool,
        arg("also answer at /compute, /score and /v1/chat/completions as they call", heading="rewards for trainers"),
    ] = False
    pickles: Annotated[bool, arg("also at /, in pickles, of which only plain values are read")] = False
    reward_timeout: Annotated[
        float, arg("seconds that a trainer's request may take, its wait for places included", gt=0)
    ] = DEFAULTS.reward_timeout
    devices: Annotated[
        str | None,
        arg(
            "all GPUs, or devices such as cuda:0,cuda:1: a copy of the student on each, behind one queue",
            heading="several GPUs",
            metavar="{all,DEVICE,DEVICE}",
        ),
    ] = None
    rate: Annotated[
        Path | None,
        arg("pairs to rate: a table with file_name and prompt, or an ImageFolder", heading="rating by people"),
    ] = None
    ratings: Annotated[
        Path | None, arg("CSV file for what is said of them; the same file goes on from there", written=True)
    ] = None
    student: Annotated[StudentOptions, arg(f"student; default: {DEFAULT}, with --rate none")] = field(
        default_factory=StudentOptions
    )

    def __post_init__(self) -> None:
        if bool(self.rate) != bool(self.ratings):
            raise SettingError("--rate and --ratings go together: the pairs, and the file for what is said of them")
        engine = self.student.engine
        if self.devices and (engine.name != "transformers" or engine.options.get("device")):
            raise SettingError("--devices are of engine transformers, without --device: other engines have their own")
        if self.devices is not None and not all(self.devices.split(",")):
            raise SettingError(f"--devices {self.devices}: name devices, such as cuda:0,cuda:1")
        if self.pickles and not self.rewards:
            raise SettingError("--pickles are of trainers, and go with --rewards")
        if self.rewards and self.rate and self.student.checkpoint is None:
            raise SettingError("--rewards need a student, which beside --rate is loaded with --checkpoint")

    @property
    def settings(self) -> ServerSettings:
        """What the server takes. Raises SettingError."""
        return ServerSettings(
            **shared(self, ServerSettings)
            | {
                "max_body": self.max_body or (REWARD_BODY if self.rewards else DEFAULTS.max_body),
                "max_bodies": REWARD_BODIES if self.rewards else None,
                "max_pixels": self.max_image,
                # The settings refuse a request of more pairs than may wait.
                "max_pairs": min(self.max_pairs, self.queue),
                "allow_hosts": self.allow_host,
                "token": os.environ.get(TOKEN) or None,
            }
        )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(ServeOptions, argv)
    return run(parser, _serve, options)


def _serve(options: ServeOptions) -> int:
    # Before the server's modules are imported: what contradicts itself is told at once.
    settings = options.settings
    load = None if options.rate and options.student.checkpoint is None else _judges(options)
    from dyneval.serve.ratings import Ratings
    from dyneval.serve.server import serve

    with Ratings(options.rate, options.ratings) if options.rate and options.ratings else nullcontext() as ratings:
        serve(load, settings, options.host, options.port, ratings)
    return 0


def _judges(options: ServeOptions) -> Callable[[], Judges]:
    """What loads the student, or one on each of the devices. Raises SettingError."""
    from dyneval.serve.judges import all_gpus, here, on_devices

    load = options.student.loader()
    if options.devices is None:
        return partial(here, load)
    names = all_gpus() if options.devices == "all" else options.devices.split(",")
    if not names:
        raise SettingError("--devices all: no GPU is to be seen here; name devices, such as cuda:0,cuda:1")
    return partial(on_devices, load, names)
