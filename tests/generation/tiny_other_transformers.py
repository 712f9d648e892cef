"""Tiny pipelines with other transformers: Z-Image, Sana, OmniGen, Hunyuan-DiT, PixArt, GLM-Image."""

import torch

from . import tiny_parts as parts


def ZImagePipeline():
    from diffusers import ZImageTransformer2DModel
    from transformers import Qwen3Model

    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    with torch.no_grad():  # left uninitialised by the class
        transformer.x_pad_token.fill_(1)
        transformer.cap_pad_token.fill_(1)
    return {
        "transformer": transformer,
        "text_encoder": Qwen3Model(parts.decoder_config("Qwen3Config")).eval(),
        "tokenizer": parts.chat_tokenizer(),
        "vae": parts.vae(16, shift_factor=0.1),
        "scheduler": parts.flow_scheduler(),
    }


def SanaPipeline():
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaTransformer2DModel
    from transformers import Gemma2Model

    return {
        "transformer": SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=32,
        ),
        "text_encoder": Gemma2Model(parts.decoder_config("Gemma2Config", query_pre_attn_scalar=8)).eval(),
        "tokenizer": parts.gemma_tokenizer(),
        "vae": AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=[1, 1],
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        ),
        "scheduler": DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    }


def OmniGenPipeline():
    from diffusers import OmniGenTransformer2DModel

    return {
        "transformer": OmniGenTransformer2DModel(
            hidden_size=16,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=32,
            num_layers=1,
            in_channels=4,
            time_step_dim=4,
            rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]},
        ),
        "tokenizer": parts.llama_tokenizer("<|user|>", "<|assistant|>", "<|end|>", "<|diffusion|>", "<img>"),
        "vae": parts.vae(levels=4),
        "scheduler": parts.flow_scheduler(invert_sigmas=True, num_train_timesteps=1),
    }


def HunyuanDiTPipeline():
    from diffusers import DDPMScheduler, HunyuanDiT2DModel
    from transformers import BertConfig, BertModel

    bert = BertConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
    )
    return {
        "transformer": HunyuanDiT2DModel(
            in_channels=4,
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            cross_attention_dim=32,
            cross_attention_dim_t5=32,
            pooled_projection_dim=4,
            hidden_size=24,
            activation_fn="gelu-approximate",
        ),
        "text_encoder": BertModel(bert).eval(),
        "tokenizer": parts.bert_tokenizer(),
        "text_encoder_2": parts.t5(),
        "tokenizer_2": parts.t5_tokenizer(),
        "vae": parts.vae(levels=4),
        "scheduler": DDPMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _pixart():
    from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

    return {
        "transformer": PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        ),
        "text_encoder": parts.t5(),
        "tokenizer": parts.t5_tokenizer(),
        "vae": parts.vae(levels=4),
        "scheduler": DPMSolverMultistepScheduler(),
    }


def PixArtAlphaPipeline():
    return _pixart()


def PixArtSigmaPipeline():
    return _pixart()


def GlmImagePipeline():
    from diffusers import GlmImageTransformer2DModel
    from transformers import ByT5Tokenizer, GlmImageConfig, GlmImageForConditionalGeneration

    config = GlmImageConfig(
        text_config={
            "vocab_size": 1200,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "vision_vocab_size": 128,
            "pad_token_id": 0,
            "eos_token_id": 1150,  # beyond the image tokens, so that sampling never ends early
            "rope_parameters": {"mrope_section": (4, 2, 2), "rope_type": "default"},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "num_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "intermediate_size": 32,
        },
        vq_config={"embed_dim": 32, "num_embeddings": 128, "latent_channels": 32},
    )
    return {
        "tokenizer": ByT5Tokenizer(),
        "processor": _glm_processor(),
        "text_encoder": parts.t5(),
        "vision_language_encoder": GlmImageForConditionalGeneration(config).eval(),
        "vae": parts.vae(levels=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        "transformer": GlmImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            text_embed_dim=32,
            time_embed_dim=16,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=128,
        ),
        "scheduler": parts.flow_scheduler(),
    }


def _glm_processor():
    from transformers import GlmImageImageProcessorPil, GlmImageProcessor

    tokenizer = parts.chat_tokenizer(
        image_token="<|image|>", grid_bos_token="<sop>", grid_eos_token="<eop>", bos_token="<|dit_token_16384|>"
    )
    return GlmImageProcessor(GlmImageImageProcessorPil(), tokenizer, chat_template=parts.TEMPLATE)
