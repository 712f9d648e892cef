"""Models that draw an image token by token with transformers: the token sampler and the order of tokens they share.

transformers samples from the global generator, one for a whole batch, so an image would depend on its batch and on the
device. Here each image has its own: noise is added to the scores in such a way that the largest is a sample (the
Gumbel-max trick: argmax of log p - log(-log u), u uniform in (0, 1), has the distribution p), and the library is told
to be greedy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from dyneval.generation.devices import choose_placement
from dyneval.generation.families.local import LocalModel, LocalSpec
from dyneval.generation.families.weights import component_bytes
from dyneval.generation.model import BuildOptions, RunOptions


@dataclass(frozen=True, slots=True)
class SeededSampling:
    """A logits processor that makes the largest score of each row a sample from its own generator.

    It comes last, behind the library's processors for temperature, top-k and top-p, since it draws from what they left.

    Attributes:
        generators: a torch.Generator on the CPU for each row.
    """

    generators: list[Any]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores, shape (rows, vocabulary), with noise added; one row for each generator."""
        import torch

        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        # Kept off 0 and 1, where the noise is infinite: 1e-20 is above the smallest float32, 1 - 1e-7 below 1.
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores.float() + noise.to(scores.device)


def raster(height: int, width: int, image: Any, start: int, ends: tuple[int, int, int, int]) -> Callable[..., Any]:
    """Return the `prefix_allowed_tokens_fn` of `generate` for an image that is written row by row.

    It keeps the rows straight: one token too many in a row would shift all that follows.

    Args:
        height: rows of tokens; after each comes the token that ends a row.
        width: tokens a row.
        image: ids of the image tokens.
        start: id of the token behind which the first row begins.
        ends: ids that end a row, the rows, the image and the text, in this order.

    Returns:
        A function of a row's number and its token ids so far, which returns the ids that may come next.
    """
    row_end, *closing = ends

    def allowed(_: int, input_ids: Any) -> Any:
        # The last start token counts: a prompt may hold the same one.
        written = input_ids.shape[0] - int((input_ids == start).nonzero()[-1]) - 1
        if written >= height * (width + 1):
            return [closing[min(written - height * (width + 1), 2)]]
        return [row_end] if written % (width + 1) == width else image

    return allowed


class TransformersModel(LocalModel):
    """A loaded model and its processor; a model's class says how they draw."""

    spec: TransformersSpec
    weight_attributes = ("model",)

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


class Janus(TransformersModel):
    """Janus-Pro: an image as a fixed number of tokens, written by a language model and decoded by an autoencoder.

    It guides the scores before it samples from them; given both, the library would sample first.
    """

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Write the tokens of the images and decode them; there is no safety checker."""
        import torch
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
            guidance_scale=1.0,  # switches the library's own guidance off
            logits_processor=LogitsProcessorList([guide, heat, SeededSampling(generators)]),
        )
        pixels = self.model.decode_image_tokens(tokens)  # shape (images, height, width, 3), normalised
        # `postprocess` of the processor would undo the normalisation, but where torchvision is missing transformers
        # 5.23 takes the height for the channels.
        processor = self.processor.image_processor
        mean, std = (torch.tensor(values) for values in (processor.image_mean, processor.image_std))
        values = ((pixels.float().cpu() * std + mean) * 255).clamp(0, 255).to(torch.uint8)
        return [Image.fromarray(image.numpy()) for image in values], [None] * len(prompts)


CLOSING_TOKENS = 3
"""End of the rows, of the image and of the text."""


class Emu3(TransformersModel):
    """Emu3: an image as a text of tokens, row by row, each row and the image closed by tokens of their own.

    It guides with a negative prompt and lets only tokens through that keep the rows straight.
    """

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Write the tokens of the images, decode them, and enlarge them where the preset says so."""
        import torch
        from transformers import LogitsProcessorList, TopKLogitsWarper

        size = {"ratio": "1:1", "image_area": self.arguments["image_area"], "return_for_image_generation": True}
        inputs = self._read(prompts, **size)
        height, width = (int(side) for side in inputs.pop("image_sizes")[0])
        negative = self._read([self.arguments["negative_prompt"]] * len(prompts))
        likely = TopKLogitsWarper(self.arguments["top_k"])
        tokenizer = self.processor.tokenizer
        row_end = tokenizer.convert_tokens_to_ids("<|extra_200|>")  # Emu3's name of the token that ends a row
        ends = (row_end, tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id)
        image_tokens = torch.tensor(self.model.vocabulary_mapping.image_tokens, device=self.device)
        straight = raster(height, width, image_tokens, tokenizer.image_wrapper_token_id, ends)
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=height * (width + 1) + CLOSING_TOKENS,
            do_sample=False,
            guidance_scale=self.arguments["guidance_scale"],
            negative_prompt_ids=negative["input_ids"],
            negative_prompt_attention_mask=negative["attention_mask"],
            prefix_allowed_tokens_fn=straight,
            logits_processor=LogitsProcessorList([likely, SeededSampling(generators)]),
        )
        written = tokens[:, inputs["input_ids"].shape[1] :]
        pictures = self.model.decode_image_tokens(image_tokens=written, height=height, width=width)
        found = self.processor.postprocess(list(pictures.float().cpu()), return_tensors="PIL.Image.Image")
        images, side = found["pixel_values"], self.arguments.get("enlarge_to")
        if side:
            images = [image.resize((side, side), Image.Resampling.LANCZOS) for image in images]
        return images, [None] * len(prompts)

    def _read(self, texts: list[str], **options: Any) -> Any:
        """Return the inputs of `generate`, padded on the left so that every image begins behind its prompt."""
        read = self.processor(text=texts, padding=True, padding_side="left", return_tensors="pt", **options)
        return read.to(self.device)


@dataclass(frozen=True, kw_only=True)
class TransformersSpec(LocalSpec):
    """A model that transformers runs.

    Attributes:
        model_class: name of its class in transformers.
        processor_class: name of its processor's class.
        model: class that draws, see `ModelSpec.named_class`.
    """

    family: ClassVar[str] = "transformers"
    family_packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    model_class: str
    processor_class: str
    model: str

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> TransformersModel:
        """Load the model. Raises GenerationError when it cannot be loaded."""
        return self.named_class(self.model)(self, options, run, device)
