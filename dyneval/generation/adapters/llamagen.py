"""Adapter of LlamaGen: https://github.com/FoundationVision/LlamaGen, in its own environment."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image


class Adapter:
    """A language model over the codes of a VQ autoencoder, conditioned on T5."""

    def __init__(self, job: Any) -> None:
        from autoregressive.models.generate import generate
        from autoregressive.models.gpt import GPT_models
        from language.t5 import T5Embedder
        from tokenizer.tokenizer_image.vq_model import VQ_models

        torch.set_grad_enabled(False)
        self.arguments, folder = dict(job.arguments), job.weights(job.repo)
        self.side = self.arguments.pop("image_size") // 16
        self.codes = VQ_models["VQ-16"](codebook_size=16384, codebook_embed_dim=8).to(job.device).eval()
        self.codes.load_state_dict(_read(folder / "vq_ds16_t2i.pt")["model"])
        model = GPT_models["GPT-XL"](block_size=self.side**2, cls_token_num=120, model_type="t2i")
        checkpoint = _read(folder / self.arguments.pop("checkpoint"))
        model.load_state_dict(next(checkpoint[key] for key in ("model", "module", "state_dict") if key in checkpoint))
        self.model = model.to(job.device, torch.bfloat16).eval()
        self.t5 = T5Embedder(
            device=job.device,
            local_cache=True,
            cache_dir=str(job.weights(job.parts["t5"]).parent),
            dir_or_name=job.weights(job.parts["t5"]).name,
            torch_dtype=torch.bfloat16,
            model_max_length=120,
        )
        self.generate = generate

    def draw(self, prompt: str, seed: int) -> Image.Image:
        """One image."""
        embeddings, mask = self.t5.get_text_embeddings([prompt])
        length = int(mask[0].sum())
        embeddings = torch.cat([embeddings[0, length:], embeddings[0, :length]])[None]  # padding goes to the left
        mask = torch.flip(mask, dims=[-1])
        codes = self.generate(self.model, embeddings * mask[:, :, None], self.side**2, mask, **self.arguments)
        pixels = self.codes.decode_code(codes, [1, 8, self.side, self.side])[0]
        pixels = ((pixels.float() + 1) / 2).clamp(0, 1) * 255
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().to(torch.uint8).numpy())


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
