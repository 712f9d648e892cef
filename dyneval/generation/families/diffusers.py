"""Models that diffusers runs. A script names the pipeline class and, where the model needs it, overrides a method.

Every image has its own generator, so that it comes out the same in any batch, as far as the pipeline allows.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.weights import commit, component_bytes, explained
from dyneval.generation.model import BuildOptions, RunOptions


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


@dataclass(frozen=True, kw_only=True)
class DiffusersSpec(LocalSpec):
    """A model that diffusers runs.

    Attributes:
        pipeline: name of its class in diffusers.
        load: further arguments of `from_pretrained`.
        model: subclass with what is special to the model.
    """

    family: ClassVar[str] = "diffusers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "diffusers")
    pipeline: str
    load: Mapping[str, Any] = field(default_factory=dict)
    model: type[DiffusersModel] = DiffusersModel

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
