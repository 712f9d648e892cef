"""`dyneval train`: the command of a run, and its checks."""

import os
import sys

import pytest

from tests import processes


@pytest.mark.parametrize(
    ("stage", "variable", "broken"), [(1, "MODEL_NAME_OR_PATH", True), (2, "STAGE1_CHECKPOINT", False)]
)
def test_the_command_is_printed_and_checked(instruct_data, tiny_checkpoint, tmp_path, stage, variable, broken):
    if broken:
        instruct_data.t2ia.write_text("{not json")
    environment = os.environ | instruct_data.environment() | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "dyneval", "train", "--size", "2b", "--stage", str(stage)]
    command += ["--output", tmp_path / "runs", "--model", tiny_checkpoint, "--", "--learning_rate", "2e-5"]
    done = processes.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    first, *_, last = done.stdout.splitlines()
    assert first.startswith(f"{variable}={tiny_checkpoint} OUTPUT_ROOT={tmp_path / 'runs'} bash ")
    assert first.endswith(f"sft_qwen_3_vl_2b.sh {stage} --learning_rate 2e-5")
    assert done.returncode == int(broken) and (last == "ready to train") is not broken, done.stderr
    assert not (tmp_path / "runs").exists()
