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
        ('[{"a": 1}, {"a": 2}', [{"a": 1}, {"a": 2}]),
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
