"""Janus-Pro: an image as a fixed number of tokens, written by a language model and decoded by an autoencoder."""

from __future__ import annotations

from typing import Any

from PIL import Image

from dyneval.generation.families.transformers import SeededSampling, TransformersModel


class Janus(TransformersModel):
    """Guides the scores before it samples from them; given both, the library would do it the other way round."""

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Images from tokens."""
        from transformers import ClassifierFreeGuidanceLogitsProcessor, LogitsProcessorList

        turns = [[{"role": "user", "content": [{"type": "text", "text": prompt}]}] for prompt in prompts]
        texts = self.processor.apply_chat_template(turns, add_generation_prompt=True)
        inputs = self.processor(text=texts, generation_mode="image", padding=True, return_tensors="pt").to(self.device)
        guide = ClassifierFreeGuidanceLogitsProcessor(self.arguments["guidance_scale"])
        sample = SeededSampling(generators, self.arguments["temperature"])
        tokens = self.model.generate(
            **inputs,
            generation_mode="image",
            do_sample=False,
            guidance_scale=1.0,  # none of the library's own
            logits_processor=LogitsProcessorList([guide, sample]),
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
