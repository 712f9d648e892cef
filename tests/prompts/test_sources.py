"""Whatever people keep prompts in is read, and what is no prompt is counted, not a crash."""

import gzip
import json
import unicodedata
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.errors import DataFileError
from dyneval.prompts import sources
from dyneval.prompts.clean import Cleaner, Limits
from dyneval.prompts.filters import Drops

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
    path.write_text(f'id,prompt\n1,"a, ""b""\nc"\n2,"{LONG}"\n3,\n4,nul\x00\n5\n6,one,surplus\n', "utf-8")
    prompts, bad = read(path)
    assert prompts == ['a, "b"\nc', LONG, None, "nul\x00"]
    assert [(row.key.rsplit(":", 1)[1], row.reason[:40]) for row in bad] == [
        ("7", "row 5 has 1 cells, expected 2 (id, promp"),
        ("8", "row 6 has 3 cells, expected 2 (id, promp"),
    ]


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
    assert [row.key.rsplit(":", 1)[1] for row in bad] == ["2", "3", " row 4", " row 5"]


LINES = ["a café by a harbour", "two foxes — in the snow"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_every_kind_of_text_is_cut_into_the_same_prompts(tmp_path, code, end):
    texts = {
        "p.txt": LINES,
        "p.csv": ["id,prompt", *(f'1,"{line}"' for line in LINES)],
        "p.tsv": ["prompt\tid", *(f"{line}\t1" for line in LINES)],
        "p.jsonl": [json.dumps({"prompt": line}, ensure_ascii=False) for line in LINES],
        "p.json": ["[", json.dumps(LINES[0], ensure_ascii=False) + ",", json.dumps({"prompt": LINES[1]}), "]"],
    }
    for name, lines in texts.items():
        (tmp_path / name).write_bytes(end.join(lines).encode(code))
        assert read(tmp_path / name) == (LINES, []), name


@pytest.mark.parametrize(
    "line", ["рыжая лиса в снегу", "η γάτα κοιμάται", "قطة تنام على كرسي", "en rød ræv", "a cat “sleeps”"]
)
@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_seen_in_every_alphabet(tmp_path, line, code):
    (tmp_path / "p.txt").write_bytes(f"{line}\n{line} 2".encode(code))
    assert read(tmp_path / "p.txt")[0] == [line, f"{line} 2"]


def test_one_letter_a_line_is_no_utf_16(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"a\nb\n\n\nc\n")
    assert read(tmp_path / "p.txt")[0] == ["a", "b", "", "", "c"]


@pytest.mark.parametrize(
    ("code", "line"), [("cp1251", "рыжая лиса в снегу"), ("gbk", "雪中的狐狸"), ("shift-jis", "雪の中のきつね")]
)
def test_letters_of_other_encodings_are_no_accents(tmp_path, code, line):
    (tmp_path / "p.txt").write_bytes(b"a fox in the snow\n" + line.encode(code) + b"\ncaf\xe9\n")
    prompts, bad = read(tmp_path / "p.txt")
    assert prompts == ["a fox in the snow", "café"]
    assert [row.key.rsplit(":", 1)[1] for row in bad] == ["2"] and "neither UTF-8 nor Windows-1252" in bad[0].reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "prompt,prompt\na,b\n"),
        ("p.csv", "prompt,id, prompt \na,1,b\n"),
        ("p.tsv", "prompt\tid\tprompt\na\t1\tb\n"),
        ("p.csv", "prompt,prompt_nsfw,prompt_nsfw\na,0,1\n"),
    ],
)
def test_two_columns_of_one_name_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataFileError, match="more than one column is called 'prompt"):
        read(tmp_path / name)


def test_two_keys_of_one_name_are_a_row_that_is_told(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "prompt": "b"}\n{"prompt": "a \\"prompt\\" in \\"prompt\\""}\n')
    prompts, bad = read(tmp_path / "p.jsonl")
    assert prompts == ['a "prompt" in "prompt"']
    assert bad[0].reason == "has more than one 'prompt'; which one counts is not known"


def test_packed_files_are_unpacked(tmp_path):
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(("prompt\n" + "\n".join(LINES)).encode()))
    assert read(tmp_path / "p.txt.gz")[0] == LINES == read(tmp_path / "p.csv.gz")[0]


@pytest.mark.parametrize(
    "values", [[{"text": "a", "lang": "en"}], [["a", "b"]], [5], [1.5], [True], [date(2024, 5, 1)]], ids=str
)
def test_a_parquet_column_that_holds_no_texts_is_refused_by_name(tmp_path, values):
    pl.DataFrame({"prompt": values}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(DataFileError, match=r"p\.parquet: the column 'prompt' holds .*, expected text"):
        read(tmp_path / "p.parquet")


def test_parquet_of_dictionaries_bytes_and_nulls(tmp_path):
    columns = {
        "kind": pl.Series(["a", "b", None], dtype=pl.Categorical),
        "bytes": pl.Series([b"a", "é".encode(), b"\xff"]),
        "nulls": pl.Series([None] * 3, dtype=pl.Null),
        "prompt_nsfw": ["0.5", "none", None],
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet", "kind")[0] == ["a", "b", None]
    assert read(tmp_path / "p.parquet", "bytes")[0] == ["a", "é", None]
    assert read(tmp_path / "p.parquet", "nulls")[0] == [None] * 3
    batch = next(sources.read(sources.Source("x", tmp_path / "p.parquet"), "kind"))
    assert batch.rows["prompt_nsfw"].to_list() == [0.5, None, None]


def test_a_parquet_bomb_is_refused_before_it_is_unpacked(tmp_path):
    pq.write_table(pa.table({"prompt": ["x" * (1 << 28) + "y"]}), tmp_path / "p.parquet", compression="zstd")
    with pytest.raises(DataFileError, match="unpacks to more than 200 times its size"):
        read(tmp_path / "p.parquet")


@pytest.mark.parametrize("name", ["prompt_nsfw", "image_nsfw"])
def test_a_score_that_is_not_a_number_is_no_score(tmp_path, name):
    nan, good = float("nan"), "a red lighthouse above a stormy sea"
    assert clean([row(good) | {name: nan}, row(good + " at dawn") | {name: 0.9}]) == (
        [good],
        {"nsfw_" + name.split("_")[0]: 1},
    )
    (tmp_path / "p.csv").write_text(f"prompt,{name}\na,nan\nb,NaN\nc,0.2\nd,none\n")
    (tmp_path / "p.jsonl").write_text(
        "".join(
            f'{{"prompt": "{p}", "{name}": {n}}}\n' for p, n in zip("abcd", ("NaN", '"nan"', 0.2, "null"), strict=True)
        )
    )
    for file in ("p.csv", "p.jsonl"):
        (batch,) = sources.read(sources.Source("x", tmp_path / file))
        assert Cleaner(Limits(min_chars=1), Drops())(batch.rows)["prompt"].to_list() == list("abcd")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a café in Orléans in the early morning", None),
        ("a bridge at 5 Å above a river of glass", "a bridge at 5 \u212b above a river of glass"),
        ("한국의 오래된 마을에 눈이 내리는 겨울 아침의 조용한 풍경과 산", None),
        ("a ring on the letter ạ̇, made of solid gold", "a ring on the letter a\u0307\u0323, made of solid gold"),
    ],
)
def test_two_spellings_of_one_letter_are_one_prompt(one, other):
    kept, dropped = clean([row(other or unicodedata.normalize("NFD", one)), row(one)])
    assert kept == [unicodedata.normalize("NFC", one)]
    assert dropped == {"exact_duplicate": 1}


def test_wide_and_narrow_letters_make_no_other_prompt():
    good = "a red lighthouse, 2 boats and a stormy sea"
    wide = "".join(chr(ord(c) + 0xFEE0) if c != " " else "\u3000" for c in good)
    assert clean([row(wide), row(good)]) == ([good], {"exact_duplicate": 1})
    narrow, common = (
        "ｶﾞﾗｽの猫が窓辺で眠っている、柔らかな朝の光の中で、静かな部屋",
        "ガラスの猫が窓辺で眠っている、柔らかな朝の光の中で、静かな部屋",
    )
    assert clean([row(narrow), row(common)]) == ([common], {"exact_duplicate": 1})
    kept = "x² + ½ of the ﬁgures … in the snow at night"
    assert clean([row(kept)])[0] == [kept]


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
        ("p.csv", b"text\nx\n", "lacks the column prompt; it has text"),
        ("p.csv", b"", "lacks the column prompt; it has none"),
        ("p.parquet", b"not parquet", "cannot be read"),
        ("p.docx", b"x", r"files called \*\.docx are not read; expected \.jsonl"),
        ("p.json", b"{", "is not JSON"),
        ("p.json", b"{}", "expected a list of prompts"),
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
        Drops().keep("whatever", pl.DataFrame({"prompt": ["a"]}), pl.Series([False]))
