"""Adapter of UniWorld-V1: https://github.com/PKU-YuanGroup/UniWorld-V1, in its own environment.

It follows the authors' scripts for benchmarks at commit 8403e86. Their task head, which decides whether a request asks
for an image at all, is not asked: every request does.
"""

from typing import Any

import torch
from PIL import Image

SIDE = 448 * 448
"""Pixels that the processor resizes pictures to. No request here has one, but the processor asks for the limits."""


class Adapter:
    """Qwen2.5-VL reads the prompt; its hidden states and T5's together condition FLUX.1 [dev]."""

    def __init__(self, job: Any) -> None:
        from transformers import AutoProcessor
        from univa.models.qwen2p5vl.modeling_univa_qwen2p5vl import UnivaQwen2p5VLForConditionalGeneration
        from univa.utils.denoiser_prompt_embedding_flux import encode_prompt
        from univa.utils.flux_pipeline import FluxPipeline

        folder, half = job.weights(job.repo), {"torch_dtype": torch.bfloat16}
        self.device, self.arguments, self.encode = job.device, job.arguments, encode_prompt
        model = UnivaQwen2p5VLForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa", **half)
        self.model = model.to(self.device).eval()
        self.processor = AutoProcessor.from_pretrained(folder, min_pixels=SIDE, max_pixels=SIDE)
        # FLUX.1's own transformer is not needed: the model brings a fine-tuned one. That spares 24 GB, twice.
        flux = job.weights(job.parts["flux"], without=["flux1-dev.safetensors", "ae.safetensors", "transformer/*"])
        pipeline = FluxPipeline.from_pretrained(flux, transformer=self.model.denoise_tower.denoiser, **half)
        self.pipeline = pipeline.to(self.device)

    @torch.no_grad()
    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image."""
        turns = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text = text.split("<|im_end|>\n", 1)[1]  # without the system message
        inputs = self.processor(text=[text], padding=True, return_tensors="pt").to(self.device)
        read = self.model(inputs.input_ids, attention_mask=inputs.attention_mask, output_type="denoise_embeds")
        pipeline = self.pipeline
        tokenizers, encoders = (
            [pipeline.tokenizer, pipeline.tokenizer_2],
            [pipeline.text_encoder, pipeline.text_encoder_2],
        )
        t5, pooled = self.encode(encoders, tokenizers, prompt, 256, self.device, 1)
        return pipeline(
            prompt_embeds=torch.concat([t5, read], dim=1),
            pooled_prompt_embeds=pooled,
            generator=torch.Generator("cpu").manual_seed(seed),
            **self.arguments,
        ).images[0]
