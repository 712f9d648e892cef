"""Whatever people keep prompts in is read, and what is no prompt is counted, not a crash."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.prompts import sources
from dyneval.prompts.clean import Cleaner, Limits
from dyneval.prompts.drops import Drops

LONG = "a knight in a field, " * 5000


def read(path, column="prompt"):
    batches = list(sources.read(sources.Source(str(path), path), column))
    prompts = [prompt for batch in batches for prompt in batch.rows["prompt"]]
    return prompts, [bad for batch in batches for bad in batch.unreadable]


def clean(rows, **limits):
    drops = Drops()
    frame = pl.DataFrame(rows, schema={"prompt": pl.String, "prompt_nsfw": pl.Float32, "image_nsfw": pl.Float32})
    kept = Cleaner(Limits(**limits), drops)(frame)
    return kept["prompt"].to_list(), drops.summary()


def row(prompt, prompt_nsfw=None, image_nsfw=None):
    return {"prompt": prompt, "prompt_nsfw": prompt_nsfw, "image_nsfw": image_nsfw}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_text_in_any_unicode(tmp_path, encoding):
    path = tmp_path / "p.txt"
    bom = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(bom + "café au lait\nfür Elise\r\n".encode(encoding))
    assert [p.strip("\ufeff") for p in read(path)[0]] == ["café au lait", "für Elise"]


def test_text_with_mixed_encodings(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes("café\n".encode() + "café “x”\n".encode("cp1252") + b"nul \x00 inside\n\n")
    assert read(path)[0] == ["café", "café “x”", "nul \x00 inside", ""]


def test_csv_with_quotes_lines_and_nuls(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f'id,prompt\n1,"a, ""b""\nc"\n2,"{LONG}"\n3\n4,nul\x00,extra\n', "utf-8")
    assert read(path)[0] == ['a, "b"\nc', LONG, None, "nul\x00"]


def test_jsonl_counts_what_is_no_prompt(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [
        '{"prompt": "good"}',
        "{broken",
        "[1]",
        '{"text": "x"}',
        '{"prompt": 5}',
        '{"prompt": null}',
        '{"prompt": "\\ud800 half"}',
    ]
    path.write_text("\n".join(rows), "utf-8")
    prompts, bad = read(path)
    assert prompts == ["good", None, "? half"]
    assert [where.rsplit(":", 1)[1] for where, _ in bad] == ["2", "3", "4", "5"]


def test_json_arrays_of_objects_or_texts(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"prompt": "a"}, "b", 3]), "utf-8")
    prompts, bad = read(path)
    assert prompts == ["a", "b"] and len(bad) == 1


def test_parquet_reads_only_what_it_needs(tmp_path):
    path = tmp_path / "metadata.parquet"
    frame = pl.DataFrame({"prompt": ["a", None], "image_nsfw": [0.1, 2.0], "prompt_nsfw": [0.2, 0.3], "seed": [1, 2]})
    frame.write_parquet(path)
    batch = next(sources.read(sources.Source("x", path)))
    assert batch.rows.columns == ["prompt", "prompt_nsfw", "image_nsfw"]
    assert batch.rows["image_nsfw"].to_list() == pytest.approx([0.1, 2.0])


def test_hugging_face_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"prompt": ["a cat", "a dog"], "other": [1, 2]})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "set"))
    assert read(tmp_path / "set")[0] == ["a cat", "a dog"]


def test_globs_folders_and_order(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text("x\n")
    found = sources.find([str(tmp_path / "*.txt"), str(tmp_path / "a.txt")])
    assert [source.name for source in found] == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"text\nx\n", "no column 'prompt'; it has text"),
        ("p.csv", b"", "no column 'prompt'; it has none"),
        ("p.parquet", b"not parquet", "cannot be read"),
        ("p.docx", b"x", "unknown kind of file"),
        ("p.json", b"{", "is not JSON"),
        ("p.json", b"{}", "expected a JSON array"),
    ],
)
def test_inputs_that_cannot_be_read_say_why(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(sources.SourceError, match=r"nowhere\.parquet: no such file"):
        sources.find(["nowhere.parquet"])


def test_cleaning_gives_every_dropped_row_a_reason():
    good = "a red lighthouse above a stormy sea"
    rows = [
        row(good), row(f"  {good}\n"), row(good), row(None), row(""), row("short"), row("x" * 5000),
        row("a perfectly harmless long enough prompt", 0.9), row("another harmless and long enough prompt", 0.0, 2.0),
    ]  # fmt: skip
    kept, dropped = clean(rows)
    assert kept == [good]
    assert dropped == {
        "missing": 1, "nsfw_prompt": 1, "nsfw_image": 1, "exact_duplicate": 2, "too_short": 2, "too_long": 1,
    }  # fmt: skip


def test_thirty_characters_are_enough():
    assert clean([row("x" * 30), row("y" * 29)])[0] == ["x" * 30]


def test_a_prompt_with_one_harmless_image_stays():
    kept, _ = clean(
        [
            row("the same prompt for two different images", 0.1, 0.9),
            row("the same prompt for two different images", 0.1, 0.1),
        ]
    )
    assert len(kept) == 1


@settings(max_examples=100)
@given(st.lists(st.one_of(st.none(), st.text(max_size=80)), max_size=12))
def test_clean_prompts_are_single_lines_of_printable_text(prompts):
    encodable = [None if p is None else p.encode("utf-8", "replace").decode() for p in prompts]
    kept, dropped = clean([row(p) for p in encodable], min_chars=1)
    assert len(kept) + sum(dropped.values()) == len(prompts)
    for prompt in kept:
        assert prompt == " ".join(prompt.split(" ")).strip() and "  " not in prompt
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202e\ufeff" for c in prompt)
    assert len(set(kept)) == len(kept)


def test_reasons_are_checked():
    with pytest.raises(ValueError, match="unknown reason"):
        Drops().count("whatever", 1)
