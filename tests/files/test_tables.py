"""Tables as the programs of users write them: read for what they say, or refused by row."""

import gzip
import json
import re

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.errors import DataFileError
from dyneval.files.delimited import as_meant, harmless
from dyneval.files.parquet import unpacked_size
from dyneval.files.tables import BadRow, each_row, rows, text_of, texts_of, whole_of

CSV = 'image,score,prompt\na.png,1,"a cat, sitting"\nb.png,2,"two\nlines"\n'
SAID = [
    {"image": "a.png", "score": "1", "prompt": "a cat, sitting"},
    {"image": "b.png", "score": "2", "prompt": "two\nlines"},
]
LINES = '{"image": "a.png", "score": 1}\n\n{"image": "猫.png", "score": 2}'
OBJECTS = [{"image": "a.png", "score": 1}, {"image": "猫.png", "score": 2}]


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return list(rows(path, **options))


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", CSV),
        ("NAME.CSV", CSV),
        ("windows.csv", CSV.replace("\n", "\r\n").replace("two\r\nlines", "two\nlines")),
        ("cut.csv", CSV[:-1]),
        ("blank.csv", "\n" + CSV.replace("b.png", "\n,,\nb.png") + ",,\n\n"),
        ("spaces.csv", CSV.replace("image,score,", "image, score , ")),
        (
            "nameless.csv",
            CSV.replace("prompt\n", "prompt,,\n").replace('sitting"', 'sitting",,').replace('es"', 'es",,'),
        ),
        ("semicolon.csv", 'image;score;prompt\na.png;1;a cat, sitting\nb.png;2;"two\nlines"\n'),
        ("excel.csv", 'sep=;\r\nimage;score;prompt\r\na.png;1;a cat, sitting\r\nb.png;2;"two\nlines"\r\n'),
        ("tabs.csv", 'image\tscore\tprompt\na.png\t1\ta cat, sitting\nb.png\t2\t"two\nlines"\n'),
        ("tabs.tsv", 'image\tscore\tprompt\na.png\t1\ta cat, sitting\nb.png\t2\t"two\nlines"\n'),
        ("commas.tsv", CSV),
        ("mark.csv", CSV.encode("utf-8-sig")),
        ("utf16.csv", CSV.encode("utf-16")),
        ("utf16le.csv", CSV.encode("utf-16-le")),
        ("utf16be.csv", CSV.encode("utf-16-be")),
        ("utf32.csv", CSV.encode("utf-32")),
        ("packed.csv.gz", gzip.compress(CSV.encode())),
        ("packed.csv.zst", zstd(CSV.encode())),
    ],
)
def test_csv_in_its_many_forms_says_the_same(tmp_path, name, content):
    assert read(tmp_path / name, content) == SAID


def test_csv_of_old_macs_has_carriage_returns_alone(tmp_path):
    assert read(tmp_path / "t.csv", "a,b\r1,2\r3,4") == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES + "\n"),
        ("a.json", LINES),
        ("windows.jsonl", LINES.replace("\n", "\r\n")),
        ("mac.jsonl", LINES.replace("\n", "\r")),
        ("mark.jsonl", LINES.encode("utf-8-sig")),
        ("mark.json", json.dumps(OBJECTS).encode("utf-8-sig")),
        ("utf16.jsonl", LINES.encode("utf-16")),
        ("utf16.json", json.dumps(OBJECTS).encode("utf-16-le")),
        ("utf16lines.json", LINES.encode("utf-16")),
        ("array.jsonl", " \n" + json.dumps(OBJECTS, indent=1)),
        ("packed.JSONL.GZ", gzip.compress(LINES.encode())),
        ("packed.json.zst", zstd(json.dumps(OBJECTS).encode())),
    ],
)
def test_json_in_its_many_forms_says_the_same(tmp_path, name, content):
    assert read(tmp_path / name, content) == OBJECTS


def test_one_object_and_one_under_a_key(tmp_path):
    assert read(tmp_path / "one.json", '{\n "image": "a.png"\n}') == [{"image": "a.png"}]
    assert read(tmp_path / "in.json", '{"n": 1, "prompts": [{"a": 1}]}', key="prompts") == [{"a": 1}]
    with pytest.raises(DataFileError, match="or an object with the key prompts"):
        read(tmp_path / "in.json", '{"rows": []}', key="prompts")


def test_numbers_that_pandas_has_not_and_half_characters(tmp_path):
    (row,) = read(tmp_path / "a.jsonl", '{"a": NaN, "b": "c"}')
    assert row["a"] != row["a"]
    with pytest.raises(DataFileError, match=r"a\.jsonl:1: is not JSON"):
        read(tmp_path / "a.jsonl", '{"a": NaN, "b": "\\ud800"}')


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b\n1,2\n3,4,5\n", r"t\.csv:3: row 2 has 3 cells, expected 2 \(a, b\); a cell that holds a comma"),
        ("t.csv", 'a,b\n"1\n1",2\n3\n', r"t\.csv:4: row 2 has 1 cells, expected 2"),
        ("t.csv", 'a,b\n1,2\n3,"open\n5,6\n', r"t\.csv:3: row 2: a quotation mark opens a cell and never closes it"),
        ("t.csv", 'a,b\n1,"so "called" one"\n', r"t\.csv:2: row 1: cannot be read as CSV .* is written twice"),
        ("t.csv", "a,b,b\n1,2,3\n", r"t\.csv: more than one column is called 'b'"),
        ("t.csv", b"a,b\n1,\xe9\n", r"t\.csv: cannot be read as CSV in UTF-8 .* save it as UTF-8"),
        ("t.csv", "a\n" + "x" * (1 << 24) + "y\n", r"t\.csv:2: row 1: .*field larger"),
        ("t.csv", "x" * (1 << 24) + "y\n1\n", r"t\.csv: its header cannot be read as CSV"),
        ("t.csv", "a\n" + "x" * (1 << 26) + "y\n", r"t\.csv: a line is longer than 64 MiB"),
        ("t.jsonl", '{"a": 1}\n\n{"a"', r"t\.jsonl:3: is not JSON"),
        ("t.jsonl", "{}\n[1]\n", r"t\.jsonl:2: expected a JSON object, found list"),
        ("t.json", '[{}, "x"]', r"t\.json:2: expected a JSON object, found str"),
        ("t.json", "[1, ", r"t\.json: is not JSON"),
        ("t.jsonl", '{"é'.encode("utf-16") + b"x", r"t\.jsonl: begins as utf-16"),
        ("t.csv.gz", gzip.compress(CSV.encode())[:-9], r"t\.csv\.gz: cannot be read"),
        ("t.csv.gz", CSV, r"t\.csv\.gz: cannot be read"),
        ("t.csv.zst", CSV, r"t\.csv\.zst: cannot be read"),
        ("t.csv.gz", gzip.compress(b"a\n" + b"1" * (1 << 24)), r"t\.csv\.gz: unpacks to more than 200 times"),
        ("t.parquet.gz", b"", r"files called \*\.gz are not read"),
        ("t.ods", b"", r"files called \*\.ods are not read; .*; save the sheet as CSV in UTF-8"),
        ("t", b"", r"files called \*t are not read"),
        ("t.parquet", b"PAR1", r"t\.parquet: cannot be read as Parquet"),
        ("t.parquet", b"", r"t\.parquet: cannot be read as Parquet"),
    ],
    ids=range(23),
)
def test_what_cannot_be_read_is_refused_by_row(tmp_path, name, content, message):
    with pytest.raises(DataFileError, match=message) as refused:
        read(tmp_path / name, content)
    assert str(tmp_path / name) in str(refused.value)


def test_one_bad_row_does_not_take_the_others_with_it(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4,5\n6,7\n")
    good, bad, last = each_row(tmp_path / "t.csv")
    assert (good, last) == ({"a": "1", "b": "2"}, {"a": "6", "b": "7"})
    assert isinstance(bad, BadRow) and bad.line == 3
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{\n{"a": 2}')
    assert [row["a"] for row in each_row(tmp_path / "t.jsonl") if isinstance(row, dict)] == [1, 2]


def test_columns_are_chosen_and_a_double_one_that_nobody_asks_for_does_no_harm(tmp_path):
    assert read(tmp_path / "t.csv", "a,seed,seed\n1,2,3\n", columns=["a"]) == [{"a": "1"}]
    assert read(tmp_path / "t.jsonl", '{"a": 1, "b": 2}', columns=["a"]) == [{"a": 1}]
    with pytest.raises(DataFileError, match=r"t\.csv: lacks the column c; it has a, b"):
        read(tmp_path / "t.csv", "a,b\n", needs=["c", "a"])


def test_a_list_among_objects_is_a_bad_row_also_where_it_holds_the_name_of_a_column_twice(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"ab": 1}\n[1, "ab", "ab"]\n["ab", "ab"]\n{"ab": 1, "ab": 2}\n')
    first, *bad = each_row(tmp_path / "t.jsonl", columns=["ab"])
    assert first == {"ab": 1}
    is_list, is_twice = "expected a JSON object, found list", "has more than one 'ab'; which one counts is not known"
    assert bad == [BadRow(2, is_list), BadRow(3, is_list), BadRow(4, is_twice)]


def test_empty_tables_have_no_rows(tmp_path):
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.json"):
        assert read(tmp_path / name, "") == []
        assert read(tmp_path / name, "\ufeff\n") == []
    assert read(tmp_path / "t.csv", "a,b\n") == [] == read(tmp_path / "t.json", "[]")


def test_parquet_of_dictionaries_bytes_lists_and_nulls(tmp_path):
    path = tmp_path / "t.parquet"
    columns = {
        "model": pa.array(["x", None, "x"]).dictionary_encode(),
        "prompt": pa.array([b"a cat", None, b"\xff"], pa.binary()),
        "rating": pa.array([[1, 2], [], None]),
        "id": pa.array([0.0, None, 2.0]),
        "picture": pa.array([{"bytes": b"\x89PNG", "path": "a.png"}] * 3),
    }
    pq.write_table(pa.table(columns), path)
    first, second, third = rows(path)
    assert (first["model"], first["prompt"], first["rating"], text_of(first["id"])) == ("x", "a cat", [1, 2], "0")
    assert (second["model"], second["prompt"], second["rating"], text_of(second["id"])) == (None, None, [], None)
    assert third["prompt"] == b"\xff" and third["rating"] is None
    with pytest.raises(TypeError, match="expected a text, found dict"):
        text_of(first["picture"])
    assert next(rows(path, ["id"], needs=["id"])) == {"id": 0.0}
    pl.DataFrame({"kind": ["a", "b"]}, schema={"kind": pl.Enum(["a", "b"])}).write_parquet(path)
    assert list(rows(path)) == [{"kind": "a"}, {"kind": "b"}]


def test_a_parquet_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"a": ["x"], "prompt": ["x" * (1 << 28) + "y"]}), path, compression="zstd")
    assert path.stat().st_size < 1 << 17 and unpacked_size(path, ["prompt"]) > 1 << 28
    with pytest.raises(DataFileError, match=r"bomb\.parquet: unpacks to more than 200 times its size"):
        next(rows(path))
    assert list(rows(path, ["a"])) == [{"a": "x"}], "what is not asked for is not unpacked"


def test_a_million_rows_of_nothing_are_counted_too(tmp_path):
    path = tmp_path / "nulls.parquet"
    pq.write_table(pa.table({"prompt": pa.nulls(1 << 25, pa.string())}), path)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(DataFileError, match="unpacks to more than"):
        next(rows(path))


def test_a_dictionary_that_stands_for_more_text_than_memory_is_refused(tmp_path):
    path = tmp_path / "dictionary.parquet"
    pq.write_table(pa.table({"prompt": pa.DictionaryArray.from_arrays([0] * 100_000, ["x" * 10_000])}), path)
    assert unpacked_size(path, ["prompt"]) < 1 << 21
    with pytest.raises(DataFileError, match="unpacks to more than"):
        next(rows(path))


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_the_footer_of_every_writer_is_understood(tmp_path, compression):
    texts = [f"prompt {number} " * 40 for number in range(30_000)]
    table = pa.table({"prompt": texts, "deep": [{"a": [{"b": 1}]}] * len(texts)})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, compression=compression, row_group_size=7000, use_dictionary=False)
    footer = pq.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    expected = sum(group.column(0).total_uncompressed_size for group in groups)
    assert unpacked_size(path, ["prompt"]) == expected
    assert [row["prompt"] for row in rows(path, ["prompt"])] == texts


def test_a_footer_with_any_byte_changed_is_read_or_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": ["x", "y"], "b": [1, 2]}).write_parquet(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    for place in range(len(whole) - 8 - length, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            unpacked_size(path, ["a"])
        except DataFileError as error:
            assert "t.parquet: cannot be read as Parquet" in str(error)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (" a ", " a "),
        (" ", None),
        (None, None),
        (float("nan"), None),
        ("1.0", "1.0"),
    ],
)
def test_a_cell_as_text(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize("value", [True, [1], {}, b"x"])
def test_a_cell_that_is_no_text(value):
    with pytest.raises(TypeError, match="expected a text, found " + re.escape(type(value).__name__)):
        text_of(value)


def test_cells_of_lists_and_of_whole_numbers():
    assert texts_of(["a ", None, "", 3]) == ("a", "3") and texts_of(None) == () and texts_of("x") == ("x",)
    assert [whole_of(value) for value in ("1.0", 2023.0, " 7", 0, None, "")] == [1, 2023, 7, 0, None, None]
    for wrong in ("1.5", "many", float("inf")):
        with pytest.raises(TypeError, match="expected a whole number"):
            whole_of(wrong)


@given(st.text("'=+-@\t ＝1.a\n"))
def test_cells_that_we_write_run_no_formula_and_come_back(text):
    cell = harmless(text)
    assert re.fullmatch(r"[+-]?\d+(\.\d+)?", cell) or not re.match(r"\s*[=+\-@＝]|\t", cell)
    assert as_meant(cell) == re.sub(r"\n+", " ", text)
