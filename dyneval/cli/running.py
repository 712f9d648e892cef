"""How every verb runs: logging on stderr, its flags in the summary, one line and a status for what a user can mend."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from dyneval.errors import UserError, without_secrets
from dyneval.extras import missing_extra
from dyneval.files.atomic import RUN_CONFIG
from dyneval.files.hub import fetched
from dyneval.flags import Parser
from dyneval.work.batches import out_of_memory
from dyneval.work.progress import log_to_stderr

Options = TypeVar("Options")
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""A write that failed; the system does not say of which file."""
KEPT, NOT_KEPT = "the same command goes on from here", "without --output nothing is kept"


def run(
    parser: Parser,
    action: Callable[[Options], int],
    options: Options,
    *,
    interrupted: str = KEPT,
    status: Callable[[Exception], int] | int = 1,
) -> int:
    """Run a verb's action; returns its exit status.

    Args:
        parser: has parsed the command line.
        action: what the verb does; takes the options.
        options: a dataclass, in which paths may be addresses of the Hub: their files are fetched first.
        interrupted: what to say after Ctrl-C.
        status: of a run that ended with an error that a user can mend.
    """
    log_to_stderr("%(message)s")
    for name, level in (("dyneval", logging.INFO), ("httpx", logging.WARNING), ("httpx2", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what its library warns of is told in our words
    if not sys.stderr.isatty():  # a log; read when the Hub's library and transformers are imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    token = RUN_CONFIG.set({"command": parser.prog, **parser.resolved})
    try:
        return action(fetched(options))
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted; {interrupted}\n")
        return 130
    except BrokenPipeError:
        raise
    except (UserError, OSError, ImportError, RuntimeError) as error:
        reason = _reason(error, parser)
        if reason is None:
            raise
        sys.stderr.write(f"{parser.prog}: {without_secrets(reason)}\n")
        return status(error) if callable(status) else status
    finally:
        RUN_CONFIG.reset(token)


def shared(options: Any, config: Any) -> dict[str, Any]:
    """The values of a verb's options that the configuration of a step has by the same names."""
    return {one.name: getattr(options, one.name) for one in fields(config) if hasattr(options, one.name)}


def _reason(error: Exception, parser: Parser) -> str | None:
    """What to tell of an error; None for a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        output = parser.resolved.get("output")
        if error.filename is None and error.errno in _WRITING and output:
            return f"{output}: cannot be written ({error.strerror})"
        return str(error)
    if isinstance(error, ImportError):
        return missing_extra(error, parser.prog.rpartition(" ")[2])
    return out_of_memory(error) if isinstance(error, RuntimeError) else None
