"""Real runs in processes of their own: stages, ranks, kills, signals, bad samples."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dyneval.processing import Processor
from dyneval.tokens import TASK_TOKEN_IDS
from tests import processes

from .conftest import make_instruct_data

FOLDER = Path(__file__).parents[2] / "Qwen3-VL" / "qwen-vl-finetune"
TRAIN = ["-m", "qwenvl.train.train_qwen"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
QUICK = [
    *["--use_cpu", "True", "--report_to", "none", "--dataloader_num_workers", "0", "--loss_chunks", "1"],
    *["--learning_rate", "1e-3", "--gradient_checkpointing", "False", "--dataloader_pin_memory", "False"],
]
# Ends programs that put something in the way of training first.
TRAINS = """
import runpy, sys
sys.argv[0] = "train_qwen"
runpy.run_module("qwenvl.train.train_qwen", run_name="__main__")
"""
# Dies in the middle of writing a checkpoint: weights are there, the optimizer's state is half written.
DIES_WHILE_SAVING = """
import os, signal, torch
save = torch.save
def torn(value, path, *rest, **options):
    if str(path).endswith("checkpoint-4/optimizer.pt"):
        open(path, "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return save(value, path, *rest, **options)
torch.save = torn
"""
# Dies after the last checkpoint, before the final model is written.
DIES_AFTER_TRAINING = """
import os, signal
from qwenvl.train import checkpoints
checkpoints.save_final = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
# Runs out of memory in its third step.
OUT_OF_MEMORY = """
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
inner, calls = Qwen3VLModel.forward, []
def forward(*arguments, **rest):
    calls.append(1)
    if len(calls) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return inner(*arguments, **rest)
Qwen3VLModel.forward = forward
"""


def user_environment(data, checkpoint, output):
    """The environment of a user, without what the test runner itself may have set."""
    kept = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "MODEL_NAME_OR_PATH": str(checkpoint),
        "OUTPUT_ROOT": str(output),
    }
    return kept | data.environment() | own


@pytest.fixture
def environment(instruct_data, tiny_checkpoint, tmp_path):
    return user_environment(instruct_data, tiny_checkpoint, tmp_path / "output")


def arguments(model, output, *more, dataset="dynevalinstruct_t2ia"):
    return ["--model_name_or_path", model, "--dataset_use", dataset, "--output_dir", output, *QUICK, *more]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """A folder of commands for a PATH: those that a script calls start as those that a test calls."""
    with processes.for_shells(tmp_path_factory.mktemp("commands")) as folder:
        yield folder


def with_commands(environment, commands):
    return environment | {"PATH": f"{commands}{os.pathsep}{environment['PATH']}"}


def run(command, environment, expected=0):
    done = processes.run(
        [str(part) for part in command], env=environment, cwd=FOLDER, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == expected, done.stderr[-3000:]
    return done


def history(output):
    log = json.loads((output / "training_log.json").read_text())
    return {entry["step"]: entry["loss"] for entry in log["log_history"] if "loss" in entry}


def heldout_history(output):
    log = json.loads((output / "training_log.json").read_text())
    losses = ("eval_loss", "eval_loss_t2ia", "eval_loss_evaluation", "eval_target_tokens")
    return {
        f"{entry['step']}-{name}": entry[name]
        for entry in log["log_history"]
        if "eval_loss" in entry
        for name in losses
    }


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_both_stages_with_the_published_commands(environment, commands, tiny_checkpoint, tmp_path):
    script = ["bash", "scripts/sft_qwen_3_vl_2b.sh"]
    quick = ["--max_steps", 2, "--gradient_accumulation_steps", 1, "--dataloader_num_workers", 0]
    refused = run([*script, 2], environment, expected=1)
    assert refused.stderr.startswith("sft: stage 2 starts from stage 1, but there is no finished checkpoint at")
    assert len(refused.stderr.splitlines()) == 1

    told = run([*script, 1, "--learning_rate", "1e-3", *quick], environment)
    assert "\nmemory: about step " in told.stderr
    # Lines for people: no dictionaries, no bars, no warnings about what is as it should be.
    assert [line.split(" | ")[0] for line in told.stderr.splitlines() if line.startswith("step ")] == [
        "step 1 of 2",
        "step 2 of 2",
    ]
    assert not {word for word in ("{'", "it/s", "arning", "built successfully") if word in told.stderr + told.stdout}
    stage1 = tmp_path / "output" / "dyneval_2b_stage1_t2ia"
    assert json.loads((stage1 / "added_tokens.json").read_text()).items() >= TASK_TOKEN_IDS.items()
    losses = history(stage1)
    assert list(losses) == [1, 2]
    # That was the whole way, with interpreters as users start them.
    environment = with_commands(environment, commands)
    # A learning rate of 0 leaves Stage 2 with the weights that it started from.
    run([*script, 2, "--learning_rate", "0", *quick], environment)
    stage2 = tmp_path / "output" / "dyneval_2b_stage2_iqa"
    one, two, base = weights(stage1), weights(stage2), weights(tiny_checkpoint)
    # The launcher trains in bfloat16 where the CPU has instructions for it.
    base = {name: value.to(one[name].dtype) for name, value in base.items()}
    assert one.keys() == two.keys() == base.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    changed = {name for name in one if not torch.equal(one[name], base[name])}
    assert changed and not any(".visual.blocks." in name for name in changed)
    assert any("deepstack_merger_list" in name for name in changed)

    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(stage2)
    assert "use_cache" not in json.loads((stage2 / "config.json").read_text())
    processor = Processor.from_pretrained(stage2)
    assert (processor.max_pixels, processor.added_task_tokens) == (50_176, False)
    saved = Processor.from_pretrained(stage2 / "checkpoint-2")
    assert saved.max_pixels == 50_176
    assert model.get_input_embeddings().weight.shape[0] == 151_936
    log = json.loads((stage2 / "training_log.json").read_text())
    assert log["samples"] | {"tokens": 0} == {
        **{"entries": 16, "unsampled": 0, "too_long": 0, "bad": 0, "used": 16, "tokens": 0}
    }
    rows = [json.loads(line) for line in (stage2 / "train_log.jsonl").read_text().splitlines()]
    assert rows == log["log_history"]
    assert (stage2 / "loss.png").read_bytes().startswith(b"\x89PNG")
    step = log["log_history"][0]
    assert {"loss_iqa", "loss_evaluation", "tokens_per_second", "target_tokens", "memory_gib"} <= step.keys()

    again = run([*script, 1, "--learning_rate", "1e-3", *quick], environment)
    assert "this run is finished, nothing to do" in again.stderr
    other = run([*script, 1, "--learning_rate", "2e-3", *quick], environment, expected=1)
    assert "holds a run with other settings (learning_rate: 0.001 there, 0.002 here)" in other.stderr.splitlines()[-1]


IN_ORDER = ["--max_steps", 3, "--train_sampling_strategy", "sequential", "--per_device_train_batch_size", 1]
HELD_OUT = ["--eval_split", "heldout", "--eval_steps", 2]


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, tmp_path_factory):
    """Environment and output of a run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    environment = user_environment(make_instruct_data(folder / "data"), tiny_checkpoint, folder / "output")
    more = ["--gradient_accumulation_steps", 2, *HELD_OUT]
    command = arguments(tiny_checkpoint, folder / "run", *IN_ORDER, *more)
    run([sys.executable, *TRAIN, *command], environment)
    return environment, folder / "run"


@pytest.mark.parametrize("parallel", ["ddp", "zero2", "zero3"])
def test_two_ranks_equal_one_though_one_of_them_has_no_images(parallel, alone, tiny_checkpoint, tmp_path):
    """In order and one by one, rank 0 gets all samples with an image and rank 1 all without."""
    environment, single = alone
    more = [] if parallel == "ddp" else ["--deepspeed", f"scripts/{parallel}.json"]
    # More pieces of logits than a text-only sample needs: every rank must still gather equally often.
    more += ["--loss_chunks", 3, "--gradient_accumulation_steps", 1, "--ddp_backend", "gloo"]
    # Of the three held-out samples, rank 1 gets one: it evaluates a batch without samples at the end.
    more += [*HELD_OUT, "--per_device_eval_batch_size", 1]
    run([sys.executable, *TORCHRUN, 2, *TRAIN, *arguments(tiny_checkpoint, tmp_path, *IN_ORDER, *more)], environment)
    assert history(tmp_path) == pytest.approx(history(single), rel=1e-5)
    assert heldout_history(tmp_path) == pytest.approx(heldout_history(single), rel=1e-4)
    assert {name.split("-")[0] for name in heldout_history(single)} == {"2", "3"}
    one, two = weights(single), weights(tmp_path)
    assert one.keys() == two.keys()
    # AdamW turns the smallest gradients into steps of the learning rate, so single weights may differ by its size.
    for name in one:
        assert torch.allclose(one[name], two[name], atol=3e-3), name
        assert (one[name] - two[name]).abs().mean() < 2e-6, name


def test_a_killed_run_goes_on_as_if_undisturbed(environment, tiny_checkpoint, tmp_path):
    common = [
        "--max_steps",
        6,
        "--save_steps",
        2,
        "--per_device_train_batch_size",
        2,
        "--gradient_accumulation_steps",
        1,
    ]
    run([sys.executable, *TRAIN, *arguments(tiny_checkpoint, tmp_path / "whole", *common)], environment)

    killed = tmp_path / "killed"
    command = arguments(tiny_checkpoint, killed, *common)
    run([sys.executable, "-c", DIES_WHILE_SAVING + TRAINS, *command], environment, expected=-signal.SIGKILL)
    assert (killed / "checkpoint-2" / "complete.json").is_file()
    assert (killed / "checkpoint-4").is_dir() and not (killed / "checkpoint-4" / "complete.json").exists()
    assert not (killed / "config.json").exists()

    # Goes on from step 2, and is killed again somewhere between two checkpoints.
    process = processes.Process(
        [str(part) for part in [sys.executable, *TRAIN, *command]],
        env=environment, cwd=FOLDER, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: (killed / "checkpoint-4" / "complete.json").is_file(), process)
    process.kill()
    _, messages = process.communicate()
    assert "removing" in messages and "checkpoint-4: its writing was interrupted" in messages
    assert f"resuming from {killed / 'checkpoint-2'}" in messages

    last = run([sys.executable, *TRAIN, *command], environment)
    assert "resuming from" in last.stderr
    assert history(killed) == pytest.approx(history(tmp_path / "whole"), rel=1e-6)
    one, two = weights(tmp_path / "whole"), weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [path.name for path in killed.glob("checkpoint-*")] == ["checkpoint-6"]


@pytest.mark.parametrize("more", [["--max_steps", 3], ["--num_train_epochs", 1, "--lora_enable"]])
def test_a_run_killed_after_its_last_step_takes_none_more(more, alone, tiny_checkpoint, tmp_path):
    environment, _ = alone
    common = ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2, "--save_steps", 1, *more]

    def command(output):
        return arguments(tiny_checkpoint, output, *common, "--eval_split", "heldout", "--eval_strategy", "epoch")

    run([sys.executable, *TRAIN, *command(tmp_path / "whole")], environment)
    killed = tmp_path / "killed"
    run([sys.executable, "-c", DIES_AFTER_TRAINING + TRAINS, *command(killed)], environment, expected=-signal.SIGKILL)
    assert not (killed / "training_log.json").exists()
    run([sys.executable, *TRAIN, *command(killed)], environment)
    assert history(killed) == history(tmp_path / "whole")
    assert heldout_history(killed) == pytest.approx(heldout_history(tmp_path / "whole"), rel=1e-6)
    one, two = weights(tmp_path / "whole"), weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_out_of_memory_goes_on_in_smaller_batches(environment, tiny_checkpoint, tmp_path):
    def command(output, batch, accumulated):
        size = ["--per_device_train_batch_size", batch, "--gradient_accumulation_steps", accumulated]
        return arguments(tiny_checkpoint, output, "--max_steps", 3, "--save_steps", 2, *size)

    run([sys.executable, *TRAIN, *command(tmp_path / "whole", 2, 1)], environment)
    output = tmp_path / "short"
    stopped = run([sys.executable, "-c", OUT_OF_MEMORY + TRAINS, *command(output, 2, 1)], environment, expected=1)
    (reason,) = [line for line in stopped.stderr.splitlines() if line.startswith("train_qwen: ")]
    assert "out of memory" in reason and "Traceback" not in stopped.stderr
    assert "--per_device_train_batch_size 1 --gradient_accumulation_steps 2:" in reason
    resumed = run([sys.executable, *TRAIN, *command(output, 1, 2)], environment)
    assert f"resuming from {output / 'checkpoint-2'}" in resumed.stderr
    assert history(output) == pytest.approx(history(tmp_path / "whole"), rel=1e-5)


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_leaves_a_checkpoint_to_go_on_from(environment, commands, tmp_path):
    common = ["--max_steps", 40, "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1]
    command = ["bash", "scripts/sft_qwen_3_vl_2b.sh", 1, *QUICK, *common, "--save_steps", 100]
    output = tmp_path / "output" / "dyneval_2b_stage1_t2ia"
    process = processes.Process(
        [str(part) for part in command], cwd=FOLDER, text=True, start_new_session=True,
        env=with_commands(environment, commands), stderr=(tmp_path / "errors").open("w"), stdout=subprocess.PIPE,
    )  # fmt: skip
    # The pipe ends with the last of the processes: the shell goes before the training has written its checkpoint.
    wait_for(lambda: "step 1 of 40" in (tmp_path / "errors").read_text(), process)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (output / "config.json").exists()
    (saved,) = output.glob("checkpoint-*")
    assert (saved / "complete.json").is_file()
    step = json.loads((saved / "complete.json").read_text())["step"]
    assert 0 < step < 40
    resumed = run(command, with_commands(environment, commands))
    assert f"resuming from {saved}" in resumed.stderr
    assert list(history(output)) == list(range(1, 41))


def test_an_image_that_breaks_during_training_stops_the_run(environment, instruct_data, tiny_checkpoint, tmp_path):
    for image in (instruct_data.root / "images").iterdir():
        image.write_bytes(image.read_bytes()[:-40])
    output = tmp_path / "run"
    command = [sys.executable, *TRAIN, *arguments(tiny_checkpoint, output, "--max_steps", 2)]
    stopped = run(command, environment, expected=1)
    (reason,) = [line for line in stopped.stderr.splitlines() if "train_qwen: a sample cannot be read" in line]
    assert "broken or truncated" in reason and "t2ia.json, sample" in reason
    assert "Traceback" not in stopped.stderr
    assert not (output / "config.json").exists() and not list(output.glob("checkpoint-*"))
    assert "broken or truncated" in (output / "rejects.jsonl").read_text()


def test_task_tokens_with_other_ids_are_refused_with_the_ids_found(environment, other_tokens, tmp_path):
    folder = other_tokens(["<|mine|>", *TASK_TOKEN_IDS])
    wrong = run([sys.executable, *TRAIN, *arguments(folder, tmp_path / "run")], environment, expected=1)
    said = wrong.stderr.strip().splitlines()[-1]
    assert said.startswith(f"train_qwen: {folder}: the tokenizer knows the task tokens as {{'<|T2IA|>': 151670")
    assert f"expected {TASK_TOKEN_IDS}" in said and "another base" in said
    assert not (tmp_path / "run" / "config.json").exists()


def test_what_the_user_got_wrong_is_one_line(environment, tiny_checkpoint, tmp_path):
    command = arguments(tiny_checkpoint, tmp_path / "run", "--additional_special_tokens", "<|MINE|>")
    wrong = run([sys.executable, *TRAIN, *command], environment, expected=1)
    assert wrong.stderr.strip().splitlines()[-1].startswith("train_qwen: --additional_special_tokens must be <|T2IA|>")
    script = ["bash", "scripts/sft_qwen_3_vl_4b.sh"]
    usage = run(script, environment, expected=1)
    assert usage.stderr == "sft: usage: bash scripts/sft_qwen_3_vl_4b.sh 1|2 [arguments of train_qwen.py]\n"
    wordy = run([*script, 1], environment | {"NPROC_PER_NODE": "two"}, expected=1)
    assert wordy.stderr == "sft: NPROC_PER_NODE is 'two', expected a number of 1 or more\n"
    without = {name: value for name, value in environment.items() if name != "DYNEVALINSTRUCT_T2IA_DATA"}
    unset = run([*script, 1], without, expected=1)
    assert unset.stderr.startswith("qwenvl: the environment variable DYNEVALINSTRUCT_T2IA_DATA is not set")
    Path(environment["DYNEVALINSTRUCT_T2IA_ANNOTATION"]).write_text("{not json")
    broken = run([*script, 1], environment, expected=1)
    assert "t2ia.json: is not JSON" in broken.stderr and len(broken.stderr.splitlines()) == 1
