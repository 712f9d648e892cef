import gzip
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from dyneval.errors import DataFileError
from dyneval.files.pairs import PairRef, default_pair_id, metadata_file, read_pairs
from dyneval.files.parts import Shard
from dyneval.records import PairRecord, prompt_id

PAIR = {
    "file_name": "demo/P0.png", "pair_id": "P0-demo", "prompt_id": "P0", "prompt": "a red ball", "tier": 1,
    "categories": [], "generation_model": "demo", "seed": 1, "width": 8, "height": 8, "settings": {},
    "sha256": "0" * 64,
}  # fmt: skip
ROWS = [
    {"pair_id": "D-1", "prompt": 'a "quoted", cat\nin two lines', "file_name": "images/1.png"},
    {"pair_id": "D-2", "prompt": "猫 on a bench", "file_name": "2.png"},
]


def refs(path, **options):
    """The pairs of a table, and what was said of its other rows."""
    rejects = []
    return list(read_pairs(path, PairRef, rejects.append, **options)), rejects


def whole(path, **options):
    rejects = []
    return list(read_pairs(path, PairRecord, rejects.append, **options)), [(row.key, row.reason) for row in rejects]


EXPECTED = [PairRef(row["pair_id"], row["prompt"], row["file_name"], prompt_id(row["prompt"])) for row in ROWS]


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
    assert refs(write(tmp_path / f"table.{kind}", ROWS)) == (EXPECTED, [])


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_an_image_folder_is_its_metadata_file(tmp_path, kind):
    path = write(tmp_path / f"metadata.{kind}", ROWS)
    assert metadata_file(tmp_path) == path
    assert refs(tmp_path) == (EXPECTED, [])


def test_columns_of_no_use_are_left_out_and_what_a_row_lacks_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffseed,file_name,prompt,pair_id\n1,a.png,a cat,\n2,,a dog,D\n,,,\n", "utf-8")
    found, (reject,) = refs(tmp_path / "t.csv")
    assert found == [PairRef(default_pair_id("a cat", "a.png"), "a cat", "a.png", prompt_id("a cat"))]
    assert (reject.key, reject.kind) == (
        "D",
        "row",
    ) and "row 2: expected the texts prompt and file_name" in reject.reason
    pl.DataFrame({"file_name": ["a.png"], "prompt": [None], "embedding": [[1.0]]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataFileError, match=r"no row of it can be used; the first one: .*expected the texts prompt"):
        refs(tmp_path / "t.parquet")


def test_a_row_that_cannot_be_read_is_a_reject(tmp_path):
    (tmp_path / "t.csv").write_text("file_name,prompt\na.png,a cat\nb.png\nc.png,a dog, red")
    (good,), (short, long) = refs(tmp_path / "t.csv")
    assert good.file_name == "a.png"
    assert "t.csv:3: row 2 has 1 cells" in short.reason and "row 3 has 3 cells" in long.reason
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(DataFileError, match=r"t\.jsonl: holds no rows; expected file_name and prompt"):
        refs(tmp_path / "t.jsonl")


def test_of_one_pair_id_the_first_row_counts_and_what_says_the_same_is_no_reject(tmp_path, caplog):
    rows = [
        {"pair_id": "a", "prompt": "a cat", "file_name": "a.png"},
        {"pair_id": "a", "prompt": "a cat", "file_name": "./a.png"},
        {"pair_id": "a", "prompt": "a dog", "file_name": "a.png"},
        {"pair_id": "b", "prompt": "a dog", "file_name": "b.png"},
    ]
    found, (reject,) = refs(write(tmp_path / "t.jsonl", rows))
    assert [pair.prompt for pair in found] == ["a cat", "a dog"]
    assert reject.key == "a" and "t.jsonl:3: this pair_id stands there before with another" in reject.reason
    assert "1 rows say again" in caplog.text
    pairs = [PAIR, {**PAIR, "settings": {"seconds": 1}}, {**PAIR, "sha256": "1" * 64}, {**PAIR, "prompt": " "}]
    (pair,), rejects = whole(write(tmp_path / "metadata.jsonl", pairs))
    assert pair == PairRecord.from_dict(PAIR)
    assert [(key, reason.partition(": ")[2]) for key, reason in rejects] == [
        ("P0-demo", "this pair_id stands there before with another prompt or image; the first is taken"),
        ("P0-demo", "the prompt is empty"),
    ]


def test_one_image_without_an_id_has_one_id_however_it_is_spelt(tmp_path):
    rows = [{"prompt": "a cat", "file_name": name} for name in ("a.png", "./a.png", "b//c.png", "b/c.png", "b-c.png")]
    found, rejects = refs(write(tmp_path / "t.jsonl", rows))
    assert [pair.file_name for pair in found] == ["a.png", "b//c.png", "b-c.png"] and not rejects


@pytest.mark.parametrize("kind", ["jsonl", "json", "jsonl.gz"])
def test_full_rows_are_read_from_tables_too_and_a_last_line_needs_no_end(kind, tmp_path):
    path = tmp_path / f"metadata.{kind}"
    text = json.dumps([PAIR]) if kind == "json" else json.dumps(PAIR)
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    assert whole(path) == ([PairRecord.from_dict(PAIR)], [])


@pytest.mark.parametrize("limit", [None, 7])
def test_shards_cover_every_pair_once_and_each_reject_too(limit, tmp_path):
    rows = [
        {
            **PAIR,
            "pair_id": f"P{i}-{m}",
            "prompt_id": prompt_id(f"cat {i}"),
            "prompt": f"cat {i}",
            "file_name": f"{i}-{m}",
        }
        for i in range(9)
        for m in "ab"
    ]
    path = write(tmp_path / "metadata.jsonl", [*rows[:4], {"pair_id": "half"}, {**rows[0], "prompt": "x"}, *rows[4:]])
    for read in (refs, whole):
        pairs, rejects = read(path, limit=limit)
        parts = [read(path, limit=limit, shard=Shard(index, 3)) for index in (1, 2, 3)]
        assert sorted(pair.pair_id for part, _ in parts for pair in part) == sorted(pair.pair_id for pair in pairs)
        assert sorted(map(str, (row for _, said in parts for row in said))) == sorted(map(str, rejects))
        assert len(pairs) == (limit or 18) and len(rejects) == 2


def test_a_prompt_of_a_megabyte_is_read(tmp_path):
    rows = [{"prompt": "x" * 1_000_000, "file_name": "a.png"}]
    (pair,), _ = refs(write(tmp_path / "t.csv", rows))
    assert pair.prompt == rows[0]["prompt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"file_name,caption\na.png,cat\n", r"t\.csv: lacks the column prompt; it has file_name, caption"),
        ("t.csv", b"", r"t\.csv: lacks the columns file_name and prompt; it has none"),
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
        refs(tmp_path / name)


def test_a_column_that_is_named_has_to_be_there(tmp_path):
    path = write(tmp_path / "t.csv", [{"prompt": "a cat", "file_name": "a.png"}])
    with pytest.raises(DataFileError, match=r"t\.csv: lacks the column nope; it has prompt, file_name"):
        refs(path, columns={"pair_id": "nope"})


def test_what_is_not_there_or_not_clear_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"gone\.csv: cannot be read"):
        refs(tmp_path / "gone.csv")
    with pytest.raises(DataFileError, match="in this folder, found none"):
        refs(tmp_path)
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
        assert all(isinstance(pair, PairRef) for pair in refs(path)[0])
    except DataFileError as error:
        assert path.name in str(error)
