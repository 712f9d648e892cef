"""Models that draw an image token by token with transformers: the token sampler and the order of tokens they share.

transformers samples from the global generator, one for a whole batch. Here each image has its own: noise is added to
the scores in such a way that the largest is a sample (the Gumbel-max trick), and the library is told to be greedy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.weights import component_bytes
from dyneval.generation.model import BuildOptions, RunOptions


class SeededSampling:
    """A logits processor that makes the largest score of each row a sample from its own generator."""

    def __init__(self, generators: list[Any]) -> None:
        """The generator of each row. Temperature and limits are those of the library's processors before this one."""
        self.generators = generators

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of shape (rows, vocabulary), one row for each generator, with noise added."""
        import torch

        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores.float() + noise.to(scores.device)


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

        load = self.weights.load
        kind = getattr(transformers, self.spec.model_class)
        self.model = load(kind, self.repo, dtype=self.weights.dtype, **self.spec.load).eval()
        self.processor = load(getattr(transformers, self.spec.processor_class), self.repo)
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


class Janus(TransformersModel):
    """Janus-Pro: an image as a fixed number of tokens, written by a language model and decoded by an autoencoder.

    It guides the scores before it samples from them; given both, the library would do it the other way round.
    """

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Images from tokens."""
        from transformers import (
            ClassifierFreeGuidanceLogitsProcessor,
            LogitsProcessorList,
            TemperatureLogitsWarper,
        )

        turns = [[{"role": "user", "content": [{"type": "text", "text": prompt}]}] for prompt in prompts]
        texts = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        inputs = self.processor(text=texts, generation_mode="image", padding=True, return_tensors="pt").to(self.device)
        guide = ClassifierFreeGuidanceLogitsProcessor(self.arguments["guidance_scale"])
        heat = TemperatureLogitsWarper(float(self.arguments["temperature"]))
        tokens = self.model.generate(
            **inputs,
            generation_mode="image",
            do_sample=False,
            guidance_scale=1.0,  # none of the library's own
            logits_processor=LogitsProcessorList([guide, heat, SeededSampling(generators)]),
        )
        return self._pictures(self.model.decode_image_tokens(tokens)), [None] * len(prompts)

    def _pictures(self, pixels: Any) -> list[Image.Image]:
        """Undo the normalisation of `pixels`, shape (images, height, width, 3).

        `postprocess` of the processor would, but where torchvision is missing transformers 5.23 takes the height for
        the channels.
        """
        import torch

        processor = self.processor.image_processor
        mean, std = (torch.tensor(values) for values in (processor.image_mean, processor.image_std))
        values = ((pixels.float().cpu() * std + mean) * 255).clamp(0, 255).to(torch.uint8)
        return [Image.fromarray(image.numpy()) for image in values]


CLOSING_TOKENS = 3
"""End of the rows, of the image and of the text."""


class Emu3(TransformersModel):
    """Emu3: an image as a text of tokens, row by row, each row and the image closed by tokens of their own.

    It guides with a negative prompt and lets only tokens through that keep the rows straight.
    """

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Images from tokens, enlarged when the preset says so."""
        from transformers import LogitsProcessorList, TopKLogitsWarper

        size = {"ratio": "1:1", "image_area": self.arguments["image_area"], "return_for_image_generation": True}
        inputs = self._read(prompts, **size)
        height, width = (int(side) for side in inputs.pop("image_sizes")[0])
        negative = self._read([self.arguments["negative_prompt"]] * len(prompts))
        likely = TopKLogitsWarper(self.arguments["top_k"])
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=height * (width + 1) + CLOSING_TOKENS,
            do_sample=False,
            guidance_scale=self.arguments["guidance_scale"],
            negative_prompt_ids=negative["input_ids"],
            negative_prompt_attention_mask=negative["attention_mask"],
            prefix_allowed_tokens_fn=self._raster(height, width),
            logits_processor=LogitsProcessorList([likely, SeededSampling(generators)]),
        )
        written = tokens[:, inputs["input_ids"].shape[1] :]
        pictures = self.model.decode_image_tokens(image_tokens=written, height=height, width=width)
        images = self.processor.postprocess(list(pictures.float().cpu()), return_tensors="PIL.Image.Image")
        return [self._enlarged(image) for image in images["pixel_values"]], [None] * len(prompts)

    def _read(self, texts: list[str], **options: Any) -> Any:
        return self.processor(text=texts, padding=True, padding_side="left", return_tensors="pt", **options).to(
            self.device
        )

    def _raster(self, height: int, width: int) -> Any:
        import torch

        tokenizer = self.processor.tokenizer
        row_end = tokenizer.convert_tokens_to_ids("<|extra_200|>")
        ends = (row_end, tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id)
        image = torch.tensor(self.model.vocabulary_mapping.image_tokens, device=self.device)
        return raster(height, width, image, tokenizer.image_wrapper_token_id, ends)

    def _enlarged(self, image: Image.Image) -> Image.Image:
        side = self.arguments.get("enlarge_to")
        return image.resize((side, side), Image.Resampling.LANCZOS) if side else image


@dataclass(frozen=True, kw_only=True)
class TransformersSpec(LocalSpec):
    """A model that transformers runs.

    Attributes:
        model_class: name of its class in transformers.
        processor_class: name of its processor's class.
        load: further arguments of `from_pretrained`.
        model: class that draws, see `ModelSpec.named_class`.
    """

    family: ClassVar[str] = "transformers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    model_class: str
    processor_class: str
    load: Mapping[str, Any] = field(default_factory=dict)
    model: str

    def settings(self, options: BuildOptions) -> dict[str, Any]:
        """As for any model, and how its weights are loaded."""
        return {**super().settings(options), "load": {**self.load, "dtype": self.weight_dtype(options)}}

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> TransformersModel:
        """Load the model. Raises GenerationError when it cannot be loaded."""
        return self.named_class(self.model)(self, options, run, device)
