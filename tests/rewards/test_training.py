"""The short form of the training benchmark; the long one, and what it shows, is benchmarks/rewards.py itself."""

import json
import os
import sys
from pathlib import Path

from tests import processes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rewards.py"


def test_a_generator_is_trained_on_the_demo_judge(tmp_path):
    flags = ["train", "--epochs", "2", "--prompts", "2", "--group", "3", "--held-out", "30"]
    flags += ["--plot", str(tmp_path / "plot.svg"), "--json", str(tmp_path / "figures.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = processes.run(
        [sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, env=environment, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tables = json.loads((tmp_path / "figures.json").read_text())["tables"]
    rows = tables["training"]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(0 <= row["reward"] <= 1 <= row["truth"] <= 5 for row in rows)
    # Ten rates, each with one step of Adam an epoch: the policy moved.
    rates = tables["fault rates"]
    assert len(rates) == 10 and any(one["rate before"] != one["after"] for one in rates)
    assert (tmp_path / "plot.svg").read_text().count("<path") > 4
