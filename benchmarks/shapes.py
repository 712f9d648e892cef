"""Checkpoints of the true shapes of Qwen3-VL-2B and 4B with random weights and the real tokenizer.

Memory and speed depend on the shapes and not on the values of the weights, so `true_shapes.py`, `training_gpu.py` and
`gpu.py` measure them without a download of several GB.
"""

from pathlib import Path
from typing import Any

# From the config.json of the published Qwen3-VL-2B-Instruct and Qwen3-VL-4B-Instruct.
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {},
    "2b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "head_dim": 128, "heads": 16},
    "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "head_dim": 128, "heads": 32},
}


def config_of(shape: str, layers: int | None = None) -> Any:
    """Configuration of a shape (2.13 and 4.44 B parameters); `layers` takes the first of the language model's."""
    from transformers import Qwen3VLConfig

    from dyneval.demo.tiny_model import TEXT, VISION, tiny_config

    if shape == "tiny":
        return tiny_config()
    text = dict(SHAPES[shape])
    text |= {"num_attention_heads": text.pop("heads"), "num_key_value_heads": 8}
    if layers:
        text["num_hidden_layers"] = layers
    rope = {"rope_type": "default", "rope_theta": 5_000_000, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = VISION | {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
    vision |= {"out_hidden_size": text["hidden_size"], "deepstack_visual_indexes": [5, 11, 17]}
    return Qwen3VLConfig(
        text_config=TEXT | text | {"rope_parameters": rope}, vision_config=vision, tie_word_embeddings=True
    )


def write_shape(folder: Path, shape: str, layers: int | None = None, device: str = "cpu") -> None:
    """Random bfloat16 weights of a shape, as a student: its tokenizer knows the task tokens."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from dyneval.conventions import Conventions
    from dyneval.demo.tiny_model import write_checkpoint
    from dyneval.processing import Processor
    from dyneval.replies import DEFAULT_FORM
    from dyneval.tokens import DEFAULT_TEMPLATE

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    # Made in bfloat16 and where they are used: 4.44 B parameters in float32 would take 18 GB first.
    try:
        with torch.device(device):
            model = Qwen3VLForConditionalGeneration(config_of(shape, layers))
    finally:
        torch.set_default_dtype(default)
    write_checkpoint(folder, model)
    processor = Processor.from_pretrained(folder)
    # A random model cannot be probed for its wording and reply form, so the checkpoint tells them.
    processor.conventions = Conventions(DEFAULT_TEMPLATE, DEFAULT_FORM)
    processor.save_pretrained(folder)
