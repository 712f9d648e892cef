"""The files that ARCHITECTURE.md names for each step are those that one pair goes through."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "Qwen3-VL" / "qwen-vl-finetune"
CALLS = Path(__file__).parent / "calls"
TABLE = (ROOT / "ARCHITECTURE.md").read_text().partition("## The way of one pair")[2].partition("\n## ")[0]
PATHS = {
    step: re.findall(r"`([^`]+)`", files)
    for step, files in re.findall(r"^\| (\d\w*) [\w ]+\| (.+) \|$", TABLE, re.MULTILINE)
}

NOTED = """
import runpy, sys
_, folder, *sys.argv = sys.argv
sys.path[0] = folder
import sitecustomize
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Ends a command that begins with a script: the calls of the script are noted, and it starts as `processes` does."""


def found(name):
    folders = (ROOT, ROOT / "dyneval", TRAINING)
    (path,) = {folder / name for folder in folders if (folder / name).is_file()}
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def calls(tmp_path_factory, tiny_checkpoint):
    """What called what in each step, as pairs of files; all steps are run with one prompt."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "prompts.txt").write_text("two red cubes left of a blue ball\n")
    (folder / "calls").mkdir()
    annotations, gendb, scores = folder / "annotations", folder / "gendb", folder / "scores.jsonl"
    prompts, metadata = folder / "prompts", ["--metadata", gendb / "metadata.jsonl"]
    draw = ["--all", "--family", "demo", "--any-tier", "--allocation", "all", "--set", "size=64", "--output", gendb]
    train = ["--max_steps", 1, "--per_device_train_batch_size", 1, "--gradient_accumulation_steps", 1]
    student = ["--checkpoint", folder / "train" / "dyneval_2b_stage1_t2ia", "--max-questions", 2, "--max-text", 20]
    build = ["--annotations", annotations, "--output", folder / "instruct"]
    noted, distill = [sys.executable, "-c", NOTED, CALLS], ROOT / "Distill Annotations"
    commands = {
        "1": [*noted, ROOT / "extract_diverse_prompts.py", "--input", folder / "prompts.txt", "--output", prompts],
        "2": [*noted, ROOT / "image_gen_scripts/generate.py", "--prompts", prompts / "prompts.parquet", *draw],
        "3a": [*noted, distill / "annotate.py", *metadata, "--output", annotations, "--engine", "oracle"],
        "3b": [*noted, distill / "build_dynevalinstruct.py", *metadata, *build],
        "4": ["bash", TRAINING / "scripts" / "sft_qwen_3_vl_2b.sh", 1, *train],
        "5a": [*noted, ROOT / "inference/run_inference.py", *student, "--limit", 1, *metadata, "--output", scores],
        "5b": [*noted, ROOT / "inference/leaderboard.py", "--scores", scores, "--output", folder / "board"],
    }
    environment = os.environ | {
        "CALLS_BELOW": str(ROOT),
        "DYNEVALINSTRUCT_T2IA_ANNOTATION": str(folder / "instruct" / "dynevalinstruct_t2ia.json"),
        "DYNEVALINSTRUCT_T2IA_DATA": str(gendb),
        "MODEL_NAME_OR_PATH": str(tiny_checkpoint),
        "OUTPUT_ROOT": str(folder / "train"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    calls = {}
    for step, command in commands.items():
        (notes := folder / "calls" / step).mkdir()
        to = {"CALLS_TO": str(notes)}
        done = processes.run(
            command,
            cwd=TRAINING if step == "4" else ROOT,
            env=environment | to | ({"PYTHONPATH": str(CALLS)} if step == "4" else {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [line for file in notes.iterdir() for line in file.read_text().splitlines()]
        calls[step] = {tuple(line.split("\t")) for line in lines}
    return calls


def test_every_step_has_its_files_and_no_more_than_a_reader_keeps_in_mind():
    assert list(PATHS) == ["1", "2", "3a", "3b", "4", "5a", "5b"]
    assert not [step for step, files in PATHS.items() if not 4 <= len(files) <= 8]


@pytest.mark.parametrize("step", PATHS)
def test_each_file_is_called_by_one_that_stands_before_it_or_works_in_a_thread(step, calls):
    files = [found(name) for name in PATHS[step]]
    if files[0].endswith(".sh"):  # what the shell calls is not noted: its text has to name the module
        module = PATHS[step][1].removesuffix(".py").replace("/", ".")
        assert f"-m {module} " in (ROOT / files.pop(0)).read_text()
    for number, file in enumerate(files[1:], 1):
        assert any((caller, file) in calls[step] for caller in (*files[:number], "")), file
