"""Score over HTTP, with a page to try it on.

    dyneval serve --checkpoint output/dyneval_4b_stage2_iqa --port 8000
    DYNEVAL_TOKEN=$(openssl rand -hex 16) dyneval serve --host 0.0.0.0

A token in the environment variable DYNEVAL_TOKEN must be sent by clients as `Authorization: Bearer ...`. Ctrl-C or
SIGTERM ends the server after the requests that it has taken are answered.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from dyneval.cli.student import add_scoring, add_student, loader, parse, run
from dyneval.errors import SettingError
from dyneval.serve.settings import ServerSettings

TOKEN = "DYNEVAL_TOKEN"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    return run(parser, lambda: _serve(arguments))


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    load = loader(arguments)
    try:
        from dyneval.serve.server import serve
    except ModuleNotFoundError as error:
        raise SettingError(f"{error.name} is missing; pip install 'dyneval[serve]'") from error
    serve(load, settings, arguments.host, arguments.port)
    return 0
