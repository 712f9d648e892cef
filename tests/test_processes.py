"""Processes that are forked do what processes of `subprocess` do."""

import os
import signal
import subprocess
import sys

import pytest

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


def test_an_environment_that_libraries_read_gives_an_interpreter_of_its_own(tmp_path):
    code = "import sys; print('transformers' in sys.modules)"
    there = os.environ | {"HF_HOME": str(tmp_path)}
    assert processes.run([sys.executable, "-c", code], env=there, capture_output=True, text=True).stdout == "False\n"


def test_two_commands_draw_numbers_of_their_own():
    command = [sys.executable, "-c", "import numpy, random; print(numpy.random.random(), random.random())"]
    first, second = (processes.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in "ab")
    assert not {*first} & {*second}
