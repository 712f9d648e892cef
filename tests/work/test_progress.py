"""Progress as a user sees it: a bar on a terminal, lines of a log in a file."""

import os
import pty
import re
import subprocess
import sys
import termios

PROGRAM = """
import logging, time
logging.basicConfig(level=logging.INFO, format="%(message)s")
from dyneval.work import progress
progress.PERIOD = 0.3
with progress.bar("scoring", 40, "pair") as bar:
    for number in bar.over(range(40)):
        time.sleep(0.025)
        bar.note(f"item {number}")
"""


def test_off_a_terminal_there_are_whole_lines_now_and_then():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert b"\r" not in done.stderr
    lines = done.stderr.decode().splitlines()
    assert 2 <= len(lines) <= 4
    for line in lines:
        found = re.fullmatch(r"scoring: (\d+)/40 pair, ([\d.]+) pair/s, (\d:\d\d:\d\d) left, item \d+", line)
        assert found, line
        assert 0 < float(found[2]) <= 40
    assert lines[-1].startswith("scoring: 40/40") and "0:00:00 left" in lines[-1]


def test_a_short_run_says_nothing_and_a_total_need_not_be_known():
    program = PROGRAM.replace("40, ", "None, ")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert re.match(r"scoring: \d+ pair, [\d.]+ pair/s, item \d+\n", done.stderr)
    program = PROGRAM.replace("progress.PERIOD = 0.3", "")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stderr == b""


def on_a_terminal(program):
    """What a program shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the terminal ends with its process
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown


def test_on_a_terminal_there_is_a_bar_and_the_remaining_time_when_there_is_enough_to_go_by():
    shown = on_a_terminal(PROGRAM.replace("progress.PERIOD = 0.3", "progress.SETTLED = 0"))
    assert b"\r" in shown and b"40/40" in shown and b"item " in shown
    assert re.search(rb" 40/40 \[00:0\d<00:00, .*item 39\]", shown)
    shown = on_a_terminal(PROGRAM)
    assert re.search(rb" 40/40 \[00:0\d, .*item 39\]", shown) and b"<" not in shown
