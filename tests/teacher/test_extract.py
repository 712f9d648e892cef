import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.llm.chat import UnusableReply
from dyneval.teacher.extract import MAX_CHARACTERS, extract_json

leaves = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.dictionaries(
    st.text(max_size=5).filter(lambda key: not any("\ud800" <= c <= "\udfff" for c in key)),
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    max_size=4,
)
plain = st.text(st.characters(categories=["L", "Zs"]), max_size=20)


@given(value=values, before=plain, after=plain, indent=st.sampled_from([None, 2]), fence=st.sampled_from(["", "json"]))
def test_json_is_found_in_what_models_put_around_it(value, before, after, indent, fence):
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert extract_json(f"{before}{text}{after}") == value
    if "```" not in text:
        assert extract_json(f"{before}\n```{fence}\n{text}\n```\n{after}") == value


answers = st.lists(
    st.fixed_dictionaries({"question": st.text(max_size=12), "score": st.integers(1, 5)}), min_size=1, max_size=3
).map(lambda rows: {"answers": rows})
prose = st.sampled_from(
    [
        "",
        "Let me see [as asked]. ",
        "The cat's ear isn't whole: ",
        "It says {so}. ",
        'She said "yes", I\'d say. ',
        "\n\n",
    ]
)
dressed = st.sampled_from(["{}", "```json\n{}\n```", "```\n{}\n```", "<answer>{}</answer>", "**{}**"])
thinking = st.sampled_from(
    [
        ("<think>", "</think>"), ("", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"), ("<seed:think>", "</seed:think>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ]
)  # fmt: skip


@st.composite
def draft(draw):
    """An answer that is not the final one: whole, broken, cut off, or mere examples."""
    text = json.dumps(draw(answers), indent=draw(st.sampled_from([None, 1])))
    kind = draw(st.sampled_from(["whole", "comma", "cut", "no end", "key twice", "NaN", "none"]))
    text = {
        "whole": text,
        "comma": text.replace("}", "},", 1),
        "cut": text[: len(text) // 2],
        "no end": text.rstrip("}]\n "),
        "key twice": text.replace('"score"', '"score": 1, "score"', 1),
        "NaN": text.replace('"score": ', '"score": NaN, "was": ', 1),
        "none": "",
    }[kind]
    return draw(dressed).replace("{}", text) if text else ""


@given(data=st.data(), final=answers, ascii_only=st.booleans())
def test_the_final_answer_is_taken_or_none_never_a_draft(data, final, ascii_only):
    """Whatever stands before it: thinking with drafts in it, drafts in fences, prose; and prose behind it."""
    thoughts = ""
    if data.draw(st.booleans()):
        begin, end = data.draw(thinking)
        drafts = "".join(data.draw(prose) + data.draw(draft()) for _ in range(data.draw(st.integers(0, 3))))
        thoughts = f"{begin}{drafts}{data.draw(prose)}{end}\n"
    before = data.draw(prose) + data.draw(draft()) + data.draw(prose)
    text = data.draw(dressed).replace("{}", json.dumps(final, ensure_ascii=ascii_only))
    reply = f"{thoughts}{before}{text}\n{data.draw(prose)}"
    try:
        value = extract_json(reply)
    except UnusableReply:
        # A draft that was cut off may take what follows it for its rest: that is asked again, not guessed.
        with pytest.raises(UnusableReply):
            extract_json(before + text)
        return
    assert value == final
    assert not thoughts or extract_json(thoughts + text) == final


@given(data=st.data(), final=answers)
def test_drafts_inside_thinking_cost_nothing(data, final):
    begin, end = data.draw(thinking)
    drafts = "".join(data.draw(prose) + data.draw(draft()) for _ in range(3))
    assert extract_json(f"{begin}{drafts}{end}\n{json.dumps(final)}") == final


@pytest.mark.parametrize(
    "text",
    [
        '<think>First {"score": 1}. No.',
        '{"score": 1}\n<think>Or is it',
        '<think>{"score": 1}</think> It is good.',
        '{"answers": [1] Final: {"answers": [5]}',
        '{"answers": [{"a": 1}] {"answers": [{"a": 5}]}',
        '{"score": 1, "score": 5,}',
        '{"a": "one", "b": "two',
        '[{"a": 1}, {"a": 2}',
        '{"answers": [{"score": {"answers": [{"score": 5}]}',
        '{"a": "he said "no" to it"}',
    ],
)
def test_what_is_not_final_or_not_plain_is_asked_again(text):
    with pytest.raises(UnusableReply):
        extract_json(text)


@pytest.mark.parametrize("inside", ["</think>", "<think>", "[THINK]", "```", '\\"}]'])
def test_marks_inside_a_text_of_the_answer_mean_nothing(inside):
    assert extract_json(f'<think>Hm</think>{{"a": "is {inside} legible?"}}') == {
        "a": f"is {inside} legible?".replace('\\"', '"')
    }


@given(st.text(st.sampled_from('{}[]",:\\`n1 ajsn-'), max_size=60))
def test_any_text_gives_json_or_a_reply_error(text):
    try:
        value = extract_json(text)
    except UnusableReply:
        return
    assert isinstance(value, dict | list)
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2,],}', {"a": [1, 2]}),
        ("{'a': 'b'}", {"a": "b"}),
        ('Here you are [as asked]: {"a": 1}', {"a": 1}),
        ('[{"a": 1} {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('```json\n{"a": 1}\n```\nHope this helps! {smile}', {"a": 1}),
    ],
)
def test_small_slips_are_forgiven(text, value):
    assert extract_json(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("Lo siento, no puedo.", "no JSON"),
        ('{"score": 1, "score": 5}', "'score' stands twice"),
        ('{"score": NaN}', "NaN"),
        ('{"score": -Infinity}', "Infinity"),
        ('{"score": NaN,}', "NaN"),
        ("[" * 50_000, "nest|repaired"),
        ("{}" + " " * MAX_CHARACTERS, "characters"),
    ],
)
def test_what_is_ambiguous_or_absent_is_refused(text, reason):
    with pytest.raises(UnusableReply, match=reason):
        extract_json(text)
