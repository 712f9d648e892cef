"""Every diffusers pipeline class of the 36 models, as small as its code allows, with random weights.

`save(name, folder)` writes one in the layout of a repo, so that `from_pretrained` reads it like the real one.
"""

import functools

import torch

from . import tiny_joint_transformers, tiny_other_transformers, tiny_unets
from . import tiny_parts as parts

_FAMILIES = (tiny_unets, tiny_joint_transformers, tiny_other_transformers)
BUILDERS = {name: build for family in _FAMILIES for name, build in vars(family).items() if name.endswith("Pipeline")}


@functools.cache
def save(name, folder, variant=None):
    """Build pipeline class `name`, save it below `folder` once, and return where."""
    import diffusers

    torch.manual_seed(0)
    path = folder / name
    getattr(diffusers, name)(**BUILDERS[name]()).save_pretrained(path, variant=variant)
    return path


@functools.cache
def save_llama(folder):
    """The fourth text encoder of HiDream, a repo of its own."""
    from transformers import LlamaForCausalLM

    path = folder / "llama"
    LlamaForCausalLM(parts.decoder_config("LlamaConfig")).save_pretrained(path)
    tokenizer = parts.chat_tokenizer()
    tokenizer.save_pretrained(path)
    return path


@functools.cache
def save_lora(folder):
    """A repo of two LoRA files for the tiny FLUX."""
    from diffusers import FluxPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    path = folder / "lora"
    for name in ("couple-profile", "film-storyboard"):
        pipeline = FluxPipeline.from_pretrained(save("FluxPipeline", folder))
        pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
        layers = get_peft_model_state_dict(pipeline.transformer)
        FluxPipeline.save_lora_weights(path, transformer_lora_layers=layers, weight_name=f"{name}.safetensors")
    return path


JSON_WRITER = """
import json
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam


class Writer(ModularPipelineBlocks):
    @property
    def inputs(self):
        return [InputParam("prompt")]

    @property
    def intermediate_outputs(self):
        return [OutputParam("json_prompt", type_hint=str)]

    def __call__(self, components, state):
        block_state = self.get_block_state(state)
        block_state.json_prompt = json.dumps({"short_description": block_state.prompt})
        self.set_block_state(state, block_state)
        return components, state
"""


@functools.cache
def save_json_writer(folder):
    """A repo whose code turns a prompt into JSON, as FIBO's does with a language model."""
    import json

    path = folder / "json_writer"
    path.mkdir()
    (path / "writer.py").write_text(JSON_WRITER)
    config = {"_class_name": "Writer", "auto_map": {"ModularPipelineBlocks": "writer.Writer"}}
    (path / "modular_config.json").write_text(json.dumps(config))
    index = {"_class_name": "ModularPipeline", "_blocks_class_name": "Writer"}
    (path / "modular_model_index.json").write_text(json.dumps(index))
    return path
