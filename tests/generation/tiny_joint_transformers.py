"""Tiny pipelines whose transformer attends to text and image together: SD 3, FLUX and its kin, HiDream, Qwen-Image."""

from . import tiny_parts as parts


def StableDiffusion3Pipeline():
    from diffusers import SD3Transformer2DModel

    return {
        "transformer": SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
        ),
        "text_encoder": parts.clip_text(projection=True),
        "text_encoder_2": parts.clip_text(projection=True),
        "text_encoder_3": parts.t5(64),
        "tokenizer": parts.clip_tokenizer(),
        "tokenizer_2": parts.clip_tokenizer(),
        "tokenizer_3": parts.t5_tokenizer(),
        "vae": parts.vae(shift_factor=0.1),
        "scheduler": parts.flow_scheduler(),
    }


def FluxPipeline():
    from diffusers import FluxTransformer2DModel

    return {
        "transformer": FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=True,
        ),
        "text_encoder": parts.clip_text(),
        "text_encoder_2": parts.t5(),
        "tokenizer": parts.clip_tokenizer(),
        "tokenizer_2": parts.t5_tokenizer(),
        "vae": parts.vae(shift_factor=0.1),
        "scheduler": parts.flow_scheduler(),
    }


def _flux2_transformer(joint, guidance):
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=joint,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guidance,
    )


def _flux2_vae():
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )


def Flux2KleinPipeline():
    from transformers import Qwen3ForCausalLM

    # The prompt embedding joins the layers 9, 18 and 27, so there must be that many.
    return {
        "transformer": _flux2_transformer(3 * 16, guidance=False),
        "text_encoder": Qwen3ForCausalLM(parts.decoder_config("Qwen3Config", layers=28)).eval(),
        "tokenizer": parts.chat_tokenizer(),
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(),
        "is_distilled": True,
    }


def Flux2Pipeline():
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    text = parts.decoder_config("MistralConfig", layers=31).to_dict()
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 30,
        "patch_size": 6,
    }
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=999)
    return {
        "transformer": _flux2_transformer(3 * 16, guidance=True),
        "text_encoder": Mistral3ForConditionalGeneration(config).eval(),
        "tokenizer": _pixtral_processor() if parts.has_torchvision() else parts.chat_tokenizer(),
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(),
    }


def _pixtral_processor():
    from transformers import PixtralImageProcessorPil, PixtralProcessor

    tokenizer = parts.chat_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    return PixtralProcessor(PixtralImageProcessorPil(), tokenizer, chat_template=parts.TEMPLATE)


def BriaFiboPipeline():
    from diffusers import AutoencoderKLWan
    from diffusers.models.transformers.transformer_bria_fibo import BriaFiboTransformer2DModel
    from transformers import SmolLM3ForCausalLM

    return {
        "transformer": BriaFiboTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            text_encoder_dim=16,
            pooled_projection_dim=None,
            axes_dims_rope=[0, 4, 4],
        ),
        # The id of an empty prompt, 128000, is written into the pipeline.
        "text_encoder": SmolLM3ForCausalLM(parts.decoder_config("SmolLM3Config", vocabulary=128_010)).eval(),
        "tokenizer": parts.chat_tokenizer(),
        "vae": AutoencoderKLWan(
            base_dim=8,
            decoder_base_dim=8,
            num_res_blocks=1,
            dim_mult=[1, 1, 1, 1],
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
            scale_factor_temporal=4,
            temperal_downsample=[False, True, True],
            z_dim=16,
        ),
        "scheduler": parts.flow_scheduler(),
    }


def LongCatImagePipeline():
    from diffusers import LongCatImageTransformer2DModel

    return {
        "transformer": LongCatImageTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
        "text_encoder": parts.qwen_vl(),
        "tokenizer": parts.chat_tokenizer(),
        # Without torchvision in the place of a Qwen2VLProcessor; for text it does what its tokenizer does.
        "text_processor": parts.qwen_vl_processor() if parts.has_torchvision() else parts.chat_tokenizer(),
        "vae": parts.vae(16, shift_factor=0.1),
        "scheduler": parts.flow_scheduler(use_dynamic_shifting=True),
    }


def HiDreamImagePipeline():
    from diffusers import HiDreamImageTransformer2DModel

    return {
        "transformer": HiDreamImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=[32, 16],
            text_emb_dim=64,
            num_routed_experts=4,
            num_activated_experts=2,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(32, 32),
            llama_layers=(0, 1),
        ),
        "text_encoder": parts.clip_text(projection=True, positions=128),
        "text_encoder_2": parts.clip_text(projection=True, positions=128),
        "text_encoder_3": parts.t5(32),
        "text_encoder_4": None,
        "tokenizer": parts.clip_tokenizer(),
        "tokenizer_2": parts.clip_tokenizer(),
        "tokenizer_3": parts.t5_tokenizer(),
        "tokenizer_4": None,
        "vae": parts.vae(shift_factor=0.1),
        "scheduler": parts.flow_scheduler(),
    }


def QwenImagePipeline():
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    return {
        "transformer": QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "text_encoder": parts.qwen_vl(),
        "tokenizer": parts.chat_tokenizer(),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "scheduler": parts.flow_scheduler(),
    }
