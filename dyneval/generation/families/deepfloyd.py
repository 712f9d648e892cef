"""DeepFloyd IF: a cascade of pixel diffusion models, each enlarging the image of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dyneval.generation.families.diffusers import DiffusersModel


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
