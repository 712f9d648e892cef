"""Models that draw an image token by token with transformers: the token sampler and the order of tokens they share.

transformers samples from the global generator, one for a whole batch. Here each image has its own: noise is added to
the scores in such a way that the largest is a sample (the Gumbel-max trick), and the library is told to be greedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.weights import component_bytes
from dyneval.generation.model import BuildOptions, RunOptions


class SeededSampling:
    """A logits processor that makes the largest score of each row a sample from its own generator."""

    def __init__(self, generators: list[Any], temperature: float = 1.0, top_k: int = 0) -> None:
        """`top_k`: sample among so many of the highest scores; 0 is all."""
        self.generators = generators
        self.temperature = temperature
        self.top_k = top_k

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of shape (rows, vocabulary), one row for each generator, with noise added."""
        import torch

        scores = scores.float() / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            lowest = scores.topk(self.top_k).values[:, -1:]
            scores = scores.masked_fill(scores < lowest, -torch.inf)
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores + noise.to(scores.device)


def raster(height: int, width: int, image: Any, start: int, ends: tuple[int, int, int, int]) -> Callable[..., Any]:
    """Which tokens may come next in an image that is written row by row: `prefix_allowed_tokens_fn` of `generate`.

    Args:
        height: rows of tokens; after each comes the token that ends a row.
        width: tokens a row.
        image: ids of the image tokens.
        start: id of the token behind which the first row begins.
        ends: ids that end a row, the rows, the image and the text, in this order.
    """
    row_end, *closing = ends

    def allowed(_: int, input_ids: Any) -> Any:
        written = input_ids.shape[0] - int((input_ids == start).nonzero()[-1]) - 1
        if written >= height * (width + 1):
            return [closing[min(written - height * (width + 1), 2)]]
        return [row_end] if written % (width + 1) == width else image

    return allowed


class TransformersModel(LocalModel):
    """A loaded model and its processor; a script says how they draw."""

    spec: TransformersSpec

    def set_up(self) -> str:
        """Load model and processor, and place the model."""
        import transformers

        load, revision = self.weights.load, self.options.revision
        kind = getattr(transformers, self.spec.model_class)
        self.model = load(kind, self.repo, revision=revision, dtype=self.weights.dtype, **self.spec.load).eval()
        self.processor = load(getattr(transformers, self.spec.processor_class), self.repo, revision=revision)
        sizes = component_bytes({"model": self.model}).values()
        placement = choose_placement(sizes, self.device, self.run.placement)
        if placement == "resident":
            self.model.to(self.device)
        else:
            from accelerate import cpu_offload

            cpu_offload(self.model, execution_device=self.device)
        return placement

    def weights_held(self) -> tuple[str, ...]:
        """The model."""
        return ("model",)


@dataclass(frozen=True, kw_only=True)
class TransformersSpec(LocalSpec):
    """A model that transformers runs.

    Attributes:
        model_class: name of its class in transformers.
        processor_class: name of its processor's class.
        load: further arguments of `from_pretrained`.
        model: subclass that draws.
    """

    family: ClassVar[str] = "transformers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    model_class: str
    processor_class: str
    load: Mapping[str, Any] = field(default_factory=dict)
    model: type[TransformersModel]

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """As for any model, and how its weights are loaded."""
        return {**super().settings(options), "load": {**self.load, "dtype": self.weight_dtype(options)}}

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> TransformersModel:
        """Load the model. Raises GenerationError when it cannot be loaded."""
        return self.model(self, options, run, device)
