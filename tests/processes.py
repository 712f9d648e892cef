"""How tests start Python commands: processes of their own, which need not import torch and transformers anew.

`run` and `Process` take what `subprocess.run` and `subprocess.Popen` take. One server for each pytest process has the
libraries below imported and forks a child for each command; no module of DynEval is imported in it. The child is a real
process: its own folder, environment, arguments, streams, exit status, and it is a child of the test, so that signals,
waiting and process groups are those of `subprocess`.

    from tests import processes
    done = processes.run([sys.executable, "-m", "dyneval", "score", ...], capture_output=True, text=True)

What a fork cannot give gets an interpreter of its own, as `subprocess` starts it: another Python or program, options of
the interpreter (`-S`, `-X importtime`), and an environment that changes what libraries read while they are imported.
A test of start-up itself (which modules are loaded, what imports say on stderr) uses `subprocess`. All children share
the server's seed of hashes, and the filters of warnings that the libraries set; `tests/coverage.sh` gives each command
an interpreter of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("accelerate", "deepspeed", "fastapi", "httpx2", "jinja2", "llguidance.numpy", "matplotlib.pyplot", "msgspec"),
    *("numpy", "openai", "peft", "PIL.ImageFont", "scipy.stats", "safetensors.torch", "tokenizers", "torch"),
    *("torch.utils.tensorboard", "transformers.models.qwen2.tokenization_qwen2", "transformers.trainer", "uvicorn"),
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
)
"""Not polars, which has threads once imported: a fork would lose them."""
FRESH = bool(os.environ.get("TESTS_FRESH_PROCESSES"))
"""Every command gets an interpreter of its own: coverage is measured so."""
LAUNCHERS = (["-m", "torch.distributed.run"],)
"""Commands whose own children, too, are forked."""
# fmt: off
READ_AT_IMPORT = (
    "CUDA_", "DS_", "HF_", "HOME", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MPL", "OMP_", "TMPDIR", "TOKENIZERS_",
    "TORCH_LOGS", "TRANSFORMERS_", "TZ", "XDG_",
    # Not all of Python's: Ray sets PYTHONBREAKPOINT in the process that starts it, and no import reads that.
    "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONIOENCODING", "PYTHONPATH", "PYTHONUNBUFFERED",
    "PYTHONUTF8", "PYTHONWARNINGS",
)
# fmt: on


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of an environment that libraries read while they are imported."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


_PYTHON = sys.executable
_EXECUTE = subprocess.Popen._execute_child
GIVEN = read_at_import(os.environ)
"""Those variables as this process was started with."""
_FORKS = sys.platform == "linux" and not FRESH
_PR_SET_CHILD_SUBREAPER = 36


def run(command: list[Any], *, input: Any = None, timeout: float | None = None, check: bool = False, **options: Any):
    """Like `subprocess.run`; the words of the command may be anything that has a text, such as numbers."""
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Process(command, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def dyneval(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """`dyneval` with these arguments, and what it says as text."""
    return run([sys.executable, "-m", "dyneval", *arguments], capture_output=True, text=True, **options)


class Process(subprocess.Popen):
    """Like `subprocess.Popen`."""

    def __init__(self, command: list[Any], **options: Any):
        words = [os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in command]
        super().__init__(words, **options)

    def _execute_child(self, *given: Any) -> None:
        options = inspect.signature(_EXECUTE).bind(self, *given).arguments
        if not _can_fork(options):
            _EXECUTE(self, *given)
            return
        pipes = [options[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        order = {
            "command": options["args"],
            "folder": os.fspath(options["cwd"] or Path.cwd()),
            "environment": dict(os.environ if options["env"] is None else options["env"]),
            "session": options["start_new_session"],
        }
        try:
            self.pid = _Server.own().start(order, [own if own != -1 else number for number, own in enumerate(pipes)])
            self._child_created = True
        finally:
            self._close_pipe_fds(*(options[name] for name in PIPES))


PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_PLAIN = {"executable": None, "preexec_fn": None, "pass_fds": (), "shell": False, "uid": None, "gid": None, "umask": -1}
_PLAIN |= {"gids": None, "process_group": -1}


def _can_fork(options: dict[str, Any]) -> bool:
    command, environment = options["args"], os.environ if options["env"] is None else options["env"]
    if not _FORKS or len(command) < 2 or command[0] != _PYTHON:
        return False
    if any(options[name] != value for name, value in _PLAIN.items()):
        return False
    if command[1].startswith("-") and command[1] not in ("-m", "-c", "-u"):
        return False
    return read_at_import(environment) == GIVEN


class _Server:
    """The process that forks, started with the first command."""

    _own: _Server | None = None
    _lock = threading.Lock()

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._libc = ctypes.CDLL(None)

    @classmethod
    def own(cls) -> _Server:
        with cls._lock:
            if cls._own is None:
                ours, theirs = socket.socketpair()
                environment = {name: os.environ[name] for name in os.environ.keys() - read_at_import(os.environ).keys()}
                command = [sys.executable, __file__, str(theirs.fileno())]
                with theirs:
                    subprocess.Popen(command, env=environment | GIVEN, pass_fds=[theirs.fileno()])
                cls._own = cls(ours)
            return cls._own

    def start(self, order: dict[str, Any], streams: list[int]) -> int:
        """Process id of a new child of this process."""
        text = json.dumps(order).encode()
        with self._lock:
            # The child's parent ends at once, and the kernel gives the child to the next ancestor that takes orphans.
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._socket, [struct.pack("!I", len(text))], streams)
                self._socket.sendall(text)
                return struct.unpack("!I", _exactly(self._socket, 4))[0]
            finally:
                self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the server that forks the tests' commands has ended")
        data += part
    return data


def _take(streams: list[int], tells: int, session: bool) -> None:
    """Make a child the process that was ordered, and tell its process id."""
    if session:
        os.setsid()
    os.write(tells, struct.pack("!I", os.getpid()))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a child for each order, until there are no more; returns only in the children, with their orders."""
    while True:
        head, streams, _, _ = socket.recv_fds(connection, 4, 3)
        if not head:
            os._exit(0)
        order = json.loads(_exactly(connection, struct.unpack("!I", head)[0]))
        told, tells = os.pipe()
        between = os.fork()
        if between:
            for number in (*streams, tells):
                os.close(number)
            child = os.read(told, 4)
            os.close(told)
            os.waitpid(between, 0)
            connection.sendall(child)
            continue
        if os.fork():
            os._exit(0)
        _take(streams, tells, order["session"])
        for number in (*streams, told, tells, connection.detach()):
            os.close(number)
        if order["command"][1:3] in LAUNCHERS:
            # It gets a server of its own, so that its children are children of it.
            ours, connection = socket.socketpair()
            if not os.fork():
                ours.close()
                continue
            connection.close()
            _Server._own = _Server(ours)
            subprocess.Popen._execute_child = Process._execute_child
        return order


def _become(order: dict[str, Any], path: list[str]) -> None:
    """Run the order's command as the interpreter would: what it raises, and how it ends, is the interpreter's."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    _, *words = order["command"]
    at_once = words[0] == "-u"
    kind, *words = words[at_once:]
    # Encoding and errors of the interpreter: it takes them from the locale, and `open` would be stricter.
    given, out = sys.stdin, sys.stdout
    sys.stdin = open(0, encoding=given.encoding, errors=given.errors)  # noqa: SIM115
    raw = open(1, "wb", 0 if at_once else -1)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(raw, out.encoding, out.errors, write_through=at_once)
    sys.stderr = open(2, "w", 1, sys.stderr.encoding, "backslashreplace")  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.orig_argv = order["command"]
    if "numpy" in sys.modules:
        # It was seeded when the server imported it, so all children would draw the same. `random` sees to this itself.
        sys.modules["numpy"].random.seed()
    if kind == "-m":
        sys.path[:], sys.argv[:] = [order["folder"], *path], words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        return
    # dont_inherit, since `from __future__ import annotations` of this file would hold for the command's code too.
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if kind == "-c":
        sys.path[:], sys.argv[:] = ["", *path], ["-c", *words[1:]]
        code = compile(words[0], "<string>", "exec", dont_inherit=True)
    else:
        sys.path[:], sys.argv[:] = [str(Path(kind).resolve().parent), *path], [kind, *words]
        main.__file__ = str(Path(kind).absolute())
        code = compile(Path(kind).read_bytes(), main.__file__, "exec", dont_inherit=True)
    exec(code, vars(main))


def _skip_teardown() -> None:
    """Clearing the libraries' modules takes as long as importing them; it runs after all else that runs at the end."""
    if _ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # where it fails, the interpreter goes on to its own end, and its own exit status
        if isinstance(_ended[0], KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        code = _ended[0].code if isinstance(_ended[0], SystemExit) else 0 if _ended[0] is None else 1
        os._exit(0 if code is None else code & 0xFF if isinstance(code, int) else 1)


_ended: list[BaseException | None] = []

if __name__ == "__main__":
    atexit.register(_skip_teardown)  # the first to be registered is the last to run
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # not every environment has all
            importlib.import_module(library)
    gc.collect()
    gc.freeze()
    ordered = _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        _become(ordered, sys.path[1:])
    except BaseException as error:
        _ended.append(error)
        raise
    _ended.append(None)
