"""Processes that are forked do what processes of `subprocess` do."""

import os
import shlex
import signal
import subprocess
import sys

import pytest

import dyneval
from tests import processes

SHOWS = "import os, sys; print(sys.argv, os.getcwd(), os.environ.get('SHOWN'), __name__, sys.path[0], input())"
SCRIPT = """
import sys
def f(x: int): pass
print(__file__, __name__, sys.argv, sys.path[0], f.__annotations__)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-c", SHOWS, "a", "b c"],
        ["script.py", "-m", "x"],
        ["-u", "script.py"],
        ["-m", "script", "y"],
        ["-c", "def f(x: int): pass\nprint(f.__annotations__)"],
        ["-c", "import sys; print([(one.encoding, one.errors) for one in (sys.stdin, sys.stdout, sys.stderr)])"],
        ["-c", "raise SystemExit(3)"],
        ["-c", "raise SystemExit('a line')"],
        ["-c", "raise ValueError('a reason')"],
        ["-c", "raise KeyboardInterrupt"],
        ["-c", "import os; os.kill(os.getpid(), 9)"],
        ["-c", "import os; os._exit(7)"],
        ["-c", "import atexit; atexit.register(print, 'last'); print('first')"],
        ["-c", "import threading, time; threading.Timer(0.1, print, ['late']).start(); print('early')"],
        ["-c", "import sys; sys.stdout = open('/dev/full', 'w'); print('lost')"],
    ],
    ids=" ".join,
)
def test_a_forked_command_ends_and_says_as_a_fresh_one(words, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    options = {
        "cwd": tmp_path,
        "env": os.environ | {"SHOWN": "é"},
        "input": "typed\n",
        "capture_output": True,
        "text": True,
    }
    forked = processes.run([sys.executable, *words], **options)
    fresh = subprocess.run([sys.executable, *words], **options)
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout), forked.stderr
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_it_is_a_child_with_a_group_of_its_own_and_has_the_libraries():
    code = "import sys; print('transformers' in sys.modules, 'dyneval' in sys.modules, flush=True); input()"
    command = [sys.executable, "-c", code]
    with processes.Process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == f"{sys.platform == 'linux' and not processes.FRESH} False\n"
        assert os.getpgid(process.pid) == process.pid
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(("name", "imported"), [("HF_HOME", "True False\n"), ("MKL_CBWR", "False False\n")])
def test_what_libraries_read_while_they_are_imported_is_read_anew(name, imported, tmp_path):
    code = "import sys; print('torch' in sys.modules, 'huggingface_hub' in sys.modules)"
    there = os.environ | {name: str(tmp_path)}
    done = processes.run([sys.executable, "-c", code], env=there, capture_output=True, text=True)
    assert done.stdout == (imported if sys.platform == "linux" and not processes.FRESH else "False False\n")


@pytest.mark.parametrize(("name", "forked"), [("transformers-5.4.0", True), ("llguidance-1.7", False)])
def test_an_environment_has_its_own_versions(name, forked, environment):
    code = "import sys; print('torch' in sys.modules); import transformers, llguidance"
    code += "; print(transformers.__version__, transformers.__file__, llguidance.__file__, sys.executable, sys.prefix)"
    command = [environment(name), "-c", code]
    ours = processes.run(command, capture_output=True, text=True).stdout.split()
    fresh = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert ours[0] == str(forked and sys.platform == "linux" and not processes.FRESH)
    assert ours[1:] == fresh[1:]


@pytest.fixture
def shell(tmp_path):
    """shell(script) starts a script in bash whose Python commands are forked."""
    (tmp_path / "bin").mkdir()
    with processes.for_shells(tmp_path / "bin") as folder:
        environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

        def start(script):
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            command = ["bash", "-c", script]
            return subprocess.Popen(command, **pipes, text=True, cwd=tmp_path, env=environment, start_new_session=True)

        yield start


def test_a_shell_s_commands_are_forked_too(shell, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "sub").mkdir()
    script = """
    cd sub; export SHOWN=é
    python3 -c "$1" a 'b c'; echo $?
    python ../script.py x > out; cat out
    python -c 'import sys; sys.exit("a line")' || echo $?
    python -c 'import os; os.kill(os.getpid(), 9)' || echo $?
    dyneval --version
    torchrun --nproc_per_node 1 -m shown || echo $?
    """
    (tmp_path / "sub" / "shown.py").write_text(
        "import os, sys\nprint(os.environ['RANK'], 'torch' in sys.modules)\nsys.exit(5)"
    )
    out, err = shell(f"set -- {shlex.quote(SHOWS)}; {script}").communicate("typed\n")
    forks = sys.platform == "linux" and not processes.FRESH
    assert out.splitlines() == [
        f"['-c', 'a', 'b c'] {tmp_path / 'sub'} é __main__  typed",
        "0",
        f"{tmp_path / 'sub'}/../script.py __main__ ['../script.py', 'x'] {tmp_path} {{'x': <class 'int'>}}",
        "1",
        "137",
        f"dyneval {dyneval.__version__}",
        f"0 {forks}",
        "1",
    ], err
    assert err.startswith("a line\n")


def test_what_a_shell_started_ends_with_it(shell):
    code = "import sys, time; print('begun', flush=True); time.sleep(600)"
    with shell(f'python -c "{code}"') as process:
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGTERM)
        # The pipe ends with the last of the processes that hold it.
        assert process.stdout.read() == ""


def test_two_commands_draw_numbers_of_their_own():
    command = [sys.executable, "-c", "import numpy, random; print(numpy.random.random(), random.random())"]
    first, second = (processes.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in "ab")
    assert not {*first} & {*second}
