"""Adapter of LlamaGen: https://github.com/FoundationVision/LlamaGen, in its own environment.

It follows the authors' sample_t2i.py at commit ce98ec4: T5 reads the prompt, a language model writes the codes of the
image row by row, and a VQ autoencoder decodes them.
"""

import argparse
from typing import Any

import torch
from PIL import Image

VQ = "vq_ds16_t2i.pt"


class Adapter:
    """A language model over the codes of a VQ autoencoder, conditioned on T5."""

    def __init__(self, job: Any) -> None:
        from autoregressive.models.generate import generate
        from autoregressive.models.gpt import GPT_models
        from language.t5 import T5Embedder
        from tokenizer.tokenizer_image.vq_model import VQ_models

        # For the whole process, as the authors do: without it their `generate` keeps gradients.
        torch.set_grad_enabled(False)
        self.arguments = dict(job.arguments)
        # A code is 16 x 16 pixels.
        self.side, checkpoint = self.arguments.pop("image_size") // 16, self.arguments.pop("checkpoint")
        folder = job.weights(job.repo, only=[VQ, checkpoint])
        # Beside the weights the authors' files have the trainer's arguments, a Namespace, which weights_only refuses if
        # it is not allowed.
        with torch.serialization.safe_globals([argparse.Namespace]):
            codes, saved = (
                torch.load(folder / name, map_location="cpu", weights_only=True) for name in (VQ, checkpoint)
            )
        self.codes = VQ_models["VQ-16"](codebook_size=16384, codebook_embed_dim=8).to(job.device).eval()
        self.codes.load_state_dict(codes["model"])
        del codes  # the whole file, beside which the larger model and T5 are loaded
        model = GPT_models["GPT-XL"](block_size=self.side**2, cls_token_num=120, model_type="t2i")
        # Not strict, as the authors load it: a file may hold buffers that are computed. But nothing may be missing.
        keys = model.load_state_dict(
            next(saved[k] for k in ("model", "module", "state_dict") if k in saved), strict=False
        )
        if keys.missing_keys:
            raise ValueError(f"{checkpoint}: lacks {len(keys.missing_keys)} weights, such as {keys.missing_keys[0]}")
        self.model = model.to(job.device, torch.bfloat16).eval()
        # The repo holds the same weights in several formats; safetensors is read.
        t5 = job.weights(job.parts["t5"], without=["*.h5", "*.msgpack", "pytorch_model*"])
        self.t5 = T5Embedder(
            device=job.device,
            # T5Embedder puts cache_dir and name together, so a folder is given in two parts.
            local_cache=True,
            cache_dir=str(t5.parent),
            dir_or_name=t5.name,
            torch_dtype=torch.bfloat16,
            model_max_length=120,
        )
        self.generate = generate

    def read(self, prompt: str) -> str:
        """Return the prompt as T5Embedder cleans it: in lower case, without addresses and the like."""
        return self.t5.text_preprocessing(prompt)

    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image; codes of shape (1, side * side) become pixels between -1 and 1."""
        embeddings, mask = self.t5.get_text_embeddings([prompt])
        length = int(mask[0].sum())
        embeddings = torch.cat([embeddings[0, length:], embeddings[0, :length]])[None]  # padding goes to the left
        mask = torch.flip(mask, dims=[-1])
        codes = self.generate(self.model, embeddings * mask[:, :, None], self.side**2, mask, **self.arguments)
        pixels = self.codes.decode_code(codes, [1, 8, self.side, self.side])[0]
        pixels = ((pixels.float() + 1) / 2).clamp(0, 1) * 255
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().to(torch.uint8).numpy())
