"""Tiny pipelines of models that were published in 2026, most of them behind Qwen3-VL."""

import torch

from . import tiny_parts as parts
from .tiny_joint_transformers import _flux2_vae


def _qwen3_vl(kind, layers=2, **more):
    import transformers

    text = {
        "vocab_size": parts.VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default"},
        **more,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision["deepstack_visual_indexes"] = [0]
    ids = {"image_token_id": 990, "video_token_id": 991, "vision_start_token_id": 992, "vision_end_token_id": 993}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    return getattr(transformers, kind)(config).eval()


def _qwen_image_vae():
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def Krea2Pipeline():
    from diffusers import Krea2Transformer2DModel

    return {
        "transformer": Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
            rope_theta=1000.0,
        ),
        "text_encoder": _qwen3_vl("Qwen3VLModel"),
        "tokenizer": parts.chat_tokenizer(),
        "vae": _qwen_image_vae(),
        "scheduler": parts.flow_scheduler(use_dynamic_shifting=True, max_image_seq_len=6400),
        "text_encoder_select_layers": (0, 1, 2),
    }


def Ideogram4Pipeline():
    from diffusers import Ideogram4Transformer2DModel

    def transformer():
        return Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=13 * 16,
            mrope_section=(2, 1, 1),
        )

    # Hidden states of 13 layers up to the 36th are joined, so there must be that many.
    return {
        "transformer": transformer(),
        "unconditional_transformer": transformer(),
        "text_encoder": _qwen3_vl("Qwen3VLModel", layers=36),
        "tokenizer": parts.chat_tokenizer(),
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(),
    }


def ErnieImagePipeline():
    from diffusers import ErnieImageTransformer2DModel
    from transformers import Ministral3ForCausalLM, Mistral3Config, Mistral3Model

    text = parts.decoder_config("MistralConfig").to_dict()
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 30,
        "patch_size": 6,
    }
    enhancer = Ministral3ForCausalLM(parts.decoder_config("Ministral3Config")).eval()
    tokenizer = parts.chat_tokenizer()
    tokenizer.model_max_length = 12
    return {
        "transformer": ErnieImageTransformer2DModel(
            hidden_size=32,
            num_attention_heads=2,
            num_layers=1,
            ffn_hidden_size=32,
            in_channels=16,
            out_channels=16,
            text_in_dim=16,
            rope_axes_dim=(8, 4, 4),
        ),
        "text_encoder": Mistral3Model(
            Mistral3Config(text_config=text, vision_config=vision, image_token_index=999)
        ).eval(),
        "tokenizer": parts.chat_tokenizer(),
        "pe": enhancer,
        "pe_tokenizer": tokenizer,
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(shift=3.0),
    }


def QwenImage21Pipeline():
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Transformer2DModel

    return {
        "transformer": QwenImage21Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "text_encoder": _qwen3_vl("Qwen3VLForConditionalGeneration"),
        "processor": parts.qwen_vl_processor("Qwen3VLProcessor"),
        "vae": AutoencoderKLQwenImage21(
            base_dim=8,
            decoder_base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "scheduler": parts.flow_scheduler(use_dynamic_shifting=True),
    }


def NucleusMoEImagePipeline():
    from diffusers import NucleusMoEImageTransformer2DModel

    transformer = NucleusMoEImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        num_experts=4,
        dense_moe_strategy="leave_first_blocks_dense",
        capacity_factors=[1.0, 1.0],
    )
    for parameter in transformer.parameters():  # those of the experts are left uninitialised by the class
        torch.nn.init.normal_(parameter, std=0.1)
    return {
        "transformer": transformer,
        "text_encoder": _qwen3_vl("Qwen3VLForConditionalGeneration", layers=8),
        "processor": parts.qwen_vl_processor("Qwen3VLProcessor"),
        "vae": _qwen_image_vae(),
        "scheduler": parts.flow_scheduler(),
    }


def BriaFibo2Pipeline():
    from diffusers import BriaFibo2Transformer2DModel

    return {
        "transformer": BriaFibo2Transformer2DModel(
            in_channels=4,
            patch_size=2,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            cap_feat_dim=48,
            injection_layer_ids=(0,),
            perceiver_num_layers=1,
            min_num_gist_tokens=4,
            max_num_gist_tokens=8,
            gist_step=4,
            gist_min_text_len=8,
            axes_dims=(8, 4, 4),
            axes_lens=(512, 64, 64),
        ),
        "text_encoder": _qwen3_vl("Qwen3VLForConditionalGeneration", layers=36),
        "processor": parts.qwen_vl_processor("Qwen3VLProcessor"),
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(),
    }
