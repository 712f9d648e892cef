"""Tiny pipelines with a UNet: Stable Diffusion and its upscaler, SDXL, Kolors, Kandinsky 3, IF."""

import torch

from . import tiny_parts as parts


def StableDiffusionPipeline():
    from diffusers import DDIMScheduler

    checker, extractor = parts.safety_checker()
    return {
        "vae": parts.vae(),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "unet": parts.unet(),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        "safety_checker": checker,
        "feature_extractor": extractor,
    }


def StableDiffusionXLPipeline():
    from diffusers import EulerDiscreteScheduler

    return {
        "vae": parts.vae(),
        "text_encoder": parts.clip_text(),
        "text_encoder_2": parts.clip_text(projection=True),
        "tokenizer": parts.clip_tokenizer(),
        "tokenizer_2": parts.clip_tokenizer(),
        "unet": _xl_unet(64, 32),
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading"),
    }


def _xl_unet(cross, pooled, **more):
    return parts.unet(
        cross=cross,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=pooled + 6 * 8,
        **more,
    )


def KolorsPipeline():
    from diffusers import EulerDiscreteScheduler
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    config = ChatGLMConfig(
        num_layers=1,
        padded_vocab_size=VOCABULARY_OF_CHATGLM,
        hidden_size=32,
        ffn_hidden_size=32,
        kv_channels=8,
        num_attention_heads=4,
        seq_length=256,
        multi_query_attention=True,
        multi_query_group_num=2,
        original_rope=True,
    )
    encoder = ChatGLMModel(config).eval()
    for parameter in encoder.parameters():  # left uninitialised by the class
        torch.nn.init.normal_(parameter, std=0.1)
    return {
        "vae": parts.vae(),
        "text_encoder": encoder,
        "tokenizer": _chatglm_tokenizer(),
        "unet": _xl_unet(32, 32),
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    }


VOCABULARY_OF_CHATGLM = 256


def _chatglm_tokenizer():
    import io
    import tempfile
    from pathlib import Path

    import sentencepiece
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([parts.LETTERS, *parts.LETTERS, "a cat on a mat"]),
        model_writer=model,
        vocab_size=len(parts.LETTERS) + 8,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = Path(tempfile.mkdtemp()) / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return ChatGLMTokenizer(str(path))


def Kandinsky3Pipeline():
    from diffusers import DDPMScheduler, Kandinsky3UNet, VQModel

    return {
        "unet": Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=4,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(32, 64),
            cross_attention_dim=4,
            encoder_hid_dim=32,
        ),
        "text_encoder": parts.t5(),
        "tokenizer": parts.t5_tokenizer(),
        "movq": VQModel(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
            up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
            num_vq_embeddings=12,
            vq_embed_dim=4,
            latent_channels=4,
            norm_type="spatial",
        ),
        "scheduler": DDPMScheduler(),
    }


def _if_unet(channels, **more):
    return parts.unet(
        in_channels=channels,
        out_channels=6,
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        cross=32,
        attention_head_dim=4,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        **more,
    )


def _if_stage(unet):
    from diffusers import DDPMScheduler

    return {
        "unet": unet,
        "text_encoder": parts.t5(),
        "tokenizer": parts.t5_tokenizer(),
        "scheduler": DDPMScheduler(variance_type="learned_range", thresholding=True),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }


def IFPipeline():
    return _if_stage(_if_unet(3, sample_size=32))  # smaller, the watermark would have no pixel


def IFSuperResolutionPipeline():
    from diffusers import DDPMScheduler

    unet = _if_unet(6, class_embed_type="timestep", sample_size=32)
    return {**_if_stage(unet), "image_noising_scheduler": DDPMScheduler()}


def StableDiffusionUpscalePipeline():
    from diffusers import DDIMScheduler, DDPMScheduler

    return {
        "vae": parts.vae(levels=3, scaling_factor=0.08333),
        "text_encoder": parts.clip_text(),
        "tokenizer": parts.clip_tokenizer(),
        "unet": parts.unet(in_channels=7, out_channels=4, num_class_embeds=1000),
        "low_res_scheduler": DDPMScheduler(),
        "scheduler": DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        "max_noise_level": 350,
    }
