"""Score over HTTP, with a page to try it on; or let people rate pictures.

    dyneval serve --checkpoint output/dyneval_4b_stage2_iqa --port 8000
    DYNEVAL_TOKEN=$(openssl rand -hex 16) dyneval serve --host 0.0.0.0
    dyneval serve --rate gendb/metadata.jsonl --ratings mine.csv

A token in the environment variable DYNEVAL_TOKEN must be sent by clients as `Authorization: Bearer ...`. Ctrl-C or
SIGTERM ends the server after the requests that it has taken are answered.

With --rate the page shows the pairs one by one, each rater in another order and without the image model's name, and
what they say is in --ratings at once: `dyneval benchmark --benchmark generic --annotations mine.csv` compares it with
scores. A student is loaded beside it only where --checkpoint names one; its page is then at / and the other at /rate.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from dyneval.cli.running import run
from dyneval.cli.student import add_scoring, add_student, loader, parse
from dyneval.errors import SettingError
from dyneval.flags import Parser
from dyneval.serve.settings import ServerSettings

TOKEN = "DYNEVAL_TOKEN"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    return run(parser, lambda: _serve(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    defaults = ServerSettings()
    add = parser.add_argument_group("server").add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all; default: %(default)s")
    add("--port", type=int, default=8000, help="port, 0 for a free one; default: %(default)s")
    add("--queue", type=int, default=defaults.queue, help="pairs that may wait; default: %(default)s")
    add("--batch-wait", type=float, default=defaults.batch_wait, help="seconds to wait for more; default: %(default)s")
    waits = "seconds from a request to its answer; default: 120, or 10 times what the first pair took"
    add("--timeout", type=float, default=defaults.timeout, help=waits)
    add("--max-body", type=int, default=defaults.max_body, help="bytes of a request; default: %(default)s")
    add("--max-image", type=int, default=defaults.max_pixels, help="pixels of an image; default: %(default)s")
    add("--max-pairs", type=int, default=defaults.max_pairs, help="pairs of a batch request; default: %(default)s")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that clients call this server by, such as that of a proxy; * is any. Its addresses, localhost and "
        "this machine's name are known; with a token clients may use any name",
    )
    add = parser.add_argument_group("rating by people").add_argument
    add("--rate", type=Path, help="pairs to rate: a table with file_name and prompt, or an ImageFolder")
    add("--ratings", type=Path, help="CSV file for what is said of them; the same file goes on from there")
    add_student(parser)
    add_scoring(parser)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    settings = ServerSettings(
        queue=arguments.queue,
        batch_wait=arguments.batch_wait,
        timeout=arguments.timeout,
        max_body=arguments.max_body,
        max_pixels=arguments.max_image,
        max_pairs=min(arguments.max_pairs, arguments.queue),
        allow_hosts=tuple(arguments.allow_host),
        token=os.environ.get(TOKEN) or None,
    )
    if bool(arguments.rate) != bool(arguments.ratings):
        raise SettingError("--rate and --ratings go together: the pairs, and the file for what is said of them")
    load = loader(arguments) if arguments.checkpoint or not arguments.rate else None
    from dyneval.serve.ratings import Ratings
    from dyneval.serve.server import serve

    with Ratings(arguments.rate, arguments.ratings) if arguments.rate else nullcontext() as ratings:
        serve(load, settings, arguments.host, arguments.port, ratings)
    return 0
