import sys

import pytest

from qwenvl.errors import TrainingInputError
from qwenvl.train.checkpoints import (
    NONE,
    check_resumable,
    forget_after,
    keep_newest,
    mark_complete,
    newest_complete,
    remove_incomplete,
)
from tests import processes


@pytest.fixture
def run_folder(tmp_path):
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "global_step").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"w" * 1000)
        (folder / "global_step" / "rank0.pt").write_bytes(b"o" * 500)
        mark_complete(folder, step)
    return tmp_path


def test_newest_whole_checkpoint_counts(run_folder, caplog):
    assert newest_complete(run_folder).name == "checkpoint-4"
    remove_incomplete(run_folder)
    assert newest_complete(run_folder).name == "checkpoint-4" and not caplog.records


@pytest.mark.parametrize("damage", ["cut", "lost", "longer"])
def test_checkpoint_with_a_damaged_file_is_passed_over_and_removed(run_folder, damage, caplog):
    path = run_folder / "checkpoint-4" / "global_step" / "rank0.pt"
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"o" * (100 if damage == "cut" else 600))
    assert newest_complete(run_folder).name == "checkpoint-2"
    remove_incomplete(run_folder)
    assert not (run_folder / "checkpoint-4").exists()
    assert "global_step/rank0.pt has" in caplog.text and "instead of 500" in caplog.text


@pytest.mark.parametrize("marker", ["", "{}", "[]", '{"files": 3}', '{"files": [1]}'])
def test_checkpoint_with_a_damaged_marker_does_not_count(run_folder, marker):
    (run_folder / "checkpoint-4" / "complete.json").write_text(marker)
    assert newest_complete(run_folder).name == "checkpoint-2"


@pytest.mark.parametrize(
    ("stored", "wanted", "reason"),
    [
        ("one file", "ZeRO-2 of 2 processes", "stored as one file, this run would read ZeRO-2 of 2 processes"),
        ("ZeRO-3 of 2 processes", "ZeRO-3 of 4 processes", "take the number of processes and the --deepspeed"),
        (NONE, "one file", "written with --save_only_model True, so it holds no optimizer"),
    ],
)
def test_a_checkpoint_with_another_optimizer_is_not_gone_on_from(run_folder, stored, wanted, reason):
    folder = run_folder / "checkpoint-4"
    mark_complete(folder, 4, stored)
    with pytest.raises(TrainingInputError, match=reason):
        check_resumable(folder, wanted)


def test_the_best_is_kept_beside_the_newest_and_later_ones_can_be_forgotten(run_folder):
    for step in (6, 8):
        (run_folder / f"checkpoint-{step}").mkdir()
        mark_complete(run_folder / f"checkpoint-{step}", step)
    keep_newest(run_folder, 1, best=4)
    assert {path.name for path in run_folder.iterdir()} == {"checkpoint-4", "checkpoint-8"}
    forget_after(run_folder, 4)
    assert {path.name for path in run_folder.iterdir()} == {"checkpoint-4"}


WRITES = """
import sys, torch, safetensors.torch
from pathlib import Path
from qwenvl.errors import TrainingInputError
from qwenvl.train.checkpoints import saving
folder, kind = Path(sys.argv[1]), sys.argv[2]
tensors = {"w": torch.zeros(1 << 20)}
try:
    with saving(folder):
        if kind == "torch":
            torch.save(tensors, folder / "optimizer.pt")
        elif kind == "safetensors":
            safetensors.torch.save_file(tensors, folder / "model.safetensors")
        elif kind == "json":
            (folder / "trainer_state.json").write_text("0" * (1 << 22))
        else:
            torch.zeros(2) @ torch.zeros(3)
except TrainingInputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("kind", ["torch", "safetensors", "json"])
def test_what_cannot_be_written_is_one_line(tmp_path, kind):
    # No file may grow beyond 1 MB: to those who write, the end of the disk.
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 1024; exec "$@"', "-"]
    done = processes.run([*limited, sys.executable, "-c", WRITES, tmp_path, kind], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path}: cannot be written (" in done.stderr and "GB are free there" in done.stderr


def test_other_errors_of_saving_keep_their_traceback(tmp_path):
    done = processes.run([sys.executable, "-c", WRITES, tmp_path, "bug"], capture_output=True, text=True)
    assert done.returncode == 1 and "RuntimeError" in done.stderr and "cannot be written" not in done.stderr
