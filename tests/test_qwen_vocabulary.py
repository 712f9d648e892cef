"""The rebuilt tokenizer is Qwen3-VL's: same ids as the vocabulary's own encoder, same added tokens, same template."""

import lzma
import random
import unicodedata

import pytest

from dyneval.processing import register_task_tokens
from dyneval.qwen_vocabulary import (
    ORDINARY_ADDED_TOKENS,
    SPECIAL_TOKENS,
    VOCABULARY,
    build_tokenizer,
    read_ranks,
    recover_merges,
)
from dyneval.tokens import TASK_TOKEN_IDS

# The pre-tokenizer pattern of Qwen, as its own tokenizer library states it.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Bengali ends before U+09FE: the tokenizers library normalises with Unicode tables older than that combining mark.
SCRIPTS = [
    *[(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F), (0x590, 0x5FF)],
    *[(0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FD), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x10FF)],
    *[(0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2190, 0x22FF), (0x2600, 0x27BF), (0x3040, 0x30FF)],
    *[(0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFE00, 0xFE0F), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF)],
]
SNIPPETS = [
    "a red cat on a mat, 8k, trending on artstation",
    "def f(x):\n    return x ** 2  # square\n",
    "\t\tif (a != b) { }\r\n",
    "It's 3,141.59 — isn't it?",
    '<div class="a">&nbsp;</div>',
    "SELECT * FROM t WHERE id = 10;",
    "   \n\n   \t",
    "e\u0301le\u0300ve",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "こんにちは世界",
    "안녕하세요",
    "ﬁligree Ａｂｃ",
    "x" * 300,
    "٣٤٥ 12345678901234567890",
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def strings(count):
    """Texts that mix scripts, emoji, code and control characters; the same on every run."""
    draw = random.Random(20_26)
    while count:
        parts = []
        for _ in range(draw.randint(1, 6)):
            if draw.random() < 0.4:
                parts.append(draw.choice(SNIPPETS))
            else:
                low, high = draw.choice(SCRIPTS)
                parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 20))))
        yield draw.choice(["", " ", "\n", "\r\n", "  "]).join(parts)
        count -= 1


def test_ids_equal_those_of_tiktoken_on_many_scripts(tokenizer):
    import tiktoken

    reference = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=read_ranks(), special_tokens={})
    for text in [*SNIPPETS, *strings(1000)]:
        assert tokenizer.encode(text) == reference.encode_ordinary(unicodedata.normalize("NFC", text)), repr(text)


def test_text_survives_encoding_and_decoding(tokenizer):
    for text in strings(100):
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_length_and_added_tokens(tokenizer):
    assert len(tokenizer) == 151_669
    added = tokenizer.added_tokens_decoder
    assert [added[i].content for i in range(151_643, 151_669)] == [*SPECIAL_TOKENS, *ORDINARY_ADDED_TOKENS]
    assert sorted(added) == list(range(151_643, 151_669))
    assert [added[i].special for i in sorted(added)] == [True] * 14 + [False] * 12
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (151_645, 151_643, None)


def test_task_tokens_get_the_published_ids_and_existing_special_tokens_stay(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == 151_669
    register_task_tokens(loaded)
    register_task_tokens(loaded)  # a checkpoint of ours has them already
    assert len(loaded) == 151_672
    assert loaded.encode("".join(TASK_TOKEN_IDS)) == list(TASK_TOKEN_IDS.values())
    assert set(SPECIAL_TOKENS) | set(TASK_TOKEN_IDS) == set(loaded.all_special_tokens)
    assert loaded.decode(loaded.encode("<|im_start|>a<|IQA|>"), skip_special_tokens=True) == "a"


def test_task_tokens_with_other_ids_are_refused(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    loaded.add_tokens(["<|mine|>"])
    with pytest.raises(ValueError, match=r"151669.*151,669 tokens before they are added, this one had 151670"):
        register_task_tokens(loaded)


def test_chat_template_renders_like_qwen3_vl(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": [{"type": "image", "image": "x"}, {"type": "text", "text": " What is\nit? "}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat.\n"}]},
        {"role": "user", "content": "Sure?"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief. <|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|> What is\nit? <|im_end|>\n"
        "<|im_start|>assistant\nA cat.\n<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    two = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "?"}]}]
    assert "Picture 2: <|vision_start|>" in tokenizer.apply_chat_template(two, tokenize=False, add_vision_id=True)


def test_every_merge_joins_two_earlier_tokens():
    ranks = read_ranks()
    merges = recover_merges(ranks)
    assert len(merges) == 151_643 - 256
    assert all(max(ranks[left], ranks[right]) < ranks[left + right] for left, right in merges)


def test_a_damaged_vocabulary_is_refused(tmp_path):
    damaged = tmp_path / "qwen.tiktoken.xz"
    lines = lzma.decompress(VOCABULARY.read_bytes()).splitlines(keepends=True)
    damaged.write_bytes(lzma.compress(b"".join(lines[:1000])))
    with pytest.raises(ValueError, match=r"qwen\.tiktoken\.xz: expected the ranks 0 to 151642, found 1000 tokens"):
        read_ranks(damaged)
