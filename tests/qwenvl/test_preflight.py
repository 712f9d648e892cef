"""The preflight finds what would stop or spoil a run, names it, and changes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.preflight import VARIABLES
from qwenvl.preflight.cli import main
from qwenvl.train.memory import Load, Sizes, Zero, needed
from tests import processes

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
    assert {check["status"] for check in checks.values()} <= {"ok", "note", "warning"}
    assert checks["tokens"]["details"] == {"<|T2IA|>": 151669, "<|IQA|>": 151670, "<|EVALUATION|>": 151671}
    assert checks["dynevalinstruct_t2ia: samples"]["details"]["tasks"] == {"<|EVALUATION|>": 8, "<|T2IA|>": 8}
    assert checks["dynevalinstruct_iqa: lengths"]["details"]["steps"] == 1
    assert checks["model"]["details"]["everything"] == 10_399_744
    assert not (tmp_path / "output").exists()


def test_the_command_prints_findings_and_a_verdict(instruct_data, tiny_checkpoint, tmp_path):
    environment = os.environ | instruct_data.environment() | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, SCRIPT, "--model", tiny_checkpoint, "--output-root", tmp_path / "output"]
    done = processes.run(command, env=environment, capture_output=True, text=True)
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


def test_a_bad_row_is_explained_in_full(preflight, instruct_data):
    rows = json.loads(instruct_data.t2ia.read_text())
    rows[1] |= {"image": 7, "id": [1], "note": 1}
    rows[1]["conversations"][0]["from"] = "tool"
    instruct_data.t2ia.write_text(json.dumps(rows))
    code, checks = preflight()
    assert code == 1 and checks["dynevalinstruct_iqa: samples"]["status"] == "ok"
    (told,) = checks["dynevalinstruct_t2ia: samples"]["details"]["first_problems"]
    assert "t2ia.json, sample 1" in told and "'image' must be a path or a list of paths" in told
    for place in (
        "$.conversations[0].from: 'tool' is not one of ['gpt', 'human', 'system']",
        "$.id: [1] is",
        "$.image: 7",
    ):
        assert place in told
    assert "note" not in told


def test_a_model_out_of_reach_is_an_error_but_tokens_are_checked_with_the_bundled_vocabulary(preflight, tmp_path):
    code, checks = preflight("--model", str(tmp_path / "none"))
    assert code == 1
    assert checks["model"]["message"].startswith(f"{tmp_path / 'none'}: no such model folder; name a folder, or")
    assert checks["tokens"]["status"] == "warning"
    assert "bundled Qwen3-VL vocabulary instead: task tokens 151669-151671" in checks["tokens"]["message"]


def test_a_hub_without_an_answer_is_asked_once_and_for_a_folder_not_at_all(instruct_data, tiny_checkpoint, tmp_path):
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(503)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    address = f"http://127.0.0.1:{server.server_address[1]}"
    environment = kept | instruct_data.environment() | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
    for model, status, requests in (("me/qwen", 1, 1), (tiny_checkpoint, 0, 0)):
        command = [sys.executable, SCRIPT, "--model", model, "--output-root", tmp_path / "output"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert len([path for path in asked if "me/qwen" in path]) == requests
        assert ("the Hub does not answer" in done.stderr) == bool(requests) and "Retrying" not in done.stderr
        asked.clear()
    server.shutdown()


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


def test_what_devices_share_is_counted_once(tmp_path):
    sizes = Sizes(
        everything=2_430_000_000, trained=2_030_000_000, trains_table=True, layers=28, hidden=2048, intermediate=6144,
        vocabulary=151_936,
    )  # fmt: skip
    one, eight = (Load(tokens=4000, patches=784, chunks=8, ranks=ranks, local=ranks, cpu=False) for ranks in (1, 8))
    step = {
        (stage, load.ranks): needed(sizes, load, Zero(stage=stage))[0]["step"]
        for stage in (2, 3)
        for load in (one, eight)
    }
    shared = 18 * 2_030_000_000 * 7 / 8
    assert step[2, 1] - step[2, 8] == pytest.approx(shared)
    assert step[3, 1] - step[3, 8] == pytest.approx(shared + 2 * 2_430_000_000 * 7 / 8)
    left, beside = needed(sizes, eight, Zero(stage=3, offload_optimizer=True, offload_weights=True))
    assert step[3, 8] - left["step"] == pytest.approx((18 * 2_030_000_000 + 2 * 2_430_000_000) / 8)
    assert beside["step"] == pytest.approx(18 * 2_030_000_000 + 2 * 2_430_000_000)


def test_adapters_need_less_memory_than_the_model(preflight, monkeypatch, tmp_path):
    _, full = preflight()
    monkeypatch.setenv("LORA_ENABLE", "True")
    monkeypatch.setenv("LORA_R", "8")
    _, lora = preflight()
    sizes = lora["model"]["details"]
    # Two layers of width 64: queries and output of four heads, keys and values of two, each 16 wide.
    assert sizes["adapters"] == 2 * 8 * (2 * (64 + 4 * 16) + 2 * (64 + 2 * 16))
    assert sizes["adapted"] == 2 * 64 * (2 * 4 * 16 + 2 * 2 * 16)
    gib = lora["memory"]["details"]["gib"]
    assert set(gib) == {"step", "save", "merge"} and gib["step"] < full["memory"]["details"]["gib"]["step"]
    assert lora["disk"]["details"]["needed_gib"] <= full["disk"]["details"]["needed_gib"]


def test_a_model_that_does_not_fit_into_this_machine_is_refused(preflight, tiny_checkpoint, monkeypatch, tmp_path):
    """A full 4B takes 85 GiB on one process; weights are not needed to know that, nor a machine with less."""
    large = shutil.copytree(tiny_checkpoint, tmp_path / "large", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((large / "config.json").read_text())
    config["text_config"] |= {"hidden_size": 2560 * 8, "intermediate_size": 9728 * 8, "num_hidden_layers": 36}
    config["vision_config"]["out_hidden_size"] = 2560 * 8
    (large / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("MODEL_NAME_OR_PATH", str(large))
    code, checks = preflight()
    assert code == 1 and checks["memory"]["status"] == "error"
    assert re.search(
        r"its phase save needs about \d{4,}\.\d GiB, .* are free: train adapters", checks["memory"]["message"]
    )
    assert checks["weights"]["message"] == "not loaded: see model and memory"


def test_the_arguments_of_the_run_are_read_as_training_reads_them(preflight, monkeypatch):
    monkeypatch.setenv("MAX_PIXELS", "4096")
    _, checks = preflight("--model_max_length", "75", "--lora_enable", "True", "--lora_r", "8")
    assert "trained with images of" not in checks["tokens"]["message"]
    assert checks["dynevalinstruct_iqa: lengths"]["details"]["skipped"] > 0
    assert checks["model"]["details"]["adapters"] > 0


def test_what_training_would_not_find_in_the_model_is_an_error(preflight):
    code, checks = preflight("--freeze", "*.layers.0.*")
    assert code == 0
    assert "model.language_model.layers.1.mlp.up_proj.weight" in checks["weights"]["details"]["trained"]
    for words in (["--freeze", "layers.9"], ["--attn_implementation", "none_such"]):
        code, checks = preflight(*words)
        assert code == 1 and words[1] in checks["weights"]["message"]


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        ({"LORA_ENABLE": "True", "LORA_R": "0"}, [], "--lora_r is 0, expected at least 1"),
        ({}, ["--learning_rat", "1"], "there is no option --learning_rat; did you mean --learning_rate?"),
        ({"MAX_PIXELS": "many"}, [], "argument --max_pixels/--max-pixels: invalid int value: 'many'"),
        ({"EVAL_SPLIT": "held out/"}, ["--eval_scores"], "argument --eval_scores/--eval-scores: expected one argument"),
        ({"REPORT_TO": "wandb"}, [], "--report_to wandb: wandb is not installed"),
        (
            {},
            ["--load_best_model_at_end", "True", "--eval_split", "heldout", "--eval_steps", "7"],
            "saving steps to be a",
        ),
    ],
)
def test_arguments_that_training_refuses_are_errors(variables, arguments, message, preflight, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, checks = preflight(*arguments)
    assert code == 1 and message in checks["arguments"]["message"]


def test_the_datasets_and_the_split_of_the_run_are_checked(preflight, instruct_data, monkeypatch):
    monkeypatch.setenv("DATASET_USE", "dynevalinstruct_iqa%50,dynevalinstruct_t2a")
    monkeypatch.setenv("EVAL_SPLIT", "valid")
    code, checks = preflight()
    assert code == 1 and "dynevalinstruct_t2ia: samples" not in checks
    assert "unknown dataset 'dynevalinstruct_t2a'" in checks["dynevalinstruct_t2a"]["message"]
    assert "no such file" in checks["dynevalinstruct_iqa%50"]["message"]
    monkeypatch.setenv("DATASET_USE", "dynevalinstruct_iqa%50")
    lines = instruct_data.iqa.read_text().splitlines()
    instruct_data.iqa.with_stem("iqa_valid").write_text("\n".join([*lines[:3], '{"image": 7}']) + "\n")
    code, checks = preflight("--eval_scores", "3", "--per_device_train_batch_size", "1")
    assert code == 1 and checks["dynevalinstruct_iqa_valid: samples"]["details"]["bad"] == 1
    assert checks["dynevalinstruct_iqa: samples"]["status"] == "ok"
    # Half of 16 samples, for half an epoch, in steps of four.
    assert checks["dynevalinstruct_iqa: lengths"]["details"]["steps"] == 1


def test_pixel_limits_that_leave_no_size_are_an_error(preflight, monkeypatch):
    monkeypatch.setenv("MIN_PIXELS", "90000")
    code, checks = preflight()
    assert code == 1 and checks["tokens"]["status"] == "error"
    assert checks["tokens"]["message"].startswith("min_pixels 90000 and max_pixels 50176 leave no image size")


def test_every_variable_of_the_launcher_is_known():
    launcher = SCRIPT.with_name("sft_common.sh").read_text()
    found = re.findall(r'--([a-z_0-9]+) "\$\{?([A-Z_0-9]+)', launcher)
    own = {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "NNODES", "DATASET_USE", "EVAL_STEPS"}
    assert {variable for option, variable in found if variable == option.upper()} - own == set(VARIABLES)


@pytest.mark.parametrize("size", ["2b", "4b"])
def test_the_launch_scripts_name_the_task_tokens(size):
    script = SCRIPT.with_name(f"sft_qwen_3_vl_{size}.sh").read_text()
    assert '--additional_special_tokens "<|T2IA|>,<|IQA|>,<|EVALUATION|>"' in script


COMPARE = """
import json, sys
from qwenvl.preflight.cli import main
sys.exit(main(["--json", "--workers", "1", "--model", sys.argv[1], "--output-root", sys.argv[2]]))
"""


def test_pixels_are_compared_with_qwen_vl_utils_and_transformers(environment, instruct_data, tiny_checkpoint, tmp_path):
    Image.effect_mandelbrot((333, 517), (-2, -1, 1, 1), 50).convert("RGB").save(instruct_data.root / "images" / "0.png")
    deep = Image.new("RGBA", (200, 60), (255, 0, 0, 90))
    deep.save(instruct_data.root / "images" / "1.png")
    done = processes.run(
        [environment("torchvision"), "-c", COMPARE, tiny_checkpoint, tmp_path / "output"],
        env=os.environ | instruct_data.environment() | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    found = checks["dynevalinstruct_t2ia: pixels"]
    assert found["status"] == "ok", found
    assert found["details"]["compared"] == 8 and 0 < found["details"]["largest_difference"] < 0.04
    assert "qwen-vl-utils" in found["message"]
