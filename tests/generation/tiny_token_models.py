"""Janus and Emu3 of a few kilobytes, saved in the layout of their repos."""

import functools

import torch

from . import tiny_parts as parts

SIDE = 4
"""Rows and columns of image tokens."""


def _llama(**more):
    config = parts.decoder_config("LlamaConfig", **more).to_dict()
    return {key: value for key, value in config.items() if key not in ("architectures", "transformers_version")}


@functools.cache
def save_janus(folder):
    from transformers import (
        GenerationConfig,
        JanusConfig,
        JanusForConditionalGeneration,
        JanusImageProcessorPil,
        JanusProcessor,
    )

    torch.manual_seed(0)
    tokenizer = parts.chat_tokenizer(
        image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>", bos_token="<bos>"
    )
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        "num_image_tokens": SIDE * SIDE,
        "projection_dim": 16,
        "mlp_ratio": 1.0,
    }
    vq = {
        "embed_dim": 4,
        "num_embeddings": 32,
        "latent_channels": 4,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "num_patches": SIDE,
        "projection_dim": 16,
        "image_token_embed_dim": 16,
    }
    config = JanusConfig(
        text_config=_llama(), vision_config=vision, vq_config=vq, image_token_id=tokenizer.image_token_id
    )
    model = JanusForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=0,
        do_sample=True,
        generation_kwargs={"boi_token_id": tokenizer.boi_token_id},
    )
    path = folder / "janus"
    model.save_pretrained(path)
    processor = JanusProcessor(
        JanusImageProcessorPil(), tokenizer, chat_template=parts.TEMPLATE, num_image_tokens=SIDE * SIDE
    )
    processor.save_pretrained(path)
    return path


@functools.cache
def save_emu3(folder):
    from transformers import Emu3Config, Emu3ForConditionalGeneration, Emu3ImageProcessor, Emu3Processor

    torch.manual_seed(0)
    visual = [f"<|visual token {number:06d}|>" for number in range(32)]
    tokenizer = parts.chat_tokenizer(
        *visual,
        "<|extra_200|>",
        image_token="<image>",
        boi_token="<|image start|>",
        eoi_token="<|image end|>",
        image_wrapper_token="<|image token|>",
        eof_token="<|extra_201|>",
        bos_token="<|extra_203|>",
    )
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (*visual, "<|extra_200|>", "<image>")}
    vq = {
        "codebook_size": 32,
        "embed_dim": 4,
        "latent_channels": 4,
        "base_channels": 32,
        "channel_multiplier": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "hidden_size": 32,
        "attn_resolutions": [],
        "temporal_downsample_factor": 2,
    }
    config = Emu3Config(vq_config=vq, text_config=_llama(), vocabulary_map=ids)
    path = folder / "emu3"
    Emu3ForConditionalGeneration(config).eval().save_pretrained(path)
    Emu3Processor(Emu3ImageProcessor(), tokenizer, chat_template=parts.TEMPLATE).save_pretrained(path)
    return path
