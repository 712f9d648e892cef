import json
import shutil

import pytest

from dyneval.errors import CheckpointError
from dyneval.scorer.loading import load_student
from dyneval.tokens import TASK_TOKENS


@pytest.fixture
def broken(student, tmp_path):
    """A copy of the student to break."""
    return shutil.copytree(student, tmp_path / "broken")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such checkpoint folder"):
        load_student(tmp_path / "nowhere")


def test_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        load_student(tmp_path)


def test_a_base_model_without_task_tokens(tiny_checkpoint):
    with pytest.raises(CheckpointError, match=r"lacks the task tokens <\|T2IA\|>.*Step 4"):
        load_student(tiny_checkpoint)


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (["<|mine|>", *TASK_TOKENS], r"'<\|T2IA\|>': 151670, '<\|IQA\|>': 151671, '<\|EVALUATION\|>': 151672"),
        (TASK_TOKENS[::-1], r"'<\|T2IA\|>': 151671, '<\|IQA\|>': 151670, '<\|EVALUATION\|>': 151669"),
        (TASK_TOKENS[:1], r"\{'<\|T2IA\|>': 151669\}"),
    ],
)
def test_task_tokens_with_other_ids(other_tokens, tokens, found):
    folder = other_tokens(tokens)
    with pytest.raises(CheckpointError, match=rf"{folder}: .*knows the task tokens as .*{found}.*151671.*another base"):
        load_student(folder)


def test_an_embedding_without_rows_for_the_task_tokens(broken):
    config = json.loads((broken / "config.json").read_text())
    edit(broken / "config.json", text_config=config["text_config"] | {"vocab_size": 151_671})
    with pytest.raises(CheckpointError, match="broken: its embedding has 151671 rows, but the task tokens need 151672"):
        load_student(broken)


def test_another_architecture(broken):
    edit(broken / "config.json", model_type="qwen2_vl", architectures=["Qwen2VLForConditionalGeneration"])
    with pytest.raises(CheckpointError, match="is a qwen2_vl model, expected a Qwen3-VL one"):
        load_student(broken)


def test_truncated_weights(broken):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="broken: the weights cannot be loaded"):
        load_student(broken)


def test_missing_weights_are_not_filled_with_random_numbers(broken):
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if "layers.1.mlp.gate_proj" in name)
    del weights[name]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_student(broken)


# No machine has a hundredth GPU; where there is none, or torch was built without, the errors are of other kinds.
@pytest.mark.parametrize(
    "wrong", [{"dtype": "int8"}, {"dtype": "flaot32"}, {"device": "gpu9"}, {"device": "cuda:99"}, {"device": "hpu"}]
)
def test_unknown_device_or_dtype(student, wrong):
    with pytest.raises(CheckpointError, match=next(iter(wrong))):
        load_student(student, **wrong)


def test_a_student_in_a_subfolder_with_its_own_pixel_limits(student):
    model, processor = load_student(student.parent, student.name, max_pixels=4096)
    assert (processor.min_pixels, processor.max_pixels) == (784, 4096)
    assert not model.training
