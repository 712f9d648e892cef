"""Every door answers --help at once: no heavy library is imported before its arguments are read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = "Qwen3-VL/qwen-vl-finetune"
DOORS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "extract_diverse_prompts.py",
        "image_gen_scripts/*.py",
        "Distill Annotations/**/*.py",
        f"{TRAINING}/scripts/*.py",
        f"{TRAINING}/tools/*.py",
        "inference/*.py",
    )
    for path in ROOT.glob(pattern)
)
HEAVY = ("torch", "transformers", "diffusers", "datasets", "deepspeed", "openai", "matplotlib", "scipy", "polars")


@pytest.mark.parametrize("door", DOORS)
def test_help_is_light(door):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / door, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "usage:" in run.stdout
    imported = set(re.findall(r"\|\s+(\w+)$", run.stderr, re.MULTILINE))
    assert not imported.intersection(HEAVY)


SHELL = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipeline/*.sh") if path.stem[0] in "12345ds")


@pytest.mark.parametrize("script", [*SHELL, "pipeline/slurm/submit.sh"])
def test_shell_scripts_say_what_they_do_and_do_nothing(script, tmp_path):
    run = subprocess.run(
        ["bash", ROOT / script, "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
        env={"PATH": "/bin"},
    )
    assert f"bash {script}" in run.stdout and not run.stderr and not run.stdout.startswith("#")
