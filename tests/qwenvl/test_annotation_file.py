"""Entries come back as a plain JSON parser reads them, whatever the layout, and damage is named."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.errors import DataFileError
from qwenvl.data import annotation_file
from qwenvl.data.annotation_file import AnnotationFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=8)
LAYOUTS = {
    "compact": lambda rows: json.dumps(rows, ensure_ascii=False, separators=(",", ":")),
    "indented": lambda rows: json.dumps(rows, indent=2) + "\n",
    "lines": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
    "blank lines": lambda rows: "".join(json.dumps(row) + "\r\n\r\n" for row in rows),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_entries_equal_those_of_a_json_parser(layout, chunk, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(annotation_file, "_CHUNK", chunk)

    @settings(max_examples=40)
    @given(ENTRIES)
    def check(rows):
        path = tmp_path_factory.mktemp("a") / "a.json"
        path.write_bytes(LAYOUTS[layout](rows).encode())
        read = AnnotationFile(path)
        assert [read[index] for index in range(len(read))] == rows

    check()


def test_workers_get_places_not_objects(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"n": number, "text": "x" * 1000} for number in range(100)]))
    read = AnnotationFile(path)
    assert read[99]["n"] == 99
    copy = pickle.dumps(read)
    assert len(copy) < 5000
    assert pickle.loads(copy)[42]["n"] == 42


def test_a_byte_order_mark_is_no_entry(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + '[{"a": "é"}, {"b": 2}]'.encode())
    assert [AnnotationFile(path)[index] for index in range(2)] == [{"a": "é"}, {"b": 2}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", r"is not JSON \(the entry at byte 0"),
        (b'[{"a": 1}, {"b": ', r"is not JSON \(the entry at byte 11"),
        (b'[{"a": 1}', "the file is cut off"),
        (b'[{"a": 1}] {"b": 2}', "text after the end of the array, byte 11"),
        (b'[{"a": 1}, 7]', "the entry at byte 11 is int '7'"),
        (b'{"a": 1}\n"text"\n', "the entry at byte 9 is str 'text'"),
        (b'[{"a": "\xff"}]', "is not JSON in UTF-8"),
        (b"[]", "holds no samples"),
        (b"", "holds no samples"),
    ],
)
def test_damage_is_named(content, reason, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=reason) as error:
        AnnotationFile(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"none\.json: cannot be read"):
        AnnotationFile(tmp_path / "none.json")
