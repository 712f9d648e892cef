"""Weights are loaded whole and as they were meant, in training and in scoring, or the checkpoint is refused by name."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Qwen3VLForConditionalGeneration

from dyneval.checkpoints.weights import load_weights
from dyneval.errors import CheckpointError
from dyneval.scorer.loading import load_student

TABLE, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
UP = "model.language_model.layers.1.mlp.up_proj.weight"
BLOCK = 128


@pytest.fixture
def changed(student, tmp_path):
    """A copy of the student with other weights or another configuration."""

    def changed(weights=lambda old: old, **config):
        folder = shutil.copytree(student, tmp_path / "changed")
        found = weights(load_file(student / "model.safetensors"))
        (folder / "model.safetensors").unlink()
        save_file({name: one.clone().contiguous() for name, one in found.items()}, folder / "model.safetensors")
        old = json.loads((folder / "config.json").read_text())
        old["text_config"] |= config.pop("text_config", {})
        (folder / "config.json").write_text(json.dumps(old | config))
        return folder

    return changed


def load(folder, **options):
    config = AutoConfig.from_pretrained(folder)
    return load_weights(Qwen3VLForConditionalGeneration, str(folder), config, dtype=torch.float32, **options)


def untied(value):
    return {"tie_word_embeddings": value, "text_config": {"tie_word_embeddings": value}}


def with_nan(weights):
    weights[UP][3, 4] = float("nan")
    return weights


WRONG = {
    "untied without an output": ({}, untied(False), rf"1 weights are missing: {HEAD}\."),
    "a wrapper's names": (
        {"weights": lambda old: {f"module.{name}": one for name, one in old.items()}},
        {},
        rf"70 weights are missing: {HEAD}, .* and 67 more; 69 weights have no place in the model: module\.model\.",
    ),
    "one more": ({"weights": lambda old: {**old, f"{UP}_scale": torch.ones(1)}}, {}, rf"no place in the model: {UP}_s"),
    "a shorter table": ({"weights": lambda old: {**old, TABLE: old[TABLE][:9]}}, {}, rf"{TABLE} \(9x64 instead of 151"),
    "NaN": ({"weights": with_nan}, {}, f"1 weights hold NaN or infinity: {UP};"),
    "infinity": ({"weights": lambda old: {**old, UP: old[UP].fill_(-torch.inf)}}, {}, f"NaN or infinity: {UP}"),
    "an unknown quantisation": ({}, {"quantization_config": {"quant_method": "modelopt"}}, r"quantised \(modelopt\)"),
    "one without a name": ({}, {"quantization_config": {"bits": 8}}, r"quantised \(None\)"),
    "one of the text part": ({}, {"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "quantised"),
    "one of another name": ({}, {"compression_config": {"quant_method": "compressed-tensors"}}, "quantised"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_transformers_only_warns_of_is_refused(kind, changed):
    weights, config, message = WRONG[kind]
    folder = changed(**weights, **config)
    for door in (load, lambda folder: load_student(folder, device="cpu")):
        with pytest.raises(CheckpointError, match=message):
            door(folder)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fbgemm_fp8", "hqq", "torchao"])
def test_a_quantisation_that_cannot_be_undone_is_refused_for_training(method, changed):
    folder = changed(quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(CheckpointError, match=rf"quantised \({method}\), which cannot be undone here; take the check"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "own", "tied"),
    [
        ({"tie_word_embeddings": False}, None, True),  # the text part alone says that they are
        ({"text_config": {"tie_word_embeddings": False}}, None, True),
        ({}, "same", True),
        ({}, "other", False),
        (untied(False), "other", False),
    ],
)
def test_the_output_is_the_embedding_where_weights_and_configuration_say_so(config, own, tied, changed, tmp_path):
    def weights(old):
        return old | ({HEAD: old[TABLE] + (own == "other")} if own else {})

    model = load(changed(weights, **config))
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["tie_word_embeddings"] == saved["text_config"]["tie_word_embeddings"] == tied
    assert (HEAD in load_file(tmp_path / "saved" / "model.safetensors")) != tied


def test_fp8_weights_are_restored_and_leave_no_trace(changed, tmp_path):
    true = {}

    def quantised(old):
        for name in [name for name in old if ".layers." in name and name.endswith("proj.weight")]:
            scale = old[name].abs().max() / 448
            old[name] = (old[name] / scale).to(torch.float8_e4m3fn)
            true[name] = old[name].float() * scale
            blocks = [-(-side // BLOCK) for side in old[name].shape]
            old[f"{name}_scale_inv"] = scale.repeat(blocks)
        return old

    method = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}
    model = load(changed(quantised, quantization_config=method))
    weights = model.state_dict()
    assert true and all(torch.allclose(weights[name], one, rtol=1e-6) for name, one in true.items())
    model.save_pretrained(tmp_path / "saved")
    assert "quantization" not in (tmp_path / "saved" / "config.json").read_text()
