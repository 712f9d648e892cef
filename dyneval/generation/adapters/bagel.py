"""Adapter of Bagel: https://github.com/ByteDance-Seed/Bagel, in its own environment.

It assembles the model as the authors' app.py does and calls their InterleaveInferencer. It was run with the code of
commit 056b5fd and tiny weights.
"""

from typing import Any

import torch
from PIL import Image


class Adapter:
    """One transformer that reads text and writes image latents; `inferencer` is the authors' entry."""

    def __init__(self, job: Any) -> None:
        from accelerate import init_empty_weights, load_checkpoint_and_dispatch
        from data.data_utils import add_special_tokens
        from data.transforms import ImageTransform
        from inferencer import InterleaveInferencer
        from modeling.autoencoder import load_ae
        from modeling.bagel import (
            Bagel,
            BagelConfig,
            Qwen2Config,
            Qwen2ForCausalLM,
            SiglipVisionConfig,
            SiglipVisionModel,
        )
        from modeling.qwen2 import Qwen2Tokenizer

        folder = job.weights(job.repo)
        # The authors' app.py changes these values of the published configurations, too.
        text = Qwen2Config.from_json_file(str(folder / "llm_config.json"))
        text.qk_norm, text.tie_word_embeddings, text.layer_module = True, False, "Qwen2MoTDecoderLayer"
        vision = SiglipVisionConfig.from_json_file(str(folder / "vit_config.json"))
        vision.rope, vision.num_hidden_layers = False, vision.num_hidden_layers - 1
        autoencoder, autoencoder_config = load_ae(local_path=str(folder / "ae.safetensors"))
        decode, kind = autoencoder.to(job.device).decode, next(autoencoder.parameters()).dtype
        # The authors draw the first noise on the CPU and leave latents and autoencoder there, where decoding is slow.
        # Here the autoencoder is on the device, and the latents are brought to it.
        autoencoder.decode = lambda latent: decode(latent.to(job.device, kind))
        config = BagelConfig(
            visual_gen=True,
            visual_und=True,
            llm_config=text,
            vit_config=vision,
            vae_config=autoencoder_config,
            vit_max_num_patch_per_side=70,
            connector_act="gelu_pytorch_tanh",
            latent_patch_size=2,
            max_latent_size=64,
        )
        # Empty first: the weights are then loaded straight onto the device, and never twice in memory.
        with init_empty_weights():
            model = Bagel(Qwen2ForCausalLM(text), SiglipVisionModel(vision), config)
            model.vit_model.vision_model.embeddings.convert_conv2d_to_linear(vision, meta=True)
        model = load_checkpoint_and_dispatch(
            model,
            checkpoint=str(folder / "ema.safetensors"),
            device_map={"": job.device},
            dtype=torch.bfloat16,
            force_hooks=True,
        )
        tokenizer, new_token_ids, _ = add_special_tokens(Qwen2Tokenizer.from_pretrained(str(folder)))
        self.arguments = dict(job.arguments)
        # One side in the table, as for other models; the inferencer takes height and width.
        size = self.arguments.pop("image_size")
        self.arguments["image_shapes"] = (size, size)
        self.inferencer = InterleaveInferencer(
            model=model.eval(),
            vae_model=autoencoder,
            tokenizer=tokenizer,
            vae_transform=ImageTransform(1024, 512, 16),
            vit_transform=ImageTransform(980, 224, 14),
            new_token_ids=new_token_ids,
        )

    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image; the worker has seeded torch, from which the inferencer takes its noise."""
        return self.inferencer(text=prompt, **self.arguments)["image"]
