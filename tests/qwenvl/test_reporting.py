"""What a run tells: one line a reporting step, the same figures in a file, the loss as a picture."""

import json

import pytest
from PIL import Image
from transformers import TrainerControl, TrainerState, TrainingArguments

from qwenvl.train.reporting import StepLines, draw_curve, step_line

STEP = {
    "loss": 2.3101,
    "grad_norm": 1.5,
    "learning_rate": 1e-5,
    "epoch": 0.1,
    "tokens_per_second": 1812.4,
    "samples_per_second": 3.2,
    "target_tokens": 830.0,
    "padding_share": 0.0,
    "memory_gib": 5.123,
    "loss_t2ia": 1.2,
    "loss_evaluation": 3.4,
    "step": 12,
}


def test_a_line_says_how_far_how_good_how_fast_how_long():
    line = "step 12 of 1,000 | loss 2.310 (T2IA 1.200, EVALUATION 3.400) | 1,812 tokens/s | 5.1 GiB | 1:02:05 left"
    assert step_line(STEP, 1000, 3725) == line
    one_task = {name: value for name, value in STEP.items() if name != "loss_t2ia"}
    assert "loss 2.310 | 1,812 tokens/s" in step_line(one_task, 50, 1)
    assert "5.1 GiB | 41% of peak" in step_line(STEP | {"mfu": 0.412}, 50, 1)
    held_out = {"eval_loss": 1.5, "eval_loss_t2ia": 1.0, "eval_loss_iqa": 2.0, "eval_target_tokens": 9, "step": 50}
    assert step_line(held_out, 50, 0) == "step 50 of 50 | held-out loss 1.500 (T2IA 1.000, IQA 2.000)"
    assert step_line({"train_runtime": 3.0, "train_loss": 2.0, "step": 50}, 50, 0) is None


def test_the_file_of_a_run_that_goes_on_holds_each_step_once(tmp_path, caplog):
    caplog.set_level("INFO", "qwenvl")
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    (tmp_path / "train_log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')  # a killed run's
    state = TrainerState(max_steps=4, global_step=2, log_history=[STEP | {"step": 1}, STEP | {"step": 2}])
    lines = StepLines()
    lines.on_train_begin(arguments, state, TrainerControl())
    for step in (3, 4):
        state.global_step = step
        state.log_history.append(STEP | {"step": step})
        lines.on_log(arguments, state, TrainerControl())
    rows = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1] == STEP | {"step": 4}
    assert [record.message.split(" | ")[0] for record in caplog.records] == ["step 3 of 4", "step 4 of 4"]
    assert [record.message.count(" left") for record in caplog.records] == [0, 1]  # one step is too little to go by
    assert caplog.records[-1].message.endswith("0:00:00 left")


@pytest.mark.parametrize(
    "history", [[], [STEP], [STEP, STEP | {"step": 24, "loss": 1.0}, {"eval_loss": 1.1, "step": 24}]]
)
def test_the_curve_is_a_picture_also_of_few_steps(history, tmp_path):
    draw_curve(history, tmp_path / "loss.png", "stage 1")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (910, 520)
