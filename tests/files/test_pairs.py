import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from dyneval.errors import DataFileError
from dyneval.files.pairs import metadata_file, read_pairs

ROWS = [
    {"pair_id": "D-1", "prompt": 'a "quoted", cat\nin two lines', "file_name": "images/1.png"},
    {"pair_id": "D-2", "prompt": "猫 on a bench", "file_name": "2.png"},
]


def write(path, rows):
    frame = pl.DataFrame(rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path, kind):
    assert read_pairs(write(tmp_path / f"table.{kind}", ROWS)) == ROWS


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_an_image_folder_is_its_metadata_file(tmp_path, kind):
    path = write(tmp_path / f"metadata.{kind}", ROWS)
    assert metadata_file(tmp_path) == path
    assert read_pairs(tmp_path) == ROWS


def test_columns_of_no_use_are_left_out_and_empty_cells_are_missing(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffseed,file_name,prompt,pair_id\n1,a.png,a cat,\n2,,a dog,D\n,,,\n", "utf-8")
    assert read_pairs(tmp_path / "t.csv") == [
        {"file_name": "a.png", "prompt": "a cat"},
        {"prompt": "a dog", "pair_id": "D"},
    ]
    pl.DataFrame({"file_name": ["a.png"], "prompt": [None], "embedding": [[1.0]]}).write_parquet(tmp_path / "t.parquet")
    assert read_pairs(tmp_path / "t.parquet") == [{"file_name": "a.png"}]


def test_a_row_that_cannot_be_read_is_one_of_the_rows(tmp_path):
    (tmp_path / "t.csv").write_text("file_name,prompt\na.png,a cat\nb.png\nc.png,a dog, red")
    good, short, long = read_pairs(tmp_path / "t.csv")
    assert good == {"file_name": "a.png", "prompt": "a cat"}
    assert "row 2 has 1 cells" in short.reason and "row 3 has 3 cells" in long.reason
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(DataFileError, match=r"t\.jsonl: holds no rows; expected file_name and prompt"):
        read_pairs(tmp_path / "t.jsonl")


def test_a_prompt_of_a_megabyte_is_read(tmp_path):
    rows = [{"prompt": "x" * 1_000_000, "file_name": "a.png"}]
    assert read_pairs(write(tmp_path / "t.csv", rows)) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"file_name,caption\na.png,cat\n", r"t\.csv: lacks the column prompt; it has file_name, caption"),
        ("t.csv", b"", r"t\.csv: lacks the column file_name and prompt; it has none"),
        ("t.csv", b"file_name,prompt\n\xff\xfe,x\n", r"t\.csv: cannot be read as CSV in UTF-8"),
        ("t.parquet", b"PAR1 no", r"t\.parquet: cannot be read as Parquet"),
        ("t.jsonl", b"{\n", r"t\.jsonl:1: is not JSON"),
        (
            "t.xls",
            b"x",
            r"t\.xls: files called \*\.xls are not read; .*save the sheet as CSV",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        read_pairs(tmp_path / name)


def test_what_is_not_there_or_not_clear_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"gone\.csv: cannot be read"):
        read_pairs(tmp_path / "gone.csv")
    with pytest.raises(DataFileError, match="in this folder, found none"):
        read_pairs(tmp_path)
    for kind in ("csv", "jsonl"):
        write(tmp_path / f"metadata.{kind}", ROWS)
    with pytest.raises(DataFileError, match=r"found metadata\.jsonl and metadata\.csv"):
        metadata_file(tmp_path)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=strategies.binary(max_size=200), kind=strategies.sampled_from(["csv", "tsv", "parquet", "json", "jsonl"])
)
def test_any_bytes_are_rows_or_a_named_error(tmp_path, content, kind):
    path = tmp_path / f"any.{kind}"
    path.write_bytes(content)
    try:
        assert all(isinstance(row, dict) for row in read_pairs(path))
    except DataFileError as error:
        assert path.name in str(error)
