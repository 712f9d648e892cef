"""The preflight finds what would stop or spoil a run, names it, and changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyneval.errors import SchemaError
from dyneval.tokens import TASK_TOKEN_IDS, evaluation_turn, iqa_turn, t2ia_turn
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import Recipe
from qwenvl.preflight.cli import main
from qwenvl.preflight.data import ALLOWED, check_sample
from qwenvl.preflight.model import memory_gib

from .conftest import sample

SCRIPT = Path(__file__).parents[2] / "Qwen3-VL" / "qwen-vl-finetune" / "scripts" / "validate_dyneval_train_setup.py"


@pytest.fixture
def preflight(instruct_data, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    for name, value in instruct_data.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MODEL_NAME_OR_PATH", str(tiny_checkpoint))
    monkeypatch.setenv("OUTPUT_ROOT", str(tmp_path / "output"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def preflight(*arguments):
        code = main(["--json", "--workers", "1", *arguments])
        findings = json.loads(capsys.readouterr().out)
        assert findings["ok"] == (code == 0)
        return code, {check["name"]: check for check in findings["checks"]}

    return preflight


def test_a_good_set_up_is_ready(preflight, tmp_path):
    code, checks = preflight("--full")
    assert code == 0
    assert {check["status"] for check in checks.values()} <= {"ok", "warning"}
    assert checks["tokens"]["details"] == {"<|T2IA|>": 151669, "<|IQA|>": 151670, "<|EVALUATION|>": 151671}
    assert checks["dynevalinstruct_t2ia: samples"]["details"]["tasks"] == {"<|EVALUATION|>": 8, "<|T2IA|>": 8}
    assert checks["dynevalinstruct_iqa: lengths"]["details"]["steps"] == 1
    assert sum(checks["model"]["details"]["parameters"].values()) == 10_399_744
    assert not (tmp_path / "output").exists()


def test_the_command_prints_findings_and_a_verdict(instruct_data, tiny_checkpoint, tmp_path):
    environment = os.environ | instruct_data.environment() | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, SCRIPT, "--model", tiny_checkpoint, "--output-root", tmp_path / "output"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ready to train"


def test_unset_variables_and_broken_files_are_errors(preflight, instruct_data, monkeypatch):
    monkeypatch.delenv("DYNEVALINSTRUCT_T2IA_DATA")
    instruct_data.iqa.write_text("{not json")
    code, checks = preflight()
    assert code == 1
    assert "DYNEVALINSTRUCT_T2IA_DATA is not set" in checks["dynevalinstruct_t2ia"]["message"]
    assert "iqa.jsonl: is not JSON" in checks["dynevalinstruct_iqa"]["message"]


def test_an_image_folder_named_too_deep_is_corrected(preflight, instruct_data, monkeypatch):
    monkeypatch.setenv("DYNEVALINSTRUCT_IQA_DATA", str(instruct_data.root / "images"))
    code, checks = preflight()
    assert code == 1 and checks["dynevalinstruct_t2ia: images"]["status"] == "ok"
    message = checks["dynevalinstruct_iqa"]["message"]
    assert message.endswith(f"set DYNEVALINSTRUCT_IQA_DATA to {instruct_data.root}")


def test_the_dataset_in_one_file_is_checked_where_only_that_is_named(preflight, instruct_data, monkeypatch):
    for name in instruct_data.environment():
        monkeypatch.delenv(name)
    iqa = [json.loads(line) for line in instruct_data.iqa.read_text().splitlines()]
    one = instruct_data.root / "one.json"
    one.write_text(json.dumps(json.loads(instruct_data.t2ia.read_text()) + iqa))
    monkeypatch.setenv("DYNEVALINSTRUCT_ANNOTATION", str(one))
    monkeypatch.setenv("DYNEVALINSTRUCT_DATA", str(instruct_data.root))
    code, checks = preflight()
    assert code == 0
    tasks = {"<|EVALUATION|>": 16, "<|T2IA|>": 8, "<|IQA|>": 8}
    assert checks["dynevalinstruct: samples"]["details"]["tasks"] == tasks


def test_images_are_decoded(preflight, instruct_data):
    images = instruct_data.root / "images"
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:-40])
    (images / "2.png").unlink()
    code, checks = preflight()
    assert code == 1
    found = checks["dynevalinstruct_t2ia: images"]["details"]
    assert found["bad"] == 2
    assert "broken or truncated" in found["first_problems"][0] and "no such image file" in found["first_problems"][1]
    assert checks["dynevalinstruct_t2ia: samples"]["status"] == "ok"


def test_samples_over_the_limit_are_announced(preflight, monkeypatch):
    monkeypatch.setenv("MODEL_MAX_LENGTH", "75")
    _, checks = preflight()
    lengths = checks["dynevalinstruct_iqa: lengths"]
    assert lengths["status"] == "warning"
    assert lengths["details"]["skipped"] > 0


STAGE1 = ALLOWED["dynevalinstruct_t2ia"]
ANSWER = [{"question": "a?", "answer": "yes"}]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (sample(iqa_turn(), ANSWER, "a.png"), r"its task token is <\|IQA\|>; this stage trains"),
        (sample("Prompt: a", ANSWER), "does not begin with a task token"),
        (sample(f"x {t2ia_turn('a')}", ANSWER), "does not begin with a task token"),
        (sample(t2ia_turn("a"), ["<|IQA|>"]), "its answer holds a task token"),
        (sample("<image>\n" + t2ia_turn("a"), ANSWER, "a.png"), r"a <\|T2IA\|> sample has no image"),
        (sample(evaluation_turn("a", ["b?"]), ANSWER), "more <image> placeholders"),
        ({"conversations": []}, "conversations: Expected array of length >= 2, found"),
        (sample(t2ia_turn("a"), ANSWER) | {"note": 1}, "unknown field note"),
    ],
)
def test_a_sample_of_the_wrong_kind_says_why(wrong, reason):
    with pytest.raises((TrainingInputError, SchemaError), match=reason):
        check_sample(wrong, STAGE1)


def test_a_task_token_in_a_prompt_is_text(preflight):
    assert check_sample(sample(t2ia_turn("a <|IQA|> <|im_end|>"), ANSWER), STAGE1) == "<|T2IA|>"


def test_a_model_out_of_reach_is_an_error_but_tokens_are_checked_with_the_bundled_vocabulary(preflight, tmp_path):
    code, checks = preflight("--model", str(tmp_path / "none"))
    assert code == 1
    assert "no configuration found" in checks["model"]["message"]
    assert checks["tokens"]["status"] == "warning"
    assert "bundled Qwen3-VL vocabulary instead: task tokens 151669-151671" in checks["tokens"]["message"]


def test_a_tokenizer_with_other_task_tokens_is_an_error(preflight, other_tokens):
    folder = other_tokens(["<|mine|>", *TASK_TOKEN_IDS])
    code, checks = preflight("--model", str(folder))
    assert code == 1 and checks["tokens"]["status"] == "error"
    assert f"{folder}: the tokenizer knows the task tokens as {{'<|T2IA|>': 151670" in checks["tokens"]["message"]


def test_another_family_is_an_error(preflight, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    code, checks = preflight("--model", str(tmp_path))
    assert code == 1
    assert "is a qwen2_5_vl model" in checks["model"]["message"]


def test_the_state_of_runs_is_told(preflight, tmp_path):
    output = tmp_path / "output"
    for name, files in {
        "dyneval_2b_stage1_t2ia": ["training_log.json"],
        "dyneval_2b_stage2_iqa": ["checkpoint-7/complete.json", "checkpoint-9/model.safetensors"],
    }.items():
        for file in files:
            (output / name / file).parent.mkdir(parents=True, exist_ok=True)
            (output / name / file).write_text('{"step": 7, "files": {}}')
    _, checks = preflight()
    states = checks["outputs"]["details"]
    assert states["dyneval_2b_stage1_t2ia"] == "finished, will be kept"
    assert states["dyneval_2b_stage2_iqa"] == "will resume from checkpoint-7"


def test_memory_is_shared_by_zero_stage_and_ranks(tmp_path):
    recipe = Recipe(model="m", output_root=tmp_path, deepspeed=tmp_path / "zero.json")
    sizes = {"vision": 400_000_000, "merger": 30_000_000, "language": 2_000_000_000}
    one, three = memory_gib(recipe, sizes, 3, 1), memory_gib(recipe, sizes, 3, 8)
    assert one["optimizer"] == pytest.approx(8 * three["optimizer"]) == pytest.approx(12 * 2.03e9 / 2**30)
    assert memory_gib(recipe, sizes, 2, 8)["weights"] == one["weights"] == pytest.approx(2 * 2.43e9 / 2**30)


def test_adapters_need_less_memory_than_the_model(preflight, monkeypatch, tmp_path):
    _, full = preflight()
    monkeypatch.setenv("LORA_ENABLE", "True")
    monkeypatch.setenv("LORA_R", "8")
    _, lora = preflight()
    sizes = lora["model"]["details"]["parameters"]
    # Two layers of width 64: queries and output of four heads, keys and values of two, each 16 wide.
    assert sizes["adapters"] == 2 * 8 * (2 * (64 + 4 * 16) + 2 * (64 + 2 * 16))
    assert lora["memory"]["details"]["gib"]["optimizer"] * 2**30 == pytest.approx(
        12 * (sizes["adapters"] + sizes["merger"])
    )
    assert lora["disk"]["details"]["needed_gib"] <= full["disk"]["details"]["needed_gib"]


def test_a_recipe_variable_that_is_no_number_is_refused(preflight, monkeypatch, capsys):
    monkeypatch.setenv("MAX_PIXELS", "many")
    with pytest.raises(SystemExit):
        main([])
    assert "MAX_PIXELS is 'many', expected a number" in capsys.readouterr().err
