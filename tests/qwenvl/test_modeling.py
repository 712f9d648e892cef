"""The right class from the configuration alone, the right parameters trained, the task rows started well."""

import json
import shutil

import pytest
import torch

from dyneval.errors import CheckpointError
from dyneval.tokens import RELATED_WORDS, TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import (
    FAMILIES,
    freeze,
    initialise_task_tokens,
    load_model,
    part_of,
    set_trainable,
    trainable_names,
    trainable_report,
)


def load(path, **flags):
    arguments = ModelArguments(model_name_or_path=str(path), **flags)
    model = load_model(arguments, torch.float32, 1)
    set_trainable(model, arguments)
    return model


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_recipe_trains_language_and_every_merger(tiny_checkpoint):
    model = load(tiny_checkpoint)
    everything = {name for name, _ in model.named_parameters()}
    merger = {name for name in everything if "visual.merger." in name or "visual.deepstack_merger_list." in name}
    vision = {name for name in everything if ".visual." in name} - merger
    assert {name.split(".")[3] for name in merger if "deepstack" in name} == {"0", "1"}
    assert "model.visual.pos_embed.weight" in vision and "model.visual.patch_embed.proj.weight" in vision
    assert trained_names(model) == everything - vision
    assert "vision                 0 of" in trainable_report(model)


@pytest.mark.parametrize("part", ["vision", "merger", "language"])
def test_each_part_can_be_trained_alone(part, tiny_checkpoint):
    flags = {"vision": "tune_mm_vision", "merger": "tune_mm_mlp", "language": "tune_mm_llm"}
    model = load(tiny_checkpoint, **{flag: name == part for name, flag in flags.items()})
    assert trained_names(model) == {name for name, _ in model.named_parameters() if part_of(name) == part}
    assert trained_names(model)


def test_parameters_are_frozen_by_name_and_the_rest_is_told(tiny_checkpoint):
    model = load(tiny_checkpoint)
    freeze(model, "*.layers.0.*,*embed_tokens*,*.mlp.*")
    told = trainable_names(model)
    assert "model.language_model.layers.1.self_attn.q_proj.weight" in told
    assert "model.visual.deepstack_merger_list.0-1.norm.weight" in told
    assert not [name for name in told if "layers.0." in name or "embed" in name or ".mlp." in name]
    assert "model.language_model.layers.0-1.self_attn.q_proj.weight" in trainable_names(load(tiny_checkpoint))
    with pytest.raises(TrainingInputError, match=r"--freeze layers.9: matches no parameter that is trained"):
        freeze(model, "layers.9")
    with pytest.raises(TrainingInputError, match="nothing is left to train"):
        freeze(model, "*")


def test_nothing_to_train_is_an_error(tiny_checkpoint):
    with pytest.raises(TrainingInputError, match="nothing to train"):
        load(tiny_checkpoint, tune_mm_llm=False, tune_mm_mlp=False)


def test_the_class_follows_from_the_configuration_not_from_the_path(tiny_checkpoint, tmp_path):
    from transformers import Qwen3VLForConditionalGeneration

    folder = tmp_path / "qwen3-vl-30b-a3b-moe"
    shutil.copytree(tiny_checkpoint, folder)
    model = load(folder)
    assert isinstance(model, Qwen3VLForConditionalGeneration)
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"] == [
        "Qwen3VLForConditionalGeneration"
    ]


def test_mixture_of_experts_is_loaded_and_trained(tmp_path):
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    from dyneval.demo.tiny_model import tiny_config

    dense = tiny_config()
    text = dense.text_config.to_dict() | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    del text["model_type"]
    config = Qwen3VLMoeConfig(text_config=text, vision_config=dense.vision_config.to_dict(), tie_word_embeddings=True)
    Qwen3VLMoeForConditionalGeneration(config).save_pretrained(tmp_path)
    model = load(tmp_path)
    assert isinstance(model, Qwen3VLMoeForConditionalGeneration)
    ids = torch.tensor([[1, 2, 3, 4]])
    model(input_ids=ids, labels=ids).loss.backward()
    experts = [parameter for name, parameter in model.named_parameters() if "experts" in name]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in experts)


def test_other_families_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    with pytest.raises(TrainingInputError, match=f"is a qwen2_5_vl model; DynEval fine-tunes {FAMILIES[0]}"):
        load(tmp_path)
    with pytest.raises(TrainingInputError, match="none: no such model folder"):
        load(tmp_path / "none")


def test_weights_that_are_missing_are_named(tiny_checkpoint, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="the weights cannot be loaded"):
        load(tmp_path)


def test_task_tokens_start_from_related_words_and_nothing_else_changes(tiny_checkpoint, processor):
    model = load(tiny_checkpoint)
    weight = model.get_input_embeddings().weight
    before = weight.detach().clone()
    initialise_task_tokens(model, processor.tokenizer)
    rows = list(TASK_TOKEN_IDS.values())
    assert weight.shape == (151_936, 64)
    changed = (weight != before).any(1).nonzero().flatten().tolist()
    assert changed == rows
    assert len({tuple(weight[row].tolist()) for row in rows}) == 3
    words = processor.tokenizer(RELATED_WORDS["<|T2IA|>"])["input_ids"]
    assert torch.allclose(weight[rows[0]], before[words].mean(0))
    assert model.lm_head.weight is weight
