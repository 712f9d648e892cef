"""How tests start Python commands: processes of their own, which need not import torch and transformers anew.

`run` and `Process` take what `subprocess.run` and `subprocess.Popen` take. One server for each pytest process has the
libraries below imported and forks a child for each command; no module of DynEval is imported in it. The child is a real
process: its own folder, environment, arguments, streams, exit status, and it is a child of the test, so that signals,
waiting and process groups are those of `subprocess`.

    from tests import processes
    done = processes.run([sys.executable, "-m", "dyneval", "score", ...], capture_output=True, text=True)

What a fork cannot give gets an interpreter of its own, as `subprocess` starts it: another Python or program, options of
the interpreter (`-S`, `-X importtime`), and an environment that changes what libraries read while they are imported.
Where only what the Hub's libraries read is changed, the child is forked from a process without those. So it is for an
environment of tests/environments.py, if that has no other version of what is imported there.
A shell gives its commands an interpreter each, unless its PATH begins with a folder of `for_shells`.
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
import multiprocessing
import os
import runpy
import select
import signal
import site
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("deepspeed", "fastapi", "httpx2", "jinja2", "llguidance.numpy", "matplotlib.pyplot", "msgspec", "numpy"),
    *("openai", "pandas", "PIL.ImageFont", "safetensors.torch", "scipy.stats", "torch", "torch._dynamo"),
    *("torch.distributed.run", "torch.utils.tensorboard", "uvicorn"),
    "deepspeed.runtime.zero.muon.muon_optimizer",
)
"""Not polars, which has threads once imported: a fork would lose them. Each rank of ZeRO imports the optimizer."""
OF_THE_HUB = (
    *("accelerate", "peft", "tokenizers", "transformers.models.qwen2.tokenization_qwen2", "transformers.trainer"),
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
)
"""Those that import huggingface_hub; a fifth of the time."""
FRESH = bool(os.environ.get("TESTS_FRESH_PROCESSES"))
"""Every command gets an interpreter of its own: coverage is measured so."""
LAUNCHERS = (["-m", "torch.distributed.run"],)
"""Commands whose own children, too, are forked."""
# fmt: off
READ_BY_HUB = ("HF_", "HOME", "TRANSFORMERS_", "XDG_")
# HOME and XDG_ also hold settings of the user for matplotlib and fsspec, which are LIBRARIES: no test has any.
# OMP_WAIT_POLICY and MALLOC_ change how fast a process is, and nothing else.
READ_AT_IMPORT = (
    *READ_BY_HUB, "CUDA_", "DS_", "LANG", "LC_", "LD_", "MKL_", "MPL", "OMP_NUM_", "TMPDIR", "TOKENIZERS_",
    "TORCH_LOGS", "TZ",
    # Not all of Python's: Ray sets PYTHONBREAKPOINT in the process that starts it, and no import reads that.
    "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONIOENCODING", "PYTHONPATH", "PYTHONUNBUFFERED",
    "PYTHONUTF8", "PYTHONWARNINGS",
)
# fmt: on


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of an environment that libraries read while they are imported."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


_PYTHON = sys.executable
_ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".venv-tests"
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
        server = _Server.own() if _can_fork(options) else None
        environment = os.environ if options["env"] is None else options["env"]
        connection = server and server.connection(environment, options["args"][0])
        if connection is None:
            _EXECUTE(self, *given)
            return
        pipes = [options[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        order = {
            "command": options["args"],
            "folder": os.fspath(options["cwd"] or Path.cwd()),
            "environment": dict(environment),
            "session": options["start_new_session"],
        }
        try:
            streams = [own if own != -1 else number for number, own in enumerate(pipes)]
            self.pid = server.start(connection, order, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*(options[name] for name in PIPES))


@contextlib.contextmanager
def for_shells(folder: Path) -> Iterator[Path]:
    """Write commands `python`, `python3`, `torchrun` and `dyneval` to `folder`, which a shell's PATH may begin with.

    What they start is forked as by `run`, with the shell's streams, folder and environment, as a child of the test.
    Where one of these commands is killed, what it started gets SIGTERM.
    """
    beside = Path(_PYTHON).parent
    starts = {"python": [], "python3": [], "torchrun": LAUNCHERS[0], "dyneval": [str(beside / "dyneval")]}
    address = str(folder / "address")
    for name, words in starts.items():
        (folder / name).write_text(_IN_SHELL.format(python=_PYTHON, address=address, words=[_PYTHON, *words]))
        (folder / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        threading.Thread(target=_answer_shells, args=(listener,), daemon=True).start()
        yield folder
        listener.shutdown(socket.SHUT_RDWR)


_IN_SHELL = """#!{python} -IS
import json, os, signal, socket, struct, sys
for one in (signal.SIGINT, signal.SIGPIPE):
    signal.signal(one, signal.SIG_DFL)
there = socket.socket(socket.AF_UNIX)
there.connect({address!r})
order = json.dumps([{words!r} + sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(there, [struct.pack("!I", len(order))], [0, 1, 2])
there.sendall(order)
status, = struct.unpack("!i", there.recv(4))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def _answer_shells(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is shut down
        while True:
            threading.Thread(target=_answer_shell, args=(listener.accept()[0],), daemon=True).start()


def _answer_shell(connection: socket.socket) -> None:
    with connection:
        head, streams, _, _ = socket.recv_fds(connection, 4, 3)
        command, folder, environment = json.loads(_exactly(connection, struct.unpack("!I", head)[0]))
        try:
            process = Process(
                command, cwd=folder, env=environment, stdin=streams[0], stdout=streams[1], stderr=streams[2]
            )
        finally:
            for stream in streams:
                os.close(stream)
        ended = os.pidfd_open(process.pid)
        if select.select([ended, connection], [], [])[0] == [connection]:
            process.terminate()
        status = process.wait()
        os.close(ended)
        with contextlib.suppress(OSError):  # nobody waits for it
            connection.sendall(struct.pack("!i", status))


PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_PLAIN = {"executable": None, "preexec_fn": None, "pass_fds": (), "shell": False, "uid": None, "gid": None, "umask": -1}
_PLAIN |= {"gids": None, "process_group": -1}


def _can_fork(options: dict[str, Any]) -> bool:
    command = options["args"]
    if not _FORKS or len(command) < 2 or not (command[0] == _PYTHON or _of_environment(command[0])):
        return False
    if any(options[name] != value for name, value in _PLAIN.items()):
        return False
    return not command[1].startswith("-") or command[1] in ("-m", "-c", "-u", "-P")


def _of_environment(python: str) -> bool:
    return python.endswith("/bin/python") and Path(python).parents[2] == _ENVIRONMENTS


class _Server:
    """The processes that fork, started with the first command: one has all libraries, and one none OF_THE_HUB."""

    _own: _Server | None = None
    _lock = threading.Lock()

    def __init__(self, **connections: socket.socket) -> None:
        self._connections = connections
        self._libc = ctypes.CDLL(None)

    def connection(self, environment: Mapping[str, str], python: str) -> socket.socket | None:
        """To the process that forks commands of this Python with this environment, if one does."""
        here, there = read_at_import(environment), GIVEN
        if here == there and python == _PYTHON:
            return self._connections.get("all")
        rest = [{name: one[name] for name in one if not name.startswith(READ_BY_HUB)} for one in (here, there)]
        return self._connections.get("without_hub") if rest[0] == rest[1] else None

    @classmethod
    def own(cls) -> _Server:
        with cls._lock:
            if cls._own is None:
                (ours, theirs), (bare, other) = socket.socketpair(), socket.socketpair()
                environment = {name: os.environ[name] for name in os.environ.keys() - read_at_import(os.environ).keys()}
                numbers = [theirs.fileno(), other.fileno()]
                with theirs, other:
                    command = [sys.executable, __file__, *map(str, numbers)]
                    subprocess.Popen(command, env=environment | GIVEN, pass_fds=numbers)
                cls._own = cls(all=ours, without_hub=bare)
            return cls._own

    def start(self, connection: socket.socket, order: dict[str, Any], streams: list[int]) -> int:
        """Process id of a new child of this process."""
        text = json.dumps(order).encode()
        with self._lock:
            # The child's parent ends at once, and the kernel gives the child to the next ancestor that takes orphans.
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(connection, [struct.pack("!I", len(text))], streams)
                connection.sendall(text)
                return struct.unpack("!I", _exactly(connection, 4))[0]
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


def _import(libraries: tuple[str, ...]) -> None:
    for library in libraries:
        with contextlib.suppress(ImportError):  # not every environment has all
            importlib.import_module(library)
    gc.collect()
    gc.freeze()


def _serve(name: str, connection: socket.socket) -> dict[str, Any]:
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
            _Server._own = _Server(**{name: ours})
            subprocess.Popen._execute_child = Process._execute_child
        return order


def _become(order: dict[str, Any], path: list[str]) -> None:
    """Run the order's command as the interpreter would: what it raises, and how it ends, is the interpreter's."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    python, *words = order["command"]
    if python != _PYTHON:
        path = _enter(python, order)
    option = words[0] if words[0] in ("-u", "-P") else ""
    at_once = option == "-u"
    kind, *words = words[bool(option) :]
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
        first = [] if option == "-P" else [str(Path(kind).resolve().parent)]
        sys.path[:], sys.argv[:] = [*first, *path], [kind, *words]
        main.__file__ = str(Path(kind).absolute())
        code = compile(Path(kind).read_bytes(), main.__file__, "exec", dont_inherit=True)
    exec(code, vars(main))


def _enter(python: str, order: dict[str, Any]) -> list[str]:
    """Be a process of another environment; returns its paths. Where it has its own of what is imported, start it."""
    place = Path(python).parents[1]
    (packages,) = place.glob("lib/python*/site-packages")
    if {path.name.partition(".")[0] for path in packages.iterdir()} & sys.modules.keys():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(python, order["command"], order["environment"])
    sys.prefix, sys.exec_prefix, sys.executable = str(place), str(place), python
    multiprocessing.set_executable(python)
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
    site.addsitedir(str(packages))
    importlib.invalidate_caches()
    return list(sys.path)


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
    _import(LIBRARIES)
    _all, _without_hub = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    if os.fork():
        _all.close()
        ordered = _serve("without_hub", _without_hub)
    else:
        _without_hub.close()
        _import(OF_THE_HUB)
        ordered = _serve("all", _all)
    try:
        _become(ordered, sys.path[1:])
    except BaseException as error:
        _ended.append(error)
        raise
    _ended.append(None)
