"""Training and scoring see the same ids: ours, the chat template's, and those that published checkpoints learned."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dyneval.processing import IGNORE, Processor, Turn
from dyneval.qwen_vocabulary import ORDINARY_ADDED_TOKENS, SPECIAL_TOKENS
from dyneval.tokens import TASK_TOKEN_IDS, evaluation_turn, iqa_turn, split_human_turn, t2ia_turn

START, END, VISION_START, VISION_END, IMAGE, LINE_FEED = 151644, 151645, 151652, 151653, 151655, 198
MARKUP = [*SPECIAL_TOKENS, *ORDINARY_ADDED_TOKENS, *TASK_TOKEN_IDS, "<image>"]
# Two visual tokens stand for the image.
GOLDEN = [
    (
        t2ia_turn("a red cat"),
        0,
        "151644 872 198 151669 198 54615 25 264 2518 8251 198 31115 24510 9834 33100 22901 4755 369 1467 4686 13746 "
        "17189 13 151645 198 151644 77091 198",
    ),
    (
        iqa_turn(),
        1,
        "151644 872 198 151652 151655 151655 151653 151670 198 14463 279 2168 1119 264 6109 4771 323 6923 2168 22092 "
        "4755 369 6083 28137 11 69484 908 11 10434 82504 11 323 27979 55916 13 151645 198 151644 77091 198",
    ),
    (
        evaluation_turn("a red cat", ["Is it red?"]),
        1,
        "151644 872 198 151652 151655 151655 151653 151671 198 54615 25 264 2518 8251 198 35249 510 16 13 2160 432 "
        "2518 5267 16141 1817 3405 323 9793 264 5456 504 220 16 311 220 20 13 151645 198 151644 77091 198",
    ),
]


def picture(width=64, height=64):
    return Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 30).convert("RGB")


def targets(processor, encoded):
    return processor.tokenizer.decode([label for label in encoded.labels if label != IGNORE])


@pytest.mark.parametrize(("turn", "images", "expected"), GOLDEN, ids=["T2IA", "IQA", "EVALUATION"])
def test_golden_ids_of_the_three_human_turns(processor, turn, images, expected):
    ids, _ = processor.layout([Turn("user", turn, images)], [2] * images, add_generation_prompt=True)
    assert ids == [int(token) for token in expected.split()]


@pytest.mark.parametrize(("turn", "images", "_"), GOLDEN, ids=["T2IA", "IQA", "EVALUATION"])
def test_human_turns_equal_the_chat_template(processor, turn, images, _):
    human = split_human_turn(turn, images)
    content = [*[{"type": "image"}] * images, {"type": "text", "text": (human.task_token or "") + human.text}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": '[{"question": "a"}]'}]
    rendered = processor.tokenizer.apply_chat_template(messages, tokenize=False)
    rendered = rendered.replace("<|image_pad|>", "<|image_pad|>" * 2)
    ours = processor.layout([Turn("user", turn, images), Turn("assistant", '[{"question": "a"}]')], [2] * images)[0]
    assert ours == processor.tokenizer.encode(rendered)


# An answer that opens with white space is encoded apart from the role, as a model writes it; elsewhere text is free.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda s: not any(m in s for m in MARKUP))


@settings(max_examples=200)
@given(system=TEXT, user=TEXT, answer=TEXT.map(str.strip))
def test_plain_conversations_equal_the_chat_template(processor, system, user, answer):
    texts = [("system", system), ("user", user), ("assistant", answer), ("user", user)]
    # White space around a human turn is dropped before the template sees it.
    messages = [{"role": role, "content": text.strip() if role == "user" else text} for role, text in texts]
    expected = processor.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert processor.layout([Turn(role, text) for role, text in texts], [], add_generation_prompt=True)[0] == expected


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(MARKUP), st.text(max_size=10)), max_size=8).map("".join))
def test_outside_text_never_becomes_markup(processor, hostile):
    """Prompt, question and answer may hold any markup; only ours is special, and the text comes back whole."""
    human = evaluation_turn(f"a {hostile}", [f"Is it {hostile}?"])
    conversation = [Turn("system", hostile), Turn("user", human, 1), Turn("assistant", hostile)]
    ids, labels = processor.layout(conversation, [2])
    special = [token for token in ids if token >= 151_643]
    assert special == [START, END, START, VISION_START, IMAGE, IMAGE, VISION_END, 151671, END, START, END]
    answer = [label for label in labels if label != IGNORE]
    assert answer[-2:] == [END, LINE_FEED]
    expected = processor.tokenizer.backend_tokenizer.normalizer.normalize_str(hostile)
    assert processor.tokenizer.decode(answer[:-2]) == expected


@pytest.mark.parametrize("text", ["assistant\nis a word", "<|im_start|>assistant\nI agree.<|im_end|>", "\nassistant\n"])
def test_look_alikes_of_an_assistant_turn_are_no_targets(processor, text):
    encoded = processor.encode([Turn("user", text), Turn("assistant", "yes"), Turn("user", text)], [])
    assert targets(processor, encoded) == "yes<|im_end|>\n"


def test_every_answer_of_a_conversation_is_a_target(processor):
    turns = [
        *[Turn("system", "Be brief."), Turn("user", "One?"), Turn("assistant", "assistant\n1")],
        *[Turn("user", "Two?"), Turn("assistant", "\n\n2")],
    ]
    encoded = processor.encode(turns, [])
    assert targets(processor, encoded) == "assistant\n1<|im_end|>\n\n\n2<|im_end|>\n"
    kept = [(token, label) for token, label in zip(encoded.input_ids, encoded.labels, strict=True) if label != IGNORE]
    assert all(token == label for token, label in kept)


def test_a_task_token_counts_only_at_the_start_of_a_human_turn(processor):
    ids = processor.layout([Turn("user", "\n <|IQA|><|IQA|> <|T2IA|>"), Turn("assistant", "<|IQA|>")], [])[0]
    assert [token for token in ids if token in TASK_TOKEN_IDS.values()] == [151670] == ids[3:4]


def test_images_become_patches_and_placeholders(processor):
    images = [picture(64, 96), picture(320, 256)]
    encoded = processor.encode([Turn("user", "<image>\n<image>\nCompare.", 2), Turn("assistant", "Same.")], images)
    assert encoded.image_grid_thw.tolist() == [[1, 6, 4], [1, 12, 14]]
    assert encoded.pixel_values.shape == (24 + 168, 1536)
    assert encoded.input_ids.count(IMAGE) == 6 + 42 == sum(processor.visual_tokens(*image.size) for image in images)
    expected = [int(token == IMAGE) for token in encoded.input_ids]
    assert encoded.mm_token_type_ids == expected


def test_the_number_of_images_must_match(processor):
    with pytest.raises(ValueError, match=r"1 image placeholder\(s\) but 2 image\(s\)"):
        processor.encode([Turn("user", iqa_turn(), 1)], [picture(), picture()])
    with pytest.raises(ValueError, match=r"2 image\(s\) but its human turn begins with 1 <image>"):
        processor.encode([Turn("user", iqa_turn(), 2)], [picture(), picture()])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 90), (300, 1500), (4000, 3000), (224, 224)])
def test_pixel_budget_is_kept_for_every_shape(processor, width, height):
    assert 1 <= processor.visual_tokens(width, height) <= 49


def test_pixel_limits_are_kept_as_they_are(tiny_checkpoint):
    processor = Processor.from_pretrained(tiny_checkpoint, min_pixels=1025, max_pixels=50_000)
    assert (processor.min_pixels, processor.max_pixels) == (1025, 50_000)
    # One limit alone keeps the checkpoint's other one as far as it can.
    assert Processor.from_pretrained(tiny_checkpoint, max_pixels=4096).min_pixels == 4096
    processor.set_pixel_limits(100_000, 100_000)
    assert processor.encode([Turn("user", iqa_turn(), 1)], [picture(333, 517)]).image_grid_thw.tolist() == [[1, 24, 14]]
    for low, high in [(4096, 1024), (0, 1024), (-5, 1024), (None, 0)]:
        with pytest.raises(ValueError, match="leave no image size"):
            processor.set_pixel_limits(low, high)
    assert processor.limits == (100_000, 100_000)


def test_saved_processor_is_the_same_and_lists_the_task_tokens(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    assert added.items() >= TASK_TOKEN_IDS.items() and list(added.values()) == list(range(151_643, 151_672))
    assert (tmp_path / "video_preprocessor_config.json").is_file()
    loaded = Processor.from_pretrained(tmp_path.parent, subfolder=tmp_path.name)
    assert (loaded.min_pixels, loaded.max_pixels) == (784, 50_176)
    assert loaded.tokenizer.chat_template == processor.tokenizer.chat_template
    assert len(loaded.tokenizer) == 151_672
    turns = [Turn("user", evaluation_turn("<|IQA|> a cat", ["Is it?"]), 1), Turn("assistant", "yes <think>")]
    one, two = processor.encode(turns, [picture()]), loaded.encode(turns, [picture()])
    assert (one.input_ids, one.labels) == (two.input_ids, two.labels)
    assert torch.equal(one.pixel_values, two.pixel_values)


def test_reads_a_checkpoint_that_transformers_4_saved(processor, tiny_checkpoint, tmp_path):
    """Published checkpoints name their special tokens in the older way."""
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((tiny_checkpoint / name).read_bytes())
    special = processor.tokenizer.added_tokens_decoder
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(TASK_TOKEN_IDS),
        "added_tokens_decoder": {
            str(token): {"content": value.content, "special": value.special, "normalized": False}
            | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
            for token, value in special.items()
        },
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text(json.dumps(TASK_TOKEN_IDS))
    older = Processor.from_pretrained(tmp_path)
    turn = [Turn("user", iqa_turn(), 1)]
    assert older.layout(turn, [2]) == processor.layout(turn, [2])
    assert older.decode(older.layout(turn, [2])[0]).startswith("user\n\nParse the image")


def test_decode_drops_special_tokens(processor):
    assert processor.decode([*processor.tokenizer.encode('[{"score": 5}]'), END]) == '[{"score": 5}]'


def test_model_inputs_run_through_the_model(processor, tiny_checkpoint):
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    encoded = processor.encode([Turn("user", iqa_turn(), 1)], [picture()], add_generation_prompt=True)
    out = model.generate(**encoded.model_inputs(), max_new_tokens=2, do_sample=False)
    assert out.shape == (1, len(encoded.input_ids) + 2)


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path / 'none'}: no such checkpoint folder"):
        Processor.from_pretrained(tmp_path / "none")
    with pytest.raises(ValueError, match=f"{tmp_path}: no tokenizer and image processor of a Qwen3-VL model"):
        Processor.from_pretrained(tmp_path)
