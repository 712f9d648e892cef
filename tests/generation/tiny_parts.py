"""Random parts of a few kilobytes from which tests build real pipelines: tokenizers, text encoders, autoencoders."""

import string

LETTERS = string.ascii_letters + string.digits + string.punctuation
VOCABULARY = 1000
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _numbered(*pieces):
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _byte_letters():
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


def clip_tokenizer():
    from transformers import CLIPTokenizer

    letters = _byte_letters()
    vocab = _numbered("<|pad|>", *letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>")
    return CLIPTokenizer(vocab=vocab, merges=[], pad_token="<|endoftext|>", model_max_length=77)


def t5_tokenizer():
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def bert_tokenizer():
    from transformers import BertTokenizer

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    pieces = (*special, *LETTERS, *(f"##{letter}" for letter in LETTERS))
    return BertTokenizer(vocab=_numbered(*pieces), model_max_length=77)


def chat_tokenizer(*special, **named):
    """A byte-level tokenizer in the manner of Qwen, with a chat template; `named` are its model's special tokens."""
    from transformers import Qwen2Tokenizer

    vocab = _numbered("<|endoftext|>", *_byte_letters())
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], model_max_length=2048, model_specific_special_tokens=named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *special]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def gemma_tokenizer():
    from transformers import GemmaTokenizer

    return GemmaTokenizer(vocab=_numbered("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS), merges=[])


def llama_tokenizer(*special):
    from transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer(vocab=_numbered("<unk>", "<s>", "</s>", "▁", *LETTERS), merges=[], pad_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def clip_text(projection=False, hidden=32, positions=77):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=hidden,
        max_position_embeddings=positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5(hidden=32):
    from transformers import T5Config, T5EncoderModel

    size = {"d_model": hidden, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=VOCABULARY, feed_forward_proj="gated-gelu", **size)
    return T5EncoderModel(config).eval()


def decoder_config(kind, layers=2, hidden=16, vocabulary=VOCABULARY, **more):
    """Configuration of a small decoder-only language model of class `kind`."""
    import transformers

    return getattr(transformers, kind)(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=hidden // 2,
        max_position_embeddings=4096,
        **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **more},
    )


def qwen_vl():
    """A Qwen2.5-VL that reads `chat_tokenizer`."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    ids = {"image_token_id": 990, "video_token_id": 991, "vision_start_token_id": 992, "vision_end_token_id": 993}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)).eval()
    # Any letter may end a text, or a random model would go on to the longest that is allowed.
    model.generation_config.eos_token_id = list(range(0, VOCABULARY, 8))
    return model


def vae(latents=4, levels=2, **more):
    """An autoencoder that makes an image 2 ** (levels - 1) times as large as its latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[8] * levels,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=4,
        sample_size=32,
        **more,
    ).eval()


def flow_scheduler(**more):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**more)


def unet(cross=32, **more):
    from diffusers import UNet2DConditionModel

    settings = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "sample_size": 16,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": cross,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**{**settings, **more}).eval()


def safety_checker():
    """A real checker; random weights flag nothing, since no concept is as near as the thresholds set here."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessorPil

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 30,
        "patch_size": 15,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(2)
        checker.special_care_embeds_weights.fill_(2)
    return checker.eval(), CLIPImageProcessorPil(size=30, crop_size=30)


def if_safety_checker(flags=False):
    """IF's checker, with random weights; its verdict is set."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil

    from dyneval.generation.families.diffusers import _if_safety_checker

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 30,
        "patch_size": 15,
        "projection_dim": 16,
    }
    checker = _if_safety_checker()(CLIPConfig(vision_config=vision, projection_dim=16)).eval()
    with torch.no_grad():
        for head in (checker.p_head, checker.w_head):
            head.weight.zero_()
            head.bias.fill_(-1)
        checker.p_head.bias.fill_(1 if flags else -1)
    return checker, CLIPImageProcessorPil(size=30, crop_size=30)


def has_torchvision():
    from importlib.util import find_spec

    return find_spec("torchvision") is not None


def qwen_vl_processor(kind="Qwen2VLProcessor"):
    """The processor of the published repos: it needs torchvision, for its video part."""
    import transformers

    tokenizer = chat_tokenizer(image_token="<|image_pad|>", video_token="<|video_pad|>")
    images = transformers.Qwen2VLImageProcessorPil()
    videos = getattr(transformers, kind.replace("Processor", "VideoProcessor"))()
    return getattr(transformers, kind)(images, tokenizer, videos, chat_template=TEMPLATE)
