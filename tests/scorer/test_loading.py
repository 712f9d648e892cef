import json
import shutil

import pytest

from dyneval.errors import CheckpointError
from dyneval.scorer.loading import hub_commit, load_student
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


HOSTILE = {
    "config.json": ["[" * 100_000, "null", '{"model_type": "qwen3_vl", "text_config": []}'],
    "tokenizer.json": ["[]", "[" * 100_000, ""],
    "preprocessor_config.json": ["[]", '{"size": {"shortest_edge": 1, "longest_edge": "x"}}'],
    "generation_config.json": ["[]"],
    "model.safetensors": ["", "\xff" * 64],
    "dyneval.json": ["[" * 100_000, '{"template": 5}'],
}


@pytest.mark.parametrize(("name", "content"), [(name, text) for name, texts in HOSTILE.items() for text in texts])
def test_a_file_of_another_shape_ends_in_one_line(broken, name, content):
    (broken / name).unlink(missing_ok=True)
    (broken / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError) as raised:
        load_student(broken, device="cpu")
    assert len(str(raised.value).splitlines()) == 1 and str(broken) in str(raised.value)


def test_weights_that_a_pickle_would_run_code_for_are_refused(broken, tmp_path):
    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % bytes(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="the weights cannot be loaded"):
        load_student(broken, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_model_of_a_billion_layers_is_not_built(broken, part):
    config = json.loads((broken / "config.json").read_text())
    config[part]["num_hidden_layers" if part == "text_config" else "depth"] = 10**9
    edit(broken / "config.json", **config)
    with pytest.raises(CheckpointError, match="1000000000 layers"):
        load_student(broken, device="cpu")


def test_a_mistyped_folder_is_not_looked_for_on_the_hub_again_and_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"ouput/dyneval_4b: no such checkpoint folder, .*the Hub"):
        hub_commit("ouput/dyneval_4b", None)
