"""How every verb runs: logging on stderr, its flags in the summary, one line and a status for what a user can mend.

A verb parses its command line and calls `run`. Without it, each verb would end in a traceback where a file is missing
or a disk is full, and the summaries of runs would not say which flags made them.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from dyneval.errors import UserError, without_secrets
from dyneval.extras import missing_extra
from dyneval.files.atomic import RUN_CONFIG
from dyneval.files.hub import fetch, fetched, is_address
from dyneval.flags import Parser, refuse_missing_folders
from dyneval.work.batches import out_of_memory
from dyneval.work.progress import log_to_stderr

Options = TypeVar("Options")
# Errors of a write to a file that is open: the system does not say which file it is.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
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
    _prepare()
    token = RUN_CONFIG.set({"command": parser.prog, **parser.resolved})
    try:
        options = fetched(options)
        refuse_missing_folders(options)
        return action(options)
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted; {interrupted}\n")
        # 128 and the number of SIGINT, as shells have it.
        return 130
    except BrokenPipeError:
        # An OSError, but no error: `dyneval.cli.main` ends quietly.
        raise
    except (UserError, OSError, ImportError, RuntimeError) as error:
        reason = _reason(error, parser)
        # A fault of ours keeps its traceback.
        if reason is None:
            raise
        # An address in the message may hold a password.
        sys.stderr.write(f"{parser.prog}: {without_secrets(reason)}\n")
        return status(error) if callable(status) else status
    finally:
        RUN_CONFIG.reset(token)


def local(path: Path | None) -> Path | None:
    """The file itself where a flag names one of the Hub, for a flag that decides what others mean. Raises HubError.

    `run` fetches the files of all flags, but only after the command line has been judged.
    """
    if path is None or not is_address(path):
        return path
    _prepare()
    return fetch(path)


def _prepare() -> None:
    """Log to stderr, and keep the libraries of the Hub quiet."""
    log_to_stderr("%(message)s")
    for name, level in (("dyneval", logging.INFO), ("httpx", logging.WARNING), ("httpx2", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    # What the Hub's library warns of is told in our words. Both variables are read when it is imported, so they are set
    # before any action runs.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        # A log, in which progress bars are thousands of lines.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def shared(options: Any, config: Any) -> dict[str, Any]:
    """The values of a verb's options that the configuration of a step has by the same names."""
    # By name, so that a new field of a configuration needs one line in the options and none here.
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
