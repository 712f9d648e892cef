"""Models that diffusers runs: a table names the pipeline and, where the model needs it, a class of this file.

Every image has its own generator, so that it comes out the same in any batch, as far as the pipeline allows.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.weights import commit, component_bytes, explained
from dyneval.generation.model import BuildOptions, Request, RunOptions


class DiffusersModel(LocalModel):
    """A loaded pipeline, or several that hand an image on."""

    spec: DiffusersSpec

    def set_up(self) -> str:
        """Load the pipeline, finish it, load further stages, place them all."""
        self.pipeline = self.load()
        self.prepare()
        self.pipelines = [self.pipeline, *self.further_stages()]
        placements = [self._place(pipeline) for pipeline in self.pipelines]
        return placements[0]

    def load(self) -> Any:
        """The pipeline, on the CPU."""
        import diffusers

        return self.weights.load(
            getattr(diffusers, self.spec.pipeline_name(self.options)),
            self.repo,
            revision=self.options.revision,
            dtype=self.weights.dtype,
            **self.spec.load,
            **self.components(),
        )

    def components(self) -> dict[str, Any]:
        """Parts of the pipeline that its repo leaves out."""
        return {}

    def prepare(self) -> None:
        """Finish the loaded pipeline before it is placed; of a part called "lora" the variant names the file."""
        if "lora" not in self.parts:
            return
        repo = self.parts["lora"]
        with explained(self.spec, repo):
            self.pipeline.load_lora_weights(repo, weight_name=f"{self.spec.variant(self.options)}.safetensors")
        self.weights.commits[repo] = commit(repo)

    def further_stages(self) -> Sequence[Any]:
        """Pipelines that refine the images of the first; they are placed like it."""
        return ()

    def load_part(self, loader: str, part: str, **arguments: Any) -> Any:
        """Load a further part of the model with `loader`, such as "transformers.LlamaForCausalLM"."""
        module, name = loader.rsplit(".", 1)
        return self.weights.load(getattr(importlib.import_module(module), name), self.parts[part], **arguments)

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Call the pipeline once."""
        # A copy: some pipelines write their chat template into the list they are given.
        output = self.pipeline(prompt=list(prompts), generator=generators, **self.call_arguments(len(prompts)))
        flags = getattr(output, "nsfw_content_detected", None)
        return output.images, list(flags) if flags else [None] * len(prompts)

    def call_arguments(self, count: int) -> dict[str, Any]:
        """The call's arguments for `count` prompts: a negative prompt must be as many as they are."""
        arguments = dict(self.arguments)
        if isinstance(arguments.get("negative_prompt"), str):
            arguments["negative_prompt"] = [arguments["negative_prompt"]] * count
        return arguments

    def _place(self, pipeline: Any) -> str:
        pipeline.set_progress_bar_config(disable=True)
        sizes = component_bytes(pipeline.components).values()
        placement = choose_placement(sizes, self.device, self.run.placement, len(self.pipelines))
        if placement == "resident":
            pipeline.to(self.device)
        elif placement == "model_offload":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=self.device)
        return placement

    def weights_held(self) -> tuple[str, ...]:
        """The pipelines."""
        return ("pipeline", "pipelines")


class Fibo(DiffusersModel):
    """Has the JSON written from the image's own seed; it is what the record calls the prompt that was sent."""

    def prepare(self) -> None:
        """Load the model that writes JSON."""
        self.writer = self.load_part("diffusers.ModularPipeline", "prompt_to_json", trust_remote_code=True)

    def wording(self, request: Request) -> str:
        """The prompt as JSON."""
        return self.writer(prompt=request.prompt).values["json_prompt"]


class HiDream(DiffusersModel):
    """Brings Llama along."""

    def components(self) -> dict[str, object]:
        """The fourth text encoder and its tokenizer, which the repo leaves out."""
        tokenizer = self.load_part("transformers.AutoTokenizer", "llama")
        more = {"dtype": self.weights.dtype, "output_hidden_states": True, "output_attentions": True}
        encoder = self.load_part("transformers.LlamaForCausalLM", "llama", **more)
        return {"tokenizer_4": tokenizer, "text_encoder_4": encoder}


class LongCat(DiffusersModel):
    """Rewrites before the call, from the image's own seed: inside the call the text would be lost and unseeded."""

    def wording(self, request: Request) -> str:
        """The prompt as the text encoder rewrites it."""
        if not self.arguments["enable_prompt_rewrite"]:
            return request.prompt
        return self.pipeline.rewire_prompt(request.prompt, self.device)[0]

    def call_arguments(self, count: int) -> dict[str, object]:
        """Rewriting is done by now."""
        return {**super().call_arguments(count), "enable_prompt_rewrite": False}


class QwenImage(DiffusersModel):
    """Appends the suffix in the prompt's own language."""

    def wording(self, request: Request) -> str:
        """The prompt with its suffix, the Chinese one after Chinese text."""
        chinese = re.search("[\u4e00-\u9fff]", request.prompt)
        return f"{request.prompt}, 超清，4K，电影级构图." if chinese else super().wording(request)


class Sana(DiffusersModel):
    """Records the instruction that the pipeline puts before the prompt."""

    def sent(self, prompt: str) -> str:
        """Instruction and prompt."""
        parameters = inspect.signature(type(self.pipeline).__call__).parameters
        return "\n".join(parameters["complex_human_instruction"].default) + prompt


class DeepFloyd(DiffusersModel):
    """Stage I draws 64x64, II makes it 256x256, III 1024x1024; arguments are given for each stage that is to run."""

    def further_stages(self) -> Sequence[Any]:
        """Stages II and III; II reads the text as stage I encoded it, so its own copy of T5 stays away."""
        from diffusers import IFSuperResolutionPipeline, StableDiffusionUpscalePipeline

        if "stage_2" not in self.arguments:
            return ()
        load, dtype = self.weights.load, self.weights.dtype
        two = load(
            IFSuperResolutionPipeline, self.parts["stage_2"], dtype=dtype, text_encoder=None, **dict(self.spec.load)
        )
        return two, load(StableDiffusionUpscalePipeline, self.parts["stage_3"], dtype=dtype)

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Any], list[bool | None]]:
        """Encode once, then hand the images on; flagged is what any stage flags."""
        one, *further = self.pipelines
        embeds, negative = one.encode_prompt(prompts)
        texts = {"prompt_embeds": embeds, "negative_prompt_embeds": negative, "generator": generators}
        first = one(**texts, **self.arguments["stage_1"], output_type="pt" if further else "pil")
        if not further:
            return first.images, _flags(len(prompts), first)
        two, three = further
        second = two(image=first.images, **texts, **self.arguments["stage_2"], output_type="pt")
        third = three(prompt=prompts, image=second.images, generator=generators, **self.arguments["stage_3"])
        return third.images, _flags(len(prompts), first, second)


def _flags(count: int, *outputs: Any) -> list[bool | None]:
    found = [output.nsfw_detected for output in outputs if output.nsfw_detected is not None]
    return [any(flags) for flags in zip(*found, strict=True)] if found else [None] * count


@dataclass(frozen=True, kw_only=True)
class DiffusersSpec(LocalSpec):
    """A model that diffusers runs.

    Attributes:
        pipeline: name of its class in diffusers.
        load: further arguments of `from_pretrained`.
        model: class with what is special to the model, see `ModelSpec.named_class`.
    """

    family: ClassVar[str] = "diffusers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "diffusers")
    pipeline: str
    load: Mapping[str, Any] = field(default_factory=dict)
    model: str = "DiffusersModel"

    def pipeline_name(self, options: BuildOptions) -> str:
        """Name of the pipeline's class in diffusers."""
        return self.preset(options).pipeline or self.pipeline

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """As for any model, and the pipeline and how its weights are loaded."""
        loading = {**self.load, "dtype": self.weight_dtype(options)}
        return {**super().settings(options), "pipeline": self.pipeline_name(options), "load": loading}

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> DiffusersModel:
        """Load the pipeline. Raises GenerationError when it cannot be loaded."""
        return self.named_class(self.model)(self, options, run, device)
