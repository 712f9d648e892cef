"""Under every attention that this machine has, samples laid end to end are computed as if each were alone."""

import pytest
import torch
import transformers
from transformers import Qwen3VLForConditionalGeneration
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from dyneval.demo.tiny_model import tiny_config
from dyneval.errors import CheckpointError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.loss import with_target_loss
from qwenvl.train.modeling import load_model

LENGTHS = [5, 130, 33]


def device_for(attention):
    """Where it runs, or the reason why it doesn't here."""
    if attention == "flex_attention":
        if not getattr(transformers.models.qwen3_vl.modeling_qwen3_vl.Qwen3VLTextModel, "_supports_flex_attn", False):
            pytest.skip(f"transformers {transformers.__version__} has no flex_attention for Qwen3-VL")
        return "cuda" if torch.cuda.is_available() else "cpu"
    if attention.startswith("flash"):
        installed = is_flash_attn_2_available() if attention.endswith("2") else is_flash_attn_3_available()
        if not (installed and torch.cuda.is_available()):
            pytest.skip(f"{attention} needs its package and a CUDA GPU")
        return "cuda"
    return "cpu"


def build(attention, device):
    config = tiny_config(256)  # heads of width 64, the least that flash-attention 3 takes
    config.text_config.vocab_size = 800
    config.text_config.bos_token_id = config.text_config.eos_token_id = None
    torch.manual_seed(0)
    model = with_target_loss(Qwen3VLForConditionalGeneration, 2)(config)
    model.set_attn_implementation({"text_config": attention})
    return model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)


def batch(samples, device):
    """Samples end to end, each with positions of its own; every token is a target but the first of each."""
    positions = torch.cat([torch.arange(len(one)) for one in samples])
    labels = torch.cat([torch.where(torch.arange(len(one)) > 0, one, -100) for one in samples])
    inputs = {"input_ids": torch.cat(samples)[None], "position_ids": positions.expand(4, 1, -1), "labels": labels[None]}
    return {name: one.to(device) for name, one in inputs.items()} | {"sample_lengths": [len(one) for one in samples]}


def logits_and_gradients(model, batches, targets):
    logits = []
    for one in batches:
        model(**one, num_items_in_batch=targets).loss.backward()
        with torch.no_grad():
            plain = {name: value for name, value in one.items() if name != "labels"}
            logits.append(model(**plain, use_cache=False).logits[0].float())
    gradients = {name: one.grad.float() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return torch.cat(logits), gradients


@pytest.mark.parametrize(
    "attention", ["sdpa", "packed_sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"]
)
def test_packed_equals_separate(attention):
    device = device_for(attention)
    model = build(attention, device)
    samples = [torch.randint(0, 800, (length,)) for length in LENGTHS]
    targets = sum(LENGTHS) - len(LENGTHS)
    together, gradients = logits_and_gradients(model, [batch(samples, device)], targets)
    alone, expected = logits_and_gradients(model, [batch([one], device) for one in samples], targets)
    exact = device == "cpu"
    assert torch.allclose(together, alone, atol=2e-5 if exact else 2e-2)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        distance = (gradient - expected[name]).norm() / expected[name].norm().clamp(min=1e-12)
        assert distance < (1e-4 if exact else 3e-2), name


def test_an_attention_that_the_model_does_not_have_is_refused_in_one_line(tiny_checkpoint):
    arguments = ModelArguments(model_name_or_path=str(tiny_checkpoint), attn_implementation="linear_attention")
    with pytest.raises(CheckpointError, match="the weights cannot be loaded"):
        load_model(arguments, torch.float32, 1)
