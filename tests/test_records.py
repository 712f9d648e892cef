import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval import records
from dyneval.errors import SchemaError

PAIR = {
    "file_name": "demo/P0.png", "pair_id": "P0-demo", "prompt_id": "P0", "prompt": "a red ball", "tier": 1,
    "categories": [], "generation_model": "demo", "seed": 1, "width": 8, "height": 8, "settings": {},
    "sha256": "0" * 64,
}  # fmt: skip


def test_a_record_survives_its_own_row():
    pair = records.PairRecord.from_dict(PAIR)
    assert records.PairRecord.from_dict(pair.to_dict()) == pair


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": 4}, "tier"),
        ({"sha256": "x"}, "sha256"),
        ({"pair_id": "../../etc/passwd"}, "pair_id"),
        ({"seed": None}, "seed"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_place(change, message):
    with pytest.raises(SchemaError, match=f"metadata.jsonl:3: {message}"):
        records.PairRecord.from_dict(PAIR | change, "metadata.jsonl:3")


def test_a_missing_field_is_named():
    row = {key: value for key, value in PAIR.items() if key != "prompt"}
    with pytest.raises(SchemaError, match="'prompt' is a required property"):
        records.PairRecord.from_dict(row)


def test_ids_depend_on_the_text_alone_and_are_file_names():
    assert records.prompt_id("a red ball") == records.prompt_id("a red ball") != records.prompt_id("a red ball ")
    name = records.pair_id(records.prompt_id("../../etc"), "demo-painter")
    assert "/" not in name
    records.PairRecord.from_dict(PAIR | {"pair_id": name})


def test_scores_map_onto_zero_to_one():
    assert [records.normalised_score(score) for score in (1, 3, 5)] == [0, 0.5, 1]


TEXTS = st.text(st.characters(codec="utf-8"))
REPLIES = st.recursive(
    TEXTS | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(REPLIES)
def test_the_students_json_is_that_of_the_standard_library(value):
    assert records.student_json(value) == json.dumps(value, ensure_ascii=False)


def test_half_a_character_is_no_reply():
    with pytest.raises(ValueError, match="surrogates"):
        records.student_json([{"question": "a \ud800 cat"}])
