"""The typed rows take what the schemas take, and nothing else."""

import copy
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dyneval import schemas
from dyneval.instruct import rows

KINDS = {
    kind.RECORD.SCHEMA: kind
    for kind in (rows.T2IAQuestionsRow, rows.T2IAAnswersRow, rows.IQAQuestionsRow, rows.IQAAnswersRow)
}
VALUES = [None, True, False, 0, -1, 1, 3, 6, 2**70, 1.0, 2.5, "", "x", "yes", "Yes", "alignment", [], ["", "a"], {}]


def paths(value, so_far=()):
    """Where something can be changed: every key and place of a row."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [so_far, *(path for key, inner in items for path in paths(inner, (*so_far, key)))]


def verdict(name, line):
    """The typed row of a line, or None where the reader finds none."""
    kind = KINDS[name]
    row = kind.parse(line)
    if row is None:
        try:
            row = kind.of(kind.RECORD.from_dict(orjson.loads(line), "x"), "x")
        except ValueError:
            return None
    return row


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_a_row_fits_its_type_where_it_fits_its_schema(name, teacher_rows, data):
    row = copy.deepcopy(teacher_rows[name])
    *parents, last = data.draw(st.sampled_from(paths(row)[1:]))
    place = row
    for key in parents:
        place = place[key]
    if data.draw(st.booleans()):
        place[last] = data.draw(st.sampled_from(VALUES))
    elif isinstance(place, dict):
        del place[last]
        place["more"] = 1
    else:
        place.append(data.draw(st.sampled_from(VALUES)))
    fits = Draft202012Validator(schemas.load(name)).is_valid(row)
    huge = "attempts" in str(last) or "tokens" in str(last)  # beyond 64 bits: the one thing that only the schema takes
    made = verdict(name, json.dumps(row).encode())
    assert (made is not None) == fits or (huge and place[last] == 2**70)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "more",
    [
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\x01"',
        b'"\\x"',
        b"NaN",
        b"01",
        b"[1,]",
        b"[" * 3000 + b"]" * 3000,
    ],
)
def test_a_line_that_is_no_json_is_none_even_where_nothing_is_kept_of_it(name, more, teacher_rows):
    line = json.dumps(teacher_rows[name]).encode()[:-1]
    assert verdict(name, line + b', "more": 1}') is not None
    assert verdict(name, line + b', "more": ' + more + b"}") is None


def test_whole_numbers_become_integers_and_the_text_stays_as_it_is(teacher_rows):
    row = copy.deepcopy(teacher_rows["iqa_answers"])
    row["answers"][0] |= {"score": 2.0, "question": 'Is "Café" \\ 猫 whole?'}
    made = verdict("iqa_answers", json.dumps(row, ensure_ascii=False).encode())
    assert repr(made.answers[0].score) == "2" and made.answers[0].question == 'Is "Café" \\ 猫 whole?'
