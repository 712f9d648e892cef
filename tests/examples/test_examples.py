"""The three examples run as they stand, small, and come to what they say."""

import os
import re
import sys
from pathlib import Path

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(name, *arguments, folder):
    return processes.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_score_and_look_shows_scores_questions_and_what_was_seen(tmp_path):
    done = run("score_and_look.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "overall" in done.stdout and "\nalignment\n" in done.stdout and "\nquality\n" in done.stdout
    assert "cubes" in done.stdout.partition("\nseen: ")[2]


def test_the_blocks_of_the_readme_run_in_a_clone(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for text in blocks:
        # In the clone, whose pictures the blocks name; the demo judge is unpacked below HOME.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
        done = processes.run([sys.executable, "-c", text], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(1 <= float(score) <= 5 for score in done.stdout.splitlines()[-1].split())


def test_reward_loop_moves_the_policy(tmp_path):
    done = run("reward_loop.py", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    shares = [float(word.rpartition(" ")[2]) for word in done.stdout.partition("; ")[2].split(",")]
    assert len(shares) == 3 and abs(sum(shares) - 1) < 0.02 and max(shares) > 0.34


def test_compare_models_ranks_two_and_checks_the_second(tmp_path):
    done = run("compare_models.py", "here", 2, folder=tmp_path)
    assert done.returncode == 1 and "DROP" in done.stdout, done.stderr
    board = (tmp_path / "here" / "board" / "leaderboard.csv").read_text()
    assert 0 < board.index("demo-painter") < board.index("demo-doodler")
