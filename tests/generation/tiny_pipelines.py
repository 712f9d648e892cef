"""Every diffusers pipeline class of the 36 models, as small as its code allows, with random weights.

`save(name, folder)` writes one in the layout of a repo, so that `from_pretrained` reads it like the real one.
"""

import functools

import torch

from . import tiny_joint_transformers, tiny_of_2026, tiny_other_transformers, tiny_unets
from . import tiny_parts as parts

_FAMILIES = (tiny_unets, tiny_joint_transformers, tiny_other_transformers, tiny_of_2026)
BUILDERS = {name: build for family in _FAMILIES for name, build in vars(family).items() if name.endswith("Pipeline")}


@functools.cache
def save(name, folder, variant=None, scheduler=None):
    """Build pipeline class `name`, save it below `folder` once, and return where.

    `scheduler` is one of SCHEDULERS; None is the builder's.
    """
    import diffusers

    torch.manual_seed(0)
    path = folder / f"{name}-{scheduler}"
    components = BUILDERS[name]()
    if scheduler:
        kind, settings = SCHEDULERS[scheduler]
        components["scheduler"] = getattr(diffusers, kind)(**settings)
    getattr(diffusers, name)(**components).save_pretrained(path, variant=variant)
    if name.startswith("IF"):
        add_if_judges(path, variant)
    return path


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS = {
    "sd1-5": ("PNDMScheduler", {**BETAS, "skip_prk_steps": True, "steps_offset": 1}),
    "sd2-1": ("DDIMScheduler", {**BETAS, "prediction_type": "v_prediction", "clip_sample": False, "steps_offset": 1}),
    "sdxl-turbo": ("EulerAncestralDiscreteScheduler", {**BETAS, "timestep_spacing": "trailing"}),
    "playground-v2-5": ("EDMDPMSolverMultistepScheduler", {}),
    "hunyuan-dit": ("DDPMScheduler", {**BETAS, "prediction_type": "v_prediction", "steps_offset": 1}),
    "hidream-i1/full": ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0}),
    "hidream-i1/dev": ("FlowMatchLCMScheduler", {"shift": 6.0}),
    "hidream-i1/fast": ("FlowMatchLCMScheduler", {"shift": 3.0}),
    "flux1-dev": ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "shift": 3.0}),
    "qwen-image": ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "time_shift_type": "exponential"}),
}
"""Schedulers of the published repos, by slug or slug/variant, where the class's builder has another."""


def add_if_judges(path, variant, flags=False):
    """The safety checker and the watermarker that the published repos of IF hold; `flags`: it flags everything.

    Written file by file: with transformers 5 the library can neither make nor save a pipeline with this checker.
    """
    import json

    from diffusers.pipelines.deepfloyd_if import IFWatermarker

    checker, extractor = parts.if_safety_checker(flags)
    checker.save_pretrained(path / "safety_checker", variant=variant)
    extractor.save_pretrained(path / "feature_extractor")
    IFWatermarker().save_pretrained(path / "watermarker", variant=variant)
    index = json.loads((path / "model_index.json").read_text())
    index["safety_checker"] = ["deepfloyd_if", "IFSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessorPil"]
    index["watermarker"] = ["deepfloyd_if", "IFWatermarker"]
    (path / "model_index.json").write_text(json.dumps({**index, "requires_safety_checker": True}))


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
        said = {"short_description": block_state.prompt}
        if "photo" in block_state.prompt:
            said["style_medium"] = "Photograph"
        block_state.json_prompt = "{no JSON" if "dogs" in block_state.prompt else json.dumps(said)
        self.set_block_state(state, block_state)
        return components, state
"""


@functools.cache
def save_json_writer(folder):
    """A repo whose code turns a prompt into JSON, as FIBO's does with a language model; of dogs it makes none."""
    import json

    path = folder / "json_writer"
    path.mkdir()
    (path / "writer.py").write_text(JSON_WRITER)
    config = {
        "_class_name": "Writer",
        "auto_map": {"ModularPipelineBlocks": "writer.Writer"},
        "requirements": ["json"],
    }
    (path / "modular_config.json").write_text(json.dumps(config))
    return path


def make_parts(spec, folder):
    """The further parts of a model, by name."""
    makers = {
        "llama": save_llama,
        "lora": save_lora,
        "prompt_to_json": save_json_writer,
        "stage_2": lambda folder: save("IFSuperResolutionPipeline", folder, "fp16"),
        "stage_3": lambda folder: save("StableDiffusionUpscalePipeline", folder),
    }
    return {name: str(makers[name](folder)) for name in spec.parts}
