"""What the benchmark programs share: flags, memory of a command, results in both forms, a commit to compare with."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
from harness import Flags, Results, alternate
flags = Flags("doc", repeat=3)
flags.add_argument("--rows", type=int, default=1000, smoke=7)
arguments = flags.parse_args()
results = Results(arguments)
order = []
runs = alternate({"a": lambda: order.append("a") or len(order), "b": lambda: order.append("b")}, arguments.repeat)
results.table({"what": "", "rows": ",", "runs": ".1f"}, "order " + "".join(order))
results.row("a", arguments.rows, runs["a"])
"""


@pytest.fixture(scope="module")
def harness():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("harness")


def results_of(tmp_path, *flags):
    program, figures = tmp_path / "program.py", tmp_path / "figures.json"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, program, "--json", figures, *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return done.stdout, json.loads(figures.read_text())


def test_a_table_has_medians_and_extremes_of_runs_in_turn_and_the_json_every_run(tmp_path):
    printed, figures = results_of(tmp_path)
    assert printed.endswith("order ababab\n\n| what | rows | runs |\n|---|---|---|\n| a | 1,000 | 3.0 (1.0-5.0) |\n")
    assert figures["tables"] == {"order ababab": [{"what": "a", "rows": 1000, "runs": [1, 3, 5]}]}
    machine = figures["machine"]
    assert machine["cores"] == len(os.sched_getaffinity(0)) and machine["ram_gib"] > 0
    assert machine["versions"]["python"] == sys.version.split()[0]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert not head or head.startswith(machine["commit"].split()[0])


def test_smoke_takes_small_sizes_and_flags_beside_it_win(tmp_path):
    assert "| a | 7 | 1.0 |" in results_of(tmp_path, "--smoke")[0]
    assert "| a | 9 | 1.0 |" in results_of(tmp_path, "--rows", "9", "--smoke")[0]


def test_memory_of_a_command_is_its_own_and_that_of_its_children(harness):
    # The kernel's ru_maxrss would tell at least what this process holds.
    held = bytearray(200 << 20)
    small = harness.run_command([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert 1 < small.peak < len(held) >> 20
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    child = "import time; held = bytearray(b'x') * (150 << 20); begun = time.process_time()\n"
    child += "while time.process_time() < begun + 0.5: pass"
    # Started by a thread, which the children of the main thread do not show.
    threaded = (
        f"import threading; thread = threading.Thread(target=lambda: exec({parent!r}, globals())); thread.start()"
    )
    large = harness.run_command([sys.executable, "-c", threaded, child])
    assert 150 < large.peak < 400
    assert large.cpu >= 0.5


def test_a_failed_command_ends_the_program_with_what_it_wrote(harness, tmp_path):
    with pytest.raises(SystemExit, match=r"exit status 3\n.*no such model"):
        command = [sys.executable, "-c", "print('no such model', flush=True); raise SystemExit(3)"]
        harness.run_command(command, log=tmp_path / "log")


def test_a_commit_to_compare_with_is_a_folder_that_is_gone_afterwards(harness):
    with harness.checkouts(None) as trees:
        assert trees == {"this": ROOT}
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a clone")
    with harness.checkouts("HEAD") as trees:
        assert list(trees) == ["HEAD", "this"] and (trees["HEAD"] / "dyneval" / "__init__.py").is_file()
    assert not trees["HEAD"].exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(trees["HEAD"]) not in listed
