"""The numbered scripts, before they install anything: what is missing is one line that says where it comes from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = 'OUTPUT={output}\nPROMPT_INPUT=("{output}/prompts of mine.txt" me/a-data-set)\nSTUDENT=2b\n'
NEEDS = [
    ("1_filter_prompts.sh", "prompts of mine.txt", "it is the PROMPT_INPUT of my.env"),
    ("2_generate_images.sh", "prompts/prompts.parquet", "Step 1 writes it: bash pipeline/1_filter_prompts.sh my.env"),
    ("3_distill_annotations.sh", "gendb/metadata.jsonl", "Step 2 writes it: bash pipeline/2_generate_images.sh my.env"),
    ("4_finetune.sh", "instruct/dynevalinstruct_t2ia.json", "Step 3 writes it: bash pipeline/3_distill_annotations.sh"),
    ("5_evaluate.sh", "instruct/heldout.jsonl", "Step 3 writes it: bash pipeline/3_distill_annotations.sh my.env"),
    ("5_evaluate.sh", "train/dyneval_2b_stage2_iqa", "Step 4 writes it: bash pipeline/4_finetune.sh my.env"),
]


@pytest.fixture
def start(tmp_path: Path):
    """Start a script of a copy of the repository in which set-up says that it was reached, and ends the script."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "pipeline", repository / "pipeline")
    (repository / "pipeline" / "setup_env.sh").write_text("echo installing >&2; exit 7\n")
    (repository / "my.env").write_text(SETTINGS.format(output=tmp_path / "run"))

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(repository / "pipeline" / script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    return run


@pytest.mark.parametrize(("script", "needed", "said"), NEEDS, ids=[f"{row[0]} {row[1]}" for row in NEEDS])
def test_what_a_step_needs_is_told_before_anything_is_installed(start, tmp_path, script, needed, said):
    missing = tmp_path / "run" / needed
    if missing.name.startswith("dyneval_"):
        (tmp_path / "run" / "instruct").mkdir(parents=True)
        (tmp_path / "run" / "instruct" / "heldout.jsonl").touch()
    done = start(script, "my.env")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and f"{script}: {missing}: no such file; {said}" in done.stderr

    missing.parent.mkdir(parents=True, exist_ok=True)
    missing.touch()
    done = start(script, "my.env")
    if script == "5_evaluate.sh" and missing.name == "heldout.jsonl":
        assert "stage2_iqa: no such file" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (7, "installing\n")


def test_a_settings_file_that_is_not_there_is_told_with_how_to_make_one(start):
    done = start("1_filter_prompts.sh", "no.env")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "no settings file 'no.env'; copy pipeline/full.env" in done.stderr


def test_the_settings_as_they_come_name_a_file_that_is_not_there(start):
    done = start("1_filter_prompts.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("no such file; it is the PROMPT_INPUT of pipeline/full.env\n"), done.stderr
