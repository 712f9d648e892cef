"""Emu3: an image as a text of tokens, row by row, each row and the image closed by tokens of their own."""

from __future__ import annotations

from typing import Any

from PIL import Image

from dyneval.generation.families.transformers import SeededSampling, TransformersModel, raster

CLOSING_TOKENS = 3
"""End of the rows, of the image and of the text."""


class Emu3(TransformersModel):
    """Guides with a negative prompt and lets only tokens through that keep the rows straight."""

    def draw(self, prompts: list[str], generators: list[Any]) -> tuple[list[Image.Image], list[bool | None]]:
        """Images from tokens, enlarged when the preset says so."""
        from transformers import LogitsProcessorList

        size = {"ratio": "1:1", "image_area": self.arguments["image_area"], "return_for_image_generation": True}
        inputs = self._read(prompts, **size)
        height, width = (int(side) for side in inputs.pop("image_sizes")[0])
        negative = self._read([self.arguments["negative_prompt"]] * len(prompts))
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=height * (width + 1) + CLOSING_TOKENS,
            do_sample=False,
            guidance_scale=self.arguments["guidance_scale"],
            negative_prompt_ids=negative["input_ids"],
            negative_prompt_attention_mask=negative["attention_mask"],
            prefix_allowed_tokens_fn=self._raster(height, width),
            logits_processor=LogitsProcessorList([SeededSampling(generators, top_k=self.arguments["top_k"])]),
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
