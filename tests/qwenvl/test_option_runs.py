"""What options do to a whole run: which weights it ends with, what it goes on from, where it stops."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from dyneval import Scorer
from dyneval.scorer.settings import ScorerSettings
from dyneval.tokens import evaluation_turn
from qwenvl.train.failure import FAILURE
from qwenvl.train.parsing import build, parse
from qwenvl.train.run import run as run_here
from tests import processes

from .conftest import make_instruct_data, sample
from .test_training import FOLDER, TORCHRUN, TRAIN, arguments, history, run, user_environment, weights

STEADY = ["--lr_scheduler_type", "constant", "--warmup_ratio", 0]
SHARED_OUT = ["--deepspeed", "scripts/zero3.json", "--ddp_backend", "gloo"]
SMALL = ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1]


@pytest.fixture(scope="module")
def environment(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    return user_environment(make_instruct_data(folder / "data"), tiny_checkpoint, folder / "output")


def start(environment, model, output, *more, expected=0, ranks=0):
    launcher = [*TORCHRUN, ranks] if ranks else []
    command = [sys.executable, *launcher, *TRAIN, *arguments(model, output, *SMALL, *more)]
    return run(command, environment, expected)


def log_of(output):
    return json.loads((output / "training_log.json").read_text())


def equal(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_run_that_diverges_stops_with_its_samples_and_leaves_no_model(environment, tiny_checkpoint, tmp_path):
    output = tmp_path / "run"
    more = ["--max_steps", 6, "--save_steps", 1, "--learning_rate", 1e30, "--max_grad_norm", 0, *STEADY]
    told = start(environment, tiny_checkpoint, output, *more, expected=1).stderr.splitlines()[-1]
    assert told.startswith("train_qwen: step 2: the loss is no finite number, with the samples /")
    assert "t2ia.json, sample " in told and "-evaluation)" in told
    assert f"The last good checkpoint, with finite weights, is {output / 'checkpoint-1'}." in told
    assert not (output / "config.json").exists()


def test_two_ranks_stop_together_under_zero3(environment, tiny_checkpoint, tmp_path):
    more = ["--max_steps", 4, "--learning_rate", 1e30, "--max_grad_norm", 0, *SHARED_OUT]
    told = start(environment, tiny_checkpoint, tmp_path, *more, *STEADY, expected=1, ranks=2)
    assert told.stderr.count("No checkpoint was written. Start anew in another output folder") == 2


def test_the_best_checkpoint_is_kept_and_becomes_the_model(environment, tiny_checkpoint, tmp_path):
    output = tmp_path / "run"
    more = ["--max_steps", 3, "--learning_rate", 0.5, *STEADY, "--save_steps", 1, "--save_total_limit", 1]
    more += ["--eval_split", "heldout", "--eval_steps", 1, "--eval_on_start", "True"]
    more += ["--load_best_model_at_end", "True", "--metric_for_best_model", "loss_evaluation"]
    start(environment, tiny_checkpoint, output, *more, *SHARED_OUT, ranks=2)
    log = log_of(output)
    losses = {one["step"]: one["eval_loss_evaluation"] for one in log["log_history"] if "eval_loss" in one}
    assert list(losses) == [0, 1, 2, 3]
    best = log["best_step"]
    assert best == min((step for step in losses if step), key=losses.get)
    assert best != 3, "the rate is to be so high that the loss rises"
    assert {path.name for path in output.glob("checkpoint-*")} == {f"checkpoint-{best}", "checkpoint-3"}
    final = weights(output)
    assert equal(final, weights(output / f"checkpoint-{best}")) and not equal(final, weights(output / "checkpoint-3"))
    assert f"| weights of step | {best}, the best one |" in (output / "README.md").read_text()


def test_small_checkpoints_are_written_but_not_gone_on_from(environment, tiny_checkpoint, tmp_path):
    output = tmp_path / "run"
    more = ["--max_steps", 3, "--save_steps", 2, "--save_only_model", "True", "--save_total_limit", 3]
    more += ["--logging_first_step", "True", "--logging_steps", 3]
    # In each step, the weights move by the learning rate times the norm that gradients are cut to.
    more += ["--optim", "sgd", "--learning_rate", 1, *STEADY, "--max_grad_norm", 1e-3]
    start(environment, tiny_checkpoint, output, *more)
    assert list(history(output)) == [1, 3]
    assert not list(output.glob("checkpoint-*/optimizer.pt"))
    one, two = (weights(output / f"checkpoint-{step}") for step in (2, 3))
    moved = sum((one[name].double() - two[name].double()).square().sum() for name in one).sqrt()
    assert float(moved) == pytest.approx(1e-3, rel=0.05)
    (output / "training_log.json").unlink()
    told = start(environment, tiny_checkpoint, output, *more, expected=1).stderr
    assert "checkpoint-3: was written with --save_only_model True, so it holds no optimizer" in told


@pytest.fixture(scope="module")
def four_steps(environment, tiny_checkpoint, tmp_path_factory):
    """A run of four steps with all its checkpoints."""
    output = tmp_path_factory.mktemp("four") / "run"
    start(environment, tiny_checkpoint, output, "--max_steps", 4, "--save_steps", 2, "--save_total_limit", 9)
    return output


def unfinished(whole, folder, *left_out):
    """A copy of a run as it was before its end."""
    ends = ("training_log.json", "config.json", "model.safetensors", *left_out)

    def ends_of(place, names):
        return [name for name in names if name in ends and Path(place) == whole]

    return shutil.copytree(whole, folder, ignore=ends_of)


def test_a_run_starts_from_a_checkpoint_of_another_folder(four_steps, environment, tiny_checkpoint, tmp_path):
    output, origin = tmp_path / "run", four_steps / "checkpoint-2"
    named = ["--resume_from_checkpoint", origin, "--save_steps", 1, "--max_steps", 4]
    done = start(environment, tiny_checkpoint, output, *named)
    assert f"resuming from {origin}" in done.stderr
    assert equal(weights(four_steps), weights(output))
    # Cut off, the same command goes on from what came of it. Another schedule is another run, from the same place.
    (output / "training_log.json").unlink()
    done = start(environment, tiny_checkpoint, output, *named)
    assert f"resuming from {output / 'checkpoint-4'}" in done.stderr
    more = ["--max_steps", 5, "--learning_rate", 1e-4]
    longer = start(environment, tiny_checkpoint, tmp_path / "longer", *named, *more).stderr
    assert "step 3 of 5" in longer and "step 5 of 5" in longer and "step 2 of 5" not in longer


@pytest.fixture
def refused(environment, tiny_checkpoint, monkeypatch):
    """The reason that a run gives in this process for not starting; None where it does."""

    def refused(output, *more, model=tiny_checkpoint):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        line = [str(word) for word in arguments(model, output, *SMALL, *more)]
        code = run_here(*build(parse(line)))
        return (output / FAILURE).read_text() if code else None

    return refused


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--seed", 7], "is of a run with other settings (seed: 42 there, 7 here); a run cannot go on from it"),
        (["--resume_from_checkpoint", FOLDER], "no whole checkpoint: its writing was interrupted"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere: no such checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_belong_is_refused(more, reason, four_steps, refused, tmp_path):
    named = ["--max_steps", 4, "--resume_from_checkpoint", four_steps / "checkpoint-2", *more]
    assert reason in refused(tmp_path / "run", *named)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], None),
        (["--learning_rate", 2e-3], "(learning_rate: 0.001 there, 0.002 here)"),
        (["--gradient_accumulation_steps", 2], "gradient_accumulation_steps * processes: 2 there, 4 here)"),
        (["--bf16", "True"], "(bf16: False there, True here)"),
    ],
)
def test_what_may_change_in_a_run_does_not_make_it_another(more, reason, four_steps, refused, tiny_checkpoint):
    (tiny_checkpoint.parent / "x").mkdir(exist_ok=True)
    respelled = f"{tiny_checkpoint.parent}/./x/../{tiny_checkpoint.name}/"
    same = ["--max_steps", 4, "--max_bad_samples", 9, "--logging_steps", 2, "--save_total_limit", 1, *more]
    told = refused(four_steps, *same, model=respelled)
    assert told is None if reason is None else reason in told


def test_a_run_takes_another_way_from_its_own_checkpoint(four_steps, environment, tiny_checkpoint, tmp_path):
    copy = unfinished(four_steps, tmp_path / "run")
    named = ["--max_steps", 4, "--save_steps", 2, "--save_total_limit", 9]
    done = start(environment, tiny_checkpoint, copy, *named, "--resume_from_checkpoint", copy / "checkpoint-2")
    assert "checkpoint-4: the run goes on from step 2" in done.stderr and "step 3 of 4" in done.stderr
    assert equal(weights(four_steps), weights(copy))


def test_two_processes_go_on_from_what_one_began(four_steps, environment, tiny_checkpoint, tmp_path):
    copy = unfinished(four_steps, tmp_path / "run", "checkpoint-4")
    more = ["--max_steps", 4, "--save_steps", 2, "--per_device_train_batch_size", 1, "--ddp_backend", "gloo"]
    done = start(environment, tiny_checkpoint, copy, *more, ranks=2)
    assert f"resuming from {copy / 'checkpoint-2'}" in done.stderr
    assert history(copy) == pytest.approx(history(four_steps), rel=1e-4)


@pytest.fixture
def hub(tmp_path):
    """A Hub on this machine: its address, and the folder of what it got."""
    (tmp_path / "hub").mkdir()
    command = [sys.executable, Path(__file__).with_name("hub_server.py"), tmp_path / "hub", "hf_right"]
    process = processes.Process([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{int(process.stdout.readline())}", tmp_path / "hub"
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_finished_output_is_uploaded_with_the_token_of_the_environment(hub, environment, tiny_checkpoint, tmp_path):
    address, folder = hub
    output = tmp_path / "run"
    there = {name: value for name, value in environment.items() if not name.startswith("HF_")}
    there |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    more = ["--max_steps", 1, "--logging_strategy", "epoch", "--push_to_hub", "True", "--hub_private_repo", "True"]
    more += ["--hub_model_id", "student", "--hub_revision", "second"]
    refused = start(there | {"HF_TOKEN": "hf_wrong"}, tiny_checkpoint, output, *more, expected=1).stderr
    assert "student: cannot be made on the Hub (" in refused.splitlines()[-1] and "HF_TOKEN" in refused
    (folder / "is-public").touch()
    refused = start(there | {"HF_TOKEN": "hf_right"}, tiny_checkpoint, output, *more, expected=1).stderr
    assert "me/student: is there already, and public" in refused.splitlines()[-1]
    (folder / "is-public").unlink()
    done = start(there | {"HF_TOKEN": "hf_right"}, tiny_checkpoint, output, *more)
    assert "uploaded: " in done.stderr and "hf_right" not in done.stderr + done.stdout
    assert json.loads((folder / "created.json").read_text())["visibility"] == "private"
    place = folder / "me" / "student" / "second"
    got = {str(path.relative_to(place)) for path in place.rglob("*")}
    assert got >= {"model.safetensors", "config.json", "README.md", "run.json", "train_log.jsonl", "loss.png"}
    assert got >= {"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "dyneval.json"}
    assert not [name for name in got if name.startswith(("checkpoint", "lengths", "training_args", "."))]
    assert "hf_right" not in (output / "run.json").read_text()
    card = (output / "README.md").read_text()
    assert "| samples of a step | 2 |" in card and "loss, first and last report" in card
    assert {"fixed", "free", "datasets", "commit", "versions"} <= json.loads((output / "run.json").read_text()).keys()


def test_scores_are_compared_with_the_teacher_during_training(demo_judge, tmp_path):
    """Of the demo's judge; at a rate of 0 it stays what it is, so the last figure can be had from the judge itself."""
    judge, output = demo_judge, tmp_path / "run"
    data = make_instruct_data(tmp_path / "data")
    rows = []
    for number in range(6):
        asked = ["Is the book red?", "Is there no blur?"]
        answers = [{"question": one, "score": 1 + number % 5, "reasoning": "It can be seen."} for one in asked]
        turn = evaluation_turn("a red book", asked)
        rows.append(sample(turn, {"answers": answers}, f"images/{number}.png", str(number)))
    data.t2ia.with_stem("t2ia_heldout").write_text(json.dumps(rows))
    more = ["--max_steps", 2, "--learning_rate", 0, "--eval_split", "heldout", "--eval_steps", 1, "--eval_scores", 5]
    more += ["--eval_delay", 2, "--min_pixels", 16384, "--max_pixels", 16384, "--save_strategy", "no"]
    done = start(user_environment(data, judge, tmp_path), judge, output, *more, *SHARED_OUT, ranks=2)
    scored = [one for one in log_of(output)["log_history"] if "eval_scored" in one]
    assert [one["step"] for one in scored] == [2], "--eval_delay leaves the first step out"
    assert scored[0]["eval_scored"] == 5
    assert "SRCC with the teacher" in done.stderr and "| SRCC with the teacher |" in (output / "README.md").read_text()

    scorer = Scorer.from_pretrained(judge, device="cpu", settings=ScorerSettings(mode="fast"))
    scorer.give_questions({"a red book": [{"question": one, "answer": "yes"} for one in asked]})
    chosen = [0, 1, 2, 3, 4]
    records = scorer.score([data.root / "images" / f"{number}.png" for number in chosen], ["a red book"] * 5)
    student = [sum(one.soft_score for one in record.t2ia_questions) / 2 for record in records]
    expected = spearmanr([1 + number for number in chosen], student).statistic
    assert scored[0]["eval_srcc"] == pytest.approx(expected, abs=1e-3)
