"""What models that run on this machine share: wording of prompts, a generator for each image, timing, device errors.

Each image gets a generator of its own, seeded with its own seed. Without that an image would depend on the batch that
it was drawn in, and could not be drawn again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from PIL import Image

from dyneval.generation.families.weights import Weights, device_errors
from dyneval.generation.model import (
    BuildOptions,
    GeneratedImage,
    ImageRequest,
    ModelSpec,
    NoImage,
    Outcome,
    RequestedSize,
    RunOptions,
)


class LocalModel(ABC):
    """A loaded model. A family adds `set_up` and `draw`; a model's class overrides what is special to it.

    Attributes:
        arguments: of the model's call.
        repo: of the weights.
        parts: further weights by name.
        weights: loads from these repos, and notes the commits.
        weight_attributes: names of the attributes that hold weights; `close` sets them to None.
    """

    weight_attributes: ClassVar[tuple[str, ...]]

    def __init__(self, spec: LocalSpec, options: BuildOptions, run: RunOptions, device: str) -> None:
        """Load the model onto `device`. Raises GenerationError when a part of it cannot be loaded."""
        self.spec = spec
        self.options = options
        self.run = run
        self.device = device
        self.arguments = spec.arguments(options)
        self.repo = spec.repo(options)
        self.parts = spec.chosen_parts(options)
        self.batch_size = spec.batch_size
        self.weights = Weights(spec, device, spec.weight_dtype(options), spec.commits(options))
        if device.startswith("cuda:"):
            import torch

            torch.cuda.set_device(device)  # code that comes with weights may name no device, or "cuda"
        self.asked_size = RequestedSize.of(spec.slug, self.arguments)
        placement = self.set_up()
        # After loading: only then are the commits known.
        self.facts: Mapping[str, Any] = {**self.weights.facts(self.repo), "placement": placement}

    @abstractmethod
    def set_up(self) -> str:
        """Load and place everything; returns the placement."""

    @abstractmethod
    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Draw a batch.

        Args:
            prompts: as `wording` made them.
            generators: a torch.Generator on the CPU for each prompt, seeded.

        Returns:
            An image for each prompt and, for each, whether the safety checker flagged it (None: there is no checker).
        """

    def wording(self, request: ImageRequest) -> str:
        """Return the prompt as it is sent: by default with the preset's suffix.

        The global generators are seeded for it, so that a model may rewrite the prompt with one that takes no other.
        """
        return request.prompt + self.spec.suffix(self.options)

    def sent(self, prompt: str) -> str:
        """Return the text that the model reads, where its library changes the prompt that it is given."""
        return prompt

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Draw one batch. Raises BatchTooLarge and ModelBroken as `ImageModel.generate` says."""
        import torch

        start = time.perf_counter()
        with torch.inference_mode(), device_errors():
            prompts = []
            for request in batch:
                torch.manual_seed(request.seed)
                prompts.append(self.wording(request))
            # On the CPU, so that the same noise comes out whatever the device.
            generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
            images, flags = self.draw(prompts, generators)
        # Nobody can tell which image of a batch took how long.
        seconds = (time.perf_counter() - start) / len(batch)
        for request, prompt, image, flag in zip(batch, prompts, images, flags, strict=True):
            if image is None:
                yield NoImage(request=request, reason="the model returned no image")
                continue
            yield GeneratedImage(
                request=request,
                image=image,
                prompt_sent=self.sent(prompt),
                seconds=seconds,
                safety=flag,
                details={**self.noted(prompt), **self.asked_size.note(image)},
            )

    def noted(self, prompt: str) -> dict[str, Any]:
        """Return what is to be recorded about the image of one prompt alone."""
        return {}

    def close(self) -> None:
        """Free the weights, also on the device."""
        import torch

        for name in self.weight_attributes:
            setattr(self, name, None)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()


@dataclass(frozen=True, kw_only=True)
class LocalSpec(ModelSpec):
    """A model that runs on this machine.

    Attributes:
        dtype: in which the weights are loaded on a GPU; a CPU always runs in float32.
        load: further arguments of `from_pretrained`.
    """

    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    load: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """Return what any model records, and how the weights are loaded."""
        return {**super().settings(options), "load": {**self.load, "dtype": self.weight_dtype(options)}}

    def weight_dtype(self, options: BuildOptions) -> str:
        """Return the name of the dtype in which weights are loaded on a GPU."""
        return self.preset(options).dtype or self.dtype
