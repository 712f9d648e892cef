"""The tiny checkpoint is an ordinary one: every `from_pretrained` reads it, and it appears whole or not at all."""

import json
import sys

import pytest
import torch

from dyneval.demo.tiny_model import build_tiny_model
from dyneval.tokens import TASK_TOKEN_IDS
from tests import processes


def test_loads_as_the_real_architecture(tiny_checkpoint):
    from transformers import AutoModelForImageTextToText, Qwen3VLForConditionalGeneration

    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    assert isinstance(model, Qwen3VLForConditionalGeneration)
    assert model.get_input_embeddings().weight.shape[0] == 151_936
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert 9e6 < model.num_parameters() < 12e6
    assert model.generation_config.eos_token_id == [151_645, 151_643]


def test_pixel_limits_are_written_as_qwen3_vl_writes_them(tiny_checkpoint):
    config = json.loads((tiny_checkpoint / "preprocessor_config.json").read_text())
    assert config["size"] == {"longest_edge": 16_777_216, "shortest_edge": 65_536}
    assert (config["patch_size"], config["merge_size"], config["temporal_patch_size"]) == (16, 2, 2)


def test_same_seed_same_bytes_and_a_full_folder_is_left_alone(tiny_checkpoint, tmp_path):
    from safetensors.torch import load_file

    output = tmp_path / "again"
    build_tiny_model(output)
    files = sorted(path.name for path in output.iterdir())
    assert files == sorted(path.name for path in tiny_checkpoint.iterdir())
    assert all((output / name).read_bytes() == (tiny_checkpoint / name).read_bytes() for name in files)
    with pytest.raises(FileExistsError, match=r"again is not empty; name another folder or delete it"):
        build_tiny_model(output, seed=1)

    build_tiny_model(tmp_path / "other", seed=1)
    name = "model.language_model.embed_tokens.weight"
    weights = [load_file(folder / "model.safetensors")[name] for folder in (output, tmp_path / "other")]
    assert not torch.equal(*weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"]


def test_task_tokens_can_be_registered(tmp_path):
    from dyneval.processing import Processor

    build_tiny_model(tmp_path / "tiny", task_tokens=True)
    assert json.loads((tmp_path / "tiny" / "added_tokens.json").read_text()).items() >= TASK_TOKEN_IDS.items()
    assert not Processor.from_pretrained(tmp_path / "tiny").added_task_tokens


def test_a_wider_one_runs(tmp_path):
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    build_tiny_model(tmp_path / "wide", width=96)
    model = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "wide")
    assert model.config.text_config.hidden_size == model.config.vision_config.out_hidden_size == 96
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    with pytest.raises(ValueError, match="multiple of 32, not 100"):
        build_tiny_model(tmp_path / "odd", width=100)


def test_its_command_line_writes_a_student_once(tmp_path):
    command = [sys.executable, "-m", "dyneval.demo.tiny_model", "--task-tokens", "--output", tmp_path / "tiny"]
    processes.run(command, check=True, capture_output=True)
    assert "<|T2IA|>" in (tmp_path / "tiny" / "tokenizer.json").read_text()
    again = processes.run(command, capture_output=True, text=True)
    assert again.returncode == 1 and "is not empty; name another folder" in again.stderr
