"""Every diffusers pipeline class of the 36 models, as small as its code allows, with random weights.

`save(name, folder)` writes one in the layout of a repo, so that `from_pretrained` reads it like the real one.
"""

import functools

import torch

from . import tiny_parts as parts

BUILDERS = {}


def tiny(build):
    BUILDERS[build.__name__] = build
    return build


@functools.cache
def save(name, folder, variant=None):
    """Build pipeline class `name`, save it below `folder` once, and return where."""
    import diffusers

    torch.manual_seed(0)
    path = folder / name
    getattr(diffusers, name)(**BUILDERS[name]()).save_pretrained(path, variant=variant)
    return path


@tiny
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


@tiny
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


@tiny
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


@tiny
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


@tiny
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


@tiny
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


@tiny
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
        "tokenizer": parts.chat_tokenizer(),
        "vae": _flux2_vae(),
        "scheduler": parts.flow_scheduler(),
    }


@tiny
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


@tiny
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
        # In the place of a Qwen2VLProcessor, which needs torchvision; for text it does what its tokenizer does.
        "text_processor": parts.chat_tokenizer(),
        "vae": parts.vae(16, shift_factor=0.1),
        "scheduler": parts.flow_scheduler(use_dynamic_shifting=True),
    }


@tiny
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


@tiny
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


@tiny
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


@tiny
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


@tiny
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


@tiny
def HunyuanDiTPipeline():
    from diffusers import DDPMScheduler, HunyuanDiT2DModel
    from transformers import BertConfig, BertModel

    bert = BertConfig(
        vocab_size=VOCABULARY_OF_CHATGLM,
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


@tiny
def PixArtAlphaPipeline():
    return _pixart()


@tiny
def PixArtSigmaPipeline():
    return _pixart()


@tiny
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


@tiny
def IFPipeline():
    return _if_stage(_if_unet(3))


@tiny
def IFSuperResolutionPipeline():
    from diffusers import DDPMScheduler

    unet = _if_unet(6, class_embed_type="timestep", sample_size=32)
    return {**_if_stage(unet), "image_noising_scheduler": DDPMScheduler()}


@tiny
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


@tiny
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


@functools.cache
def save_llama(folder):
    """The fourth text encoder of HiDream, a repo of its own."""
    from transformers import LlamaForCausalLM

    path = folder / "llama"
    LlamaForCausalLM(parts.decoder_config("LlamaConfig")).save_pretrained(path)
    tokenizer = parts.chat_tokenizer()
    tokenizer.save_pretrained(path)
    return path


@functools.cache
def save_lora(folder):
    """A repo of two LoRA files for the tiny FLUX."""
    from diffusers import FluxPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    path = folder / "lora"
    for name in ("couple-profile", "film-storyboard"):
        pipeline = FluxPipeline.from_pretrained(save("FluxPipeline", folder))
        pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
        layers = get_peft_model_state_dict(pipeline.transformer)
        FluxPipeline.save_lora_weights(path, transformer_lora_layers=layers, weight_name=f"{name}.safetensors")
    return path


JSON_WRITER = """
import json
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam


class Writer(ModularPipelineBlocks):
    @property
    def inputs(self):
        return [InputParam("prompt")]

    @property
    def intermediate_outputs(self):
        return [OutputParam("json_prompt", type_hint=str)]

    def __call__(self, components, state):
        block_state = self.get_block_state(state)
        block_state.json_prompt = json.dumps({"short_description": block_state.prompt})
        self.set_block_state(state, block_state)
        return components, state
"""


@functools.cache
def save_json_writer(folder):
    """A repo whose code turns a prompt into JSON, as FIBO's does with a language model."""
    import json

    path = folder / "json_writer"
    path.mkdir()
    (path / "writer.py").write_text(JSON_WRITER)
    config = {"_class_name": "Writer", "auto_map": {"ModularPipelineBlocks": "writer.Writer"}}
    (path / "modular_config.json").write_text(json.dumps(config))
    index = {"_class_name": "ModularPipeline", "_blocks_class_name": "Writer"}
    (path / "modular_model_index.json").write_text(json.dumps(index))
    return path
