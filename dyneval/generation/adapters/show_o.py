"""Adapter of Show-o: https://github.com/showlab/Show-o, in its own environment.

It follows the authors' inference_t2i.py at commit 45a5a2d. Everything but sampling (size, vocabulary, length of the
prompt) stands in a configuration of their repository, whose name the table gives.
"""

from typing import Any

import torch
from PIL import Image

# The order gives the tokens their ids, so it must be that of training.
SPECIAL = ("<|soi|>", "<|eoi|>", "<|sov|>", "<|eov|>", "<|t2i|>", "<|mmu|>", "<|t2v|>", "<|v2v|>", "<|lvg|>")


class Adapter:
    """Discrete diffusion: image tokens start masked and are filled in step by step."""

    def __init__(self, job: Any) -> None:
        from models import MAGVITv2, Showo, get_mask_chedule
        from omegaconf import OmegaConf
        from training.prompting_utils import UniversalPrompting, create_attention_mask_predict_next
        from transformers import AutoTokenizer

        self.arguments = dict(job.arguments)
        self.config = OmegaConf.load(job.code / "configs" / self.arguments.pop("config"))
        llm = job.weights(job.parts["llm"], only=["*.json", "*.txt"])  # its weights are part of Show-o's
        tokenizer = AutoTokenizer.from_pretrained(llm, padding_side="left")
        self.prompting = UniversalPrompting(
            tokenizer,
            max_text_len=self.config.dataset.preprocessing.max_seq_length,
            special_tokens=SPECIAL,
            ignore_id=-100,
            cond_dropout_prob=0.0,
        )
        self.device = job.device
        model = Showo.from_pretrained(job.weights(job.repo), llm_model_path=str(llm))
        self.model = model.to(self.device).eval()
        self.tokens = MAGVITv2.from_pretrained(job.weights(job.parts["tokens"])).to(self.device).eval()
        self.schedule = get_mask_chedule("cosine")
        self.mask = create_attention_mask_predict_next

    @torch.no_grad()
    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image: all tokens start masked, those that the model is surest of are kept in each step."""
        size = self.config.model.showo
        blank = torch.full((1, size.num_vq_tokens), self.model.config.mask_token_id, device=self.device)
        ids, _ = self.prompting(([prompt], blank), "t2i_gen")
        empty, _ = self.prompting(([""], blank), "t2i_gen")
        names = {"pad_id": "<|pad|>", "soi_id": "<|soi|>", "eoi_id": "<|eoi|>"}
        special = {name: int(self.prompting.sptids_dict[token]) for name, token in names.items()}
        found = self.model.t2i_generate(
            input_ids=ids,
            uncond_input_ids=empty,
            attention_mask=self.mask(torch.cat([ids, empty]), rm_pad_in_image=True, **special),
            noise_schedule=self.schedule,
            noise_type="mask",
            seq_len=size.num_vq_tokens,
            uni_prompting=self.prompting,
            config=self.config,
            **self.arguments,
        )
        # The model may write ids of its whole vocabulary; the decoder has a table of the image's alone.
        pixels = self.tokens.decode_code(found.clamp(0, size.codebook_size - 1))[0]
        pixels = ((pixels + 1) / 2).clamp(0, 1) * 255
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().to(torch.uint8).numpy())
