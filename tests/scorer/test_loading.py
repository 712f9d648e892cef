import json
import shutil

import pytest

from dyneval.scorer.loading import CheckpointError, load_student
from dyneval.scorer.revision import student_revision


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


@pytest.mark.parametrize("wrong", [{"dtype": "int8"}, {"dtype": "flaot32"}, {"device": "gpu9"}])
def test_unknown_device_or_dtype(student, wrong):
    with pytest.raises(CheckpointError, match=next(iter(wrong))):
        load_student(student, **wrong)


def test_a_student_in_a_subfolder_with_its_own_pixel_limits(student):
    model, processor = load_student(student.parent, student.name, max_pixels=4096)
    assert (processor.min_pixels, processor.max_pixels) == (1024, 4096)
    assert not model.training


def test_a_revision_is_of_the_weights_not_of_their_place(student, tmp_path):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(student)
    moved = shutil.copytree(student, tmp_path / "moved")
    first = student_revision(student, None, config)
    assert first.startswith("sha256:") and student_revision(tmp_path, "moved", config) == first
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert student_revision(moved, None, config) != first
    config._commit_hash = "abc"
    assert student_revision("owner/name", "4B", config) == "hub:abc/4B"
