"""The `dyneval` command, in processes of its own."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image

from dyneval.cli import VERBS, doctor, main, score
from dyneval.files.jsonl import read_jsonl
from tests import processes

SMALL = ["--mode", "fast", "--max-questions", "2", "--max-text", "8", "--device", "cpu"]
HEAVY = {"torch", "transformers", "numpy", "PIL", "polars", "fastapi", "pydantic", "httpx2"}


def dyneval(*arguments, **options):
    command = [sys.executable, *options.pop("python", []), "-m", "dyneval", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return processes.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_is_light(arguments):
    done = dyneval(*arguments, python=["-X", "importtime"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(("usage: dyneval", "dyneval 0."))
    assert not HEAVY.intersection(re.findall(r"\|\s+(\w+)$", done.stderr, re.MULTILINE))


def test_a_client_is_light():
    code = "from dyneval import Client; from dyneval.scorer import LoadedPair, ScoringError, make_pair\n"
    code += "Client('http://x').close()"
    command = [sys.executable, "-X", "importtime", "-c", code]
    loaded = processes.run(command, capture_output=True, text=True, check=True).stderr
    found = set(re.findall(r"\|\s+(\w+)$", loaded, re.MULTILINE))
    assert "httpx2" in found and not found & (HEAVY - {"httpx2"})


def test_the_installed_command_is_this_one():
    done = processes.run(
        [Path(sys.executable).with_name("dyneval"), "--help"], capture_output=True, text=True, check=True
    )
    assert all(f"  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    "arguments", [[], ["judge"], ["score"], ["score", "a.png"], ["score", "--metadata", "m.jsonl"]]
)
def test_a_wrong_command_line_is_status_two(arguments, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert said.startswith("dyneval") if arguments else said.startswith("usage: dyneval VERB")
    assert not arguments or said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.png", "--metadata", "m.jsonl", "--prompt", "p", "--output", "o"],
        ["a.png", "--prompt", "p", "--metadata", "m.jsonl"],
    ],
)
def test_what_does_not_go_together_is_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        score.main(arguments, "dyneval score")
    assert "dyneval score: error:" in capsys.readouterr().err


def test_several_images_are_lines_each_with_its_result_or_error(student, odd_images, tmp_path):
    for name, (content, _) in odd_images.items():
        (tmp_path / name).write_bytes(content)
    done = dyneval(
        "score", *odd_images, "missing.png", "--prompt", "a cat", "--checkpoint", student, *SMALL, cwd=tmp_path
    )
    good = {name for name, (_, reason) in odd_images.items() if reason is None}
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["image"] for record in records} == good
    errors = done.stderr.split("dyneval score: ")[-1].splitlines()
    for name, (_, reason) in odd_images.items():
        assert reason is None or any(name in line and reason in line for line in errors), name
    assert "missing.png: no such image file" in errors
    assert done.returncode == 1


def test_several_images_are_kept_in_a_file_and_scored_once(student, odd_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/one.jpg", "b/one.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(odd_images["cmyk.jpg"][0])
    command = ["a/one.jpg", "b/one.jpg", "gone.png", "--prompt", "a cat", "--checkpoint", str(student), *SMALL]
    for _ in range(2):
        assert score.main([*command, "--output", "scores.jsonl"]) == 1
        assert [row["image"] for row in read_jsonl(Path("scores.jsonl"))] == ["a/one.jpg", "b/one.jpg"]
        assert [row["reason"] for row in read_jsonl(Path("scores.rejects.jsonl"))] == ["gone.png: no such image file"]
    assert not Path("scores.jsonl.superseded").exists()


def test_one_image_is_an_object(student, odd_images, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(odd_images["cmyk.jpg"][0])
    image = str(tmp_path / "a.jpg")
    assert score.main([image, "--prompt", "a cat", "--checkpoint", str(student), *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "a cat"


def test_an_image_folder_with_odd_prompts_and_images_is_scored_row_by_row(student, odd_images, odd_prompts, tmp_path):
    rows, reasons = [], {}
    for name, (content, reason) in odd_images.items():
        (tmp_path / name).write_bytes(content)
        rows.append({"pair_id": f"image-{name}", "file_name": name, "prompt": "a cat"})
        reasons[rows[-1]["pair_id"]] = reason
    for name, (prompt, reason) in odd_prompts.items():
        rows.append({"pair_id": f"prompt-{name}", "file_name": "cmyk.jpg", "prompt": prompt})
        reasons[rows[-1]["pair_id"]] = reason
    metadata, output = tmp_path / "metadata.jsonl", tmp_path / "scores.jsonl"
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--metadata", tmp_path, "--output", output, "--checkpoint", student, *SMALL]
    assert score.main([str(argument) for argument in arguments]) == 1
    scored = {row["pair_id"] for row in read_jsonl(output)}
    assert scored == {pair_id for pair_id, reason in reasons.items() if reason is None}
    for row in read_jsonl(tmp_path / "scores.rejects.jsonl"):
        assert reasons.pop(row["pair_id"]) in row["reason"]
    assert set(reasons) == scored


def test_a_mistyped_path_is_told_before_a_student_is_loaded(tmp_path, capsys):
    assert score.main([str(tmp_path / "x.png"), "--prompt", "p", "--checkpoint", "nowhere"], "dyneval score") == 1
    assert capsys.readouterr().err == f"dyneval score: {tmp_path}/x.png: no such image file\n"


def test_the_doctor_looks_at_everything_and_scores_one_image(student, capsys):
    assert doctor.main(["--checkpoint", str(student), *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    where = "this machine can score" + ("" if torch.cuda.is_available() else ", on its CPU")
    assert lines.pop() == f"{where}; next: dyneval score IMAGE --prompt TEXT --checkpoint {student}"
    assert all(re.match(r"(ok|note) +\S+ +\S", line) for line in lines), lines
    found = [line.split()[1] for line in lines]
    assert found[:4] == ["python", "torch", "transformers", "llguidance"]
    assert {"device", "attention", "disk", "[serve]"} <= set(found)
    assert found[-3:] == ["checkpoint", "conventions", "scoring"]


def test_the_doctor_finds_a_bad_checkpoint_and_goes_on_to_the_end(tiny_checkpoint, capsys):
    assert doctor.main(["--checkpoint", str(tiny_checkpoint)]) == 1
    said = capsys.readouterr().out
    assert "FAIL  checkpoint" in said
    assert said.splitlines()[-1] == "this machine cannot score yet; mend checkpoint, and run dyneval doctor again"


def test_a_token_that_is_too_short_is_refused_without_being_shown(student):
    environment = os.environ | {"DYNEVAL_TOKEN": "hunter2"}
    command = [sys.executable, "-m", "dyneval", "serve", "--checkpoint", str(student)]
    done = processes.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 1 and "under 16 characters" in done.stderr and "hunter2" not in done.stderr


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_tables_are_scored_as_jsonl_is(student, odd_images, tmp_path, kind):
    import polars as pl

    (tmp_path / "a.jpg").write_bytes(odd_images["cmyk.jpg"][0])
    frame = pl.DataFrame({"file_name": ["a.jpg", "gone.jpg"], "prompt": ["a cat", "a dog"], "seed": [1, 2]})
    frame.write_csv(tmp_path / "t.csv") if kind == "csv" else frame.write_parquet(tmp_path / "t.parquet")
    output = tmp_path / "scores.jsonl"
    arguments = ["--metadata", tmp_path / f"t.{kind}", "--output", output, "--checkpoint", student, *SMALL]
    assert score.main([str(argument) for argument in arguments]) == 1
    assert [row["prompt"] for row in read_jsonl(output)] == ["a cat"]
    (reject,) = read_jsonl(tmp_path / "scores.rejects.jsonl")
    assert "gone.jpg" in reject["reason"]


def test_schemas_of_our_files_are_printed_for_other_programs(capsys):
    assert main(["schema"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"pair", "t2ia_answers", "score"} <= set(names)
    for name in names:
        assert main(["schema", name]) == 0
        Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_a_prompt_in_another_encoding_is_one_line(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    done = processes.run(
        [sys.executable, "-m", "dyneval", "score", "a.png", "--prompt", b"caf\xe9", "--output", "s.jsonl"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the prompt is not UTF-8 at character 4" in done.stderr
