"""Quantised copies of the demo judge are students, too; their scores are not those of the judge."""

import sys
from pathlib import Path

import pytest

from tests import processes

from .conftest import by_pair, score

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("kind", ["bnb4", "torchao8"])
def test_a_quantised_student_scores(environment, judge, pairs, expected, tmp_path, kind):
    python, student = environment("quantised"), tmp_path / kind
    script = Path(__file__).with_name("quantise.py")
    done = processes.run([python, script, kind, judge, student], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    # Without the package: one line, before any pair.
    missing = score(sys.executable, student, pairs, tmp_path / "none.jsonl")
    assert missing.returncode != 0 and "Traceback" not in missing.stderr, missing.stderr
    package = "torchao" if kind == "torchao8" else "bitsandbytes"
    assert f"{student}: the weights cannot be loaded (" in missing.stderr and package in missing.stderr.splitlines()[-1]

    done = score(python, student, pairs, tmp_path / "scores.jsonl", "--limit", "4")
    assert done.returncode == 0, done.stderr
    found = by_pair(tmp_path / "scores.jsonl")
    assert len(found) == 4
    for name, row in found.items():
        assert row["soft"]["overall"] == pytest.approx(expected[name]["soft"]["overall"], abs=0.6)
    assert any(row["soft"] != expected[name]["soft"] for name, row in found.items())
