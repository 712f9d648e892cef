"""Prompt files from outside."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.errors import DataFileError, GenerationError
from dyneval.generation.prompts import read_prompts
from dyneval.records import prompt_id


def test_step_1s_parquet_is_read_by_prompt_id(tmp_path):
    frame = pl.DataFrame(
        {
            "prompt_id": ["P3", "P1", "P2"],
            "prompt": ["c", "a", "b"],
            "tier": [3, 1, 2],
            "categories": [["x"], [], None],
            "complexity": [1.0, 2.0, 3.0],
        }
    )
    frame.write_parquet(tmp_path / "prompts.parquet")
    read = read_prompts(tmp_path / "prompts.parquet")
    assert read.frame["prompt"].to_list() == ["a", "b", "c"]
    assert read.frame["categories"].to_list() == [[], [], ["x"]]
    assert read.rejects == []


def test_a_last_line_without_newline_is_a_prompt(tmp_path):
    lines = [json.dumps({"prompt": text, "tier": 1}) for text in ("a cat", "a dog")]
    (tmp_path / "p.jsonl").write_text("\ufeff" + "\n".join(lines), "utf-8")
    assert sorted(read_prompts(tmp_path / "p.jsonl").frame["prompt"]) == ["a cat", "a dog"]


def test_a_row_that_says_the_same_again_counts_once(tmp_path):
    row = {"prompt_id": "P1", "prompt": "a cat", "tier": 1, "categories": ["x"]}
    for name, more, repeated in (("p.txt", {}, 1), ("p.jsonl", {}, 1), ("p.jsonl", {"categories": ["y"]}, 0)):
        rows = [row, {**row, **more}, {**row, "prompt_id": "P2", "prompt": " "}]
        written = [line["prompt"] if name == "p.txt" else json.dumps(line) for line in rows]
        (tmp_path / name).write_text("\n".join(written))
        read = read_prompts(tmp_path / name)
        assert (len(read.frame), read.repeated) == (1, repeated)
        assert [reject.key for reject in read.rejects] == ([] if name == "p.txt" else ["P1"] * (1 - repeated) + ["P2"])


def test_a_text_file_takes_its_tier_from_its_name(tmp_path):
    for name, tier in (("tier-2-prompts.txt", 2), ("mine.txt", None)):
        (tmp_path / name).write_text("a cat\n\n  a dog \n", "utf-8")
        read = read_prompts(tmp_path / name)
        assert sorted(read.frame["prompt"]) == ["a cat", "a dog"]
        assert set(read.frame["tier"]) == {tier}
        assert set(read.frame["prompt_id"]) == {prompt_id("a cat"), prompt_id("a dog")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "read from .parquet, .jsonl or .txt"),
        ("x.parquet", b"PAR1 not", "cannot be read as Parquet"),
        ("x.jsonl", b"{not json\n", "x.jsonl:1: is not JSON"),
        ("x.txt", b"\xff\xfe\x00", "cannot be read as UTF-8"),
        ("x.txt", b"\n\n", "holds no usable prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name)


def test_a_wrong_column_type_is_named(tmp_path):
    pl.DataFrame({"prompt": ["a"], "tier": ["hard"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(GenerationError, match="column of another type"):
        read_prompts(tmp_path / "x.parquet")
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "y.parquet")
    with pytest.raises(GenerationError, match="no column 'prompt'"):
        read_prompts(tmp_path / "y.parquet")


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_file_in_any_unicode_and_with_any_line_end(tmp_path, code, end):
    prompts = ["a café at dawn", "a fox\u2028in the snow"]
    (tmp_path / "tier-1.txt").write_bytes(end.join(prompts).encode(code))
    assert sorted(read_prompts(tmp_path / "tier-1.txt").frame["prompt"]) == sorted(prompts)


def test_a_column_of_structures_is_no_prompt(tmp_path):
    pl.DataFrame({"prompt": [{"text": "a", "lang": "en"}], "tier": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataFileError, match=r"x\.parquet: the column 'prompt' holds Struct.*, expected text"):
        read_prompts(tmp_path / "x.parquet")
    pl.DataFrame({"prompt": ["a"], "prompt_id": [7], "tier": [1]}).write_parquet(tmp_path / "x.parquet")
    assert read_prompts(tmp_path / "x.parquet").frame["prompt_id"].to_list() == ["7"]


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3))
ROW = st.fixed_dictionaries({}, optional={name: JSON for name in ("prompt_id", "prompt", "tier", "categories")})


@settings(max_examples=60)
@given(st.lists(ROW, max_size=6))
def test_no_row_passes_that_could_not_be_drawn(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "prompts.jsonl"
    good = {"prompt_id": "ok", "prompt": "a cat", "tier": 1, "categories": []}
    path.write_text("".join(json.dumps(row) + "\n" for row in [good, *rows]))
    read = read_prompts(path)
    assert len(read.frame) + len(read.rejects) + read.repeated == len(rows) + 1
    for row in read.frame.iter_rows(named=True):
        assert row["prompt"].strip()
        assert row["tier"] in (1, 2, 3, None)
        assert "/" not in row["prompt_id"]
        assert not row["prompt_id"].startswith(".")
