"""Models that diffusers runs. A script names the pipeline class and, where the model needs it, overrides one method.

Every image has its own generator on the CPU, so that it comes out the same on any device and in any batch, as far as
the pipeline allows.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from PIL import Image

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.weights import Weights, commit, component_bytes, device_errors, explained
from dyneval.generation.model import BuildOptions, Made, ModelSpec, NotMade, Outcome, Request, RunOptions

PACKAGES = ("diffusers", "transformers", "torch")


class DiffusersModel:
    """A loaded pipeline. The methods in the middle are what a script may override."""

    def __init__(self, spec: DiffusersSpec, options: BuildOptions, run: RunOptions, device: str) -> None:
        """Load and place the pipeline. Raises GenerationError when a part of it cannot be loaded."""
        self.spec = spec
        self.options = options
        self.arguments = spec.arguments(options)
        self.repo = spec.repo(options)
        self.parts = spec.chosen_parts(options)
        self.device = device
        self.batch_size = spec.batch_size
        self.weights = Weights(spec, device, spec.weight_dtype(options))
        self.pipeline = self.load()
        self.prepare()
        self.pipelines = [self.pipeline, *self.further_stages()]
        self.placement = [self._place(pipeline, run.placement) for pipeline in self.pipelines]
        self.facts: Mapping[str, Any] = {
            **self.weights.facts(self.repo, (*PACKAGES, *spec.packages)),
            "placement": self.placement[0],
        }

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

    def load_part(self, loader: str, part: str, **arguments: Any) -> Any:
        """Load a further part of the model with `loader`, such as "transformers.LlamaForCausalLM"."""
        module, name = loader.rsplit(".", 1)
        return self.weights.load(getattr(importlib.import_module(module), name), self.parts[part], **arguments)

    def further_stages(self) -> Sequence[Any]:
        """Pipelines that refine the images of the first; they are placed like it."""
        return ()

    def wording(self, request: Request) -> str:
        """The prompt as it is sent: by default with the preset's suffix.

        The global generators are seeded for it, so that a model may rewrite the prompt with one that takes no other.
        """
        return request.prompt + self.spec.preset(self.options).prompt_suffix

    def sent(self, prompt: str) -> str:
        """The text the model reads where the pipeline wraps the prompt that it is given."""
        return prompt

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Images of `prompts` and, for each, whether the safety checker flagged it (None: there is no checker)."""
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

    def generate(self, batch: Sequence[Request]) -> Iterator[Outcome]:
        """Draw one batch. Raises BatchTooLarge and ModelBroken as the interface says."""
        import torch

        start = time.perf_counter()
        with torch.inference_mode(), device_errors():
            prompts = [self._seeded_wording(request) for request in batch]
            generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
            images, flags = self.draw(prompts, generators)
        seconds = (time.perf_counter() - start) / len(batch)
        for request, prompt, image, flag in zip(batch, prompts, images, flags, strict=True):
            if image is None:
                yield NotMade(request=request, reason="the pipeline returned no image")
            else:
                yield Made(request=request, image=image, prompt_sent=self.sent(prompt), seconds=seconds, safety=flag)

    def _seeded_wording(self, request: Request) -> str:
        import torch

        torch.manual_seed(request.seed)
        return self.wording(request)

    def _place(self, pipeline: Any, asked: str) -> str:
        pipeline.set_progress_bar_config(disable=True)
        sizes = component_bytes(pipeline.components)
        placement = asked if asked != "auto" else choose_placement(sizes.values(), self.device, len(self.pipelines))
        if placement == "resident":
            pipeline.to(self.device)
        elif placement == "model_offload":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=self.device)
        return placement

    def close(self) -> None:
        """Free the weights, also on the device."""
        import torch

        self.pipelines.clear()
        self.pipeline = None
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


@dataclass(frozen=True, kw_only=True)
class DiffusersSpec(ModelSpec):
    """A model that diffusers runs.

    Attributes:
        pipeline: name of its class in diffusers.
        dtype: in which the weights are loaded on a GPU.
        load: further arguments of `from_pretrained`.
        model: subclass with what is special to the model.
    """

    family: ClassVar[str] = "diffusers"
    pipeline: str
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    load: Mapping[str, Any] = field(default_factory=dict)
    model: type[DiffusersModel] = DiffusersModel

    def weight_dtype(self, options: BuildOptions) -> str:
        """Name of the dtype in which weights are loaded on a GPU."""
        return self.preset(options).dtype or self.dtype

    def pipeline_name(self, options: BuildOptions) -> str:
        """Name of the pipeline's class in diffusers."""
        return self.preset(options).pipeline or self.pipeline

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """As for any model, and the pipeline and how its weights are loaded."""
        loading = {**self.load, "dtype": self.weight_dtype(options)}
        return {**super().settings(options), "pipeline": self.pipeline_name(options), "load": loading}

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> DiffusersModel:
        """Load the pipeline. Raises GenerationError when it cannot be loaded."""
        return self.model(self, options, run, device)
