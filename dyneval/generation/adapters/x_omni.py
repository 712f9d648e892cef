"""Adapter of X-Omni: code that comes with its weights, in its own environment.

It follows generate.py of https://github.com/X-Omni-Team/X-Omni at commit 2b8237b. The code is loaded from the
repository of the weights, at the commit that is recorded.
"""

from typing import Any

import torch
from PIL import Image


class Adapter:
    """A language model writes semantic image tokens, FLUX.1 [dev] turns them into pixels."""

    def __init__(self, job: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.generation import GenerationConfig

        folder = job.weights(job.repo)
        self.arguments = dict(job.arguments)
        # A token is 16 x 16 pixels; the size in tokens is written in front of them.
        side = self.arguments.pop("image_size") // 16
        self.prefix = f"<SOM>{side} {side}<IMAGE>"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, torch_dtype=torch.bfloat16, trust_remote_code=True, attn_implementation="sdpa"
        )
        self.model = model.to(job.device).eval()
        flux = job.weights(job.parts["flux"], without=["flux1-dev.safetensors"])  # the folder transformer/ in one file
        self.model.init_vision(str(flux))
        self.model.set_generation_mode("image")
        self.config = GenerationConfig(
            max_new_tokens=side * side,
            do_sample=True,
            # Without this the model could write text, or end the image early, where a token of the image must come.
            suppress_tokens=self.tokenizer.convert_tokens_to_ids(self.model.config.mm_special_tokens),
            **self.arguments,
        )
        self.device = job.device

    def wording(self, prompt: str) -> str:
        """Return the prompt with the beginning of an image of the size that is asked for."""
        return prompt + self.prefix

    @torch.no_grad()
    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image."""
        inputs = self.tokenizer([prompt], return_tensors="pt").to(self.device)
        nothing = self.tokenizer.encode(self.prefix, add_special_tokens=False, return_tensors="pt").to(self.device)
        tokens = self.model.generate(
            inputs=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            generation_config=self.config,
            negative_prompt_ids=nothing,
        )
        # The image ends where its number of tokens is reached, and `mmdecode` looks for the token that closes it.
        end = self.tokenizer.convert_tokens_to_ids("<EOM>")
        tokens = torch.nn.functional.pad(tokens, (0, 1), value=end)
        torch.manual_seed(seed)  # once more, as the authors do: the decoder draws noise of its own
        _, images = self.model.mmdecode(self.tokenizer, tokens[0], skip_special_tokens=False)
        return images[0]
