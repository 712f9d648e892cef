"""The short form of the load test; the long one is the benchmark itself: 500 clients for 60 s."""

import json
import os
import sys
from pathlib import Path

from tests import processes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"


def test_every_client_gets_its_result_or_is_told_when_to_come_back(student, tmp_path):
    flags = ["--clients", "40", "--seconds", "3", "--queue", "16", "--checkpoint", str(student), "--no-baseline"]
    flags += ["--json", str(tmp_path / "figures.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = processes.run(
        [sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (figures,) = json.loads((tmp_path / "figures.json").read_text())["tables"][""]
    assert figures["scored"] >= 16 and figures["429"] >= 1
