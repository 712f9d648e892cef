"""GenDB in other forms, and back."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from dyneval.cli.gendb import main
from dyneval.errors import GenerationError
from dyneval.files import images
from dyneval.generation.contact_sheet import HEADER_HEIGHT, LABEL_WIDTH, THUMBNAIL, draw_contact_sheet
from dyneval.generation.exporting import ExportCounts, read_records, write_parquet, write_webdataset
from tests import processes

GENDB = Path(__file__).parents[2] / "image_gen_scripts" / "gendb.py"
HUB_SERVER = Path(__file__).parents[1] / "qwenvl" / "hub_server.py"
MIXED = [
    {"revision": None, "details": {"cost_usd": 0.04}, "arguments": {"size": "1024x1024"}, "safety": None},
    {"revision": "abc", "arguments": {"height": 32, "guidance_scale": 4}, "safety": False, "prompt_suffix": ", 4K"},
    {"revision": "abc", "arguments": {"height": 32, "guidance_scale": 3.5, "negative_prompt": " "}, "weights": {}},
]
"""Settings as different families record them."""


class Said:
    """What a command logged and wrote to stderr."""

    def __init__(self, caplog, capsys):
        self.set_level, self._caplog, self._capsys, self._error = caplog.set_level, caplog, capsys, ""

    @property
    def text(self):
        self._error += self._capsys.readouterr().err
        return self._caplog.text + self._error


@pytest.fixture
def said(caplog, capsys):
    return Said(caplog, capsys)


@pytest.fixture
def gendb(studio):
    studio.write_prompts([f"cat {n}" for n in range(9)], categories=["animal_present", "single_object"])
    studio.run()
    path = studio.output / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["settings"] = {**MIXED[number % 3], "sidecars": [".truth.json"]}
        if number % 3 == 0:
            del row["seed"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return studio.output


def load(kind, folder):
    from datasets import load_dataset

    return load_dataset(kind, data_dir=str(folder), split="train", cache_dir=str(folder.parent / "cache"))


def test_the_folder_itself_is_an_image_folder(gendb):
    table = load("imagefolder", gendb)
    assert table.num_rows == 9
    row = table[0]
    assert row["image"].size == (32, 32)
    assert row["categories"] == ["animal_present", "single_object"]
    assert row["settings"]["arguments"]["size"] == "1024x1024"


def test_parquet_shards_hold_images_and_records(gendb, tmp_path):
    counts = write_parquet(gendb, tmp_path / "parquet", shard_bytes=400)
    files = sorted(path.name for path in (tmp_path / "parquet").iterdir())
    assert counts.written == 9
    assert counts.shards == len(files) > 1
    assert files[0] == f"train-00000-of-{counts.shards:05d}.parquet"
    table = load("parquet", tmp_path / "parquet")
    by_id = {row["pair_id"]: row for row in table}
    for record in read_records(gendb, ExportCounts()):
        row = by_id[record.pair_id]
        assert row["image"].tobytes() == images.load_image(gendb / record.file_name).tobytes()
        assert json.loads(row["settings"]) == record.settings
        assert row["seed"] == record.seed
        assert json.loads(row["sidecars"]) == {".truth.json": record.prompt}
    with pytest.raises(GenerationError, match="files already; choose another folder"):
        write_parquet(gendb, tmp_path / "parquet")


def test_webdataset_tars_hold_image_and_record_under_one_key(gendb, tmp_path):
    counts = write_webdataset(gendb, tmp_path / "tars", shard_bytes=400)
    assert counts.written == 9
    records = {record.pair_id: record for record in read_records(gendb, ExportCounts())}
    seen = 0
    for path in sorted((tmp_path / "tars").glob("part-*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for image, row in zip(members[::2], members[1::2], strict=True):
                assert image.name.split(".")[0] == row.name.split(".")[0]
                record = records[json.loads(tar.extractfile(row).read())["pair_id"]]
                content = tar.extractfile(image).read()
                assert content == (gendb / record.file_name).read_bytes()
                Image.open(io.BytesIO(content)).load()
                seen += 1
    assert seen == 9
    assert load("webdataset", tmp_path / "tars").num_rows == 9


def test_what_is_broken_is_not_exported(gendb, tmp_path):
    first, second, *_ = read_records(gendb, ExportCounts())
    (gendb / first.file_name).write_bytes(b"\x89PNG torn")
    (gendb / second.file_name).with_suffix(".truth.json").unlink()
    with (gendb / "metadata.jsonl").open("a") as file:
        file.write('{"pair_id": "x"}\n')
        outside = {**first.to_dict(), "pair_id": "outside", "file_name": "../../secret.png"}
        file.write(json.dumps(outside) + "\n")
    counts = write_parquet(gendb, tmp_path / "parquet")
    assert (counts.written, counts.rejected) == (7, 4)


@pytest.fixture
def models(tmp_path):
    """A table of models of one's own, as a flag."""
    (tmp_path / "mine.toml").write_text('[stand-in]\nname = "Stand-In"\ntier = 1\n')
    return ["--models", str(tmp_path / "mine.toml")]


def test_the_mapping_goes_out_and_comes_back(gendb, models, tmp_path):
    before = {record.pair_id: record for record in read_records(gendb, ExportCounts())}
    mapping = tmp_path / "mapping.json"
    assert main(["to-mapping", str(gendb), str(mapping)]) == 0
    entry = json.loads(mapping.read_text())["prompts"][0]
    assert list(entry) == ["pair_id", "text_id", "prompt", "image_path", "generation_model"]
    (gendb / "metadata.jsonl").unlink()
    assert main(["from-mapping", str(mapping), str(gendb), *models]) == 0
    after = {record.pair_id: record for record in read_records(gendb, ExportCounts())}
    assert len(after) == 9
    for pair_id, record in after.items():
        old = before[pair_id]
        assert (record.file_name, record.prompt_id, record.prompt, record.sha256, record.width, record.tier) == (
            *(old.file_name, old.prompt_id, old.prompt, old.sha256, old.width, old.tier),
        )
        assert record.seed is None
    content = (gendb / "metadata.jsonl").read_bytes()
    assert main(["from-mapping", str(mapping), str(gendb), *models]) == 0
    assert (gendb / "metadata.jsonl").read_bytes() == content


def test_a_hostile_mapping_costs_its_own_entries_only(gendb, models, tmp_path):
    (gendb / "metadata.jsonl").unlink()
    good = {"pair_id": "D250K-000001", "text_id": 7, "prompt": "a cat", "generation_model": "Stand-In"}
    image = next(gendb.glob("stand-in/*.png")).relative_to(gendb)
    entries = [
        {**good, "image_path": str(image)},
        {**good, "pair_id": "D2", "image_path": "../../../etc/passwd"},
        {**good, "pair_id": "D3", "image_path": "stand-in/missing.png"},
        {**good, "pair_id": "D4", "image_path": str(image), "generation_model": "Unknown"},
        {**good, "pair_id": "../D5", "image_path": str(image)},
        {**good, "pair_id": "D6", "image_path": str(image), "prompt": " "},
        "not an object",
    ]
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"prompts": entries}))
    assert main(["from-mapping", str(mapping), str(gendb), *models]) == 1
    first, second = read_records(gendb, ExportCounts())
    assert (first.prompt_id, first.tier, second.pair_id, second.tier) == ("7", 1, "D4", None)
    assert len((gendb / "metadata.rejects.jsonl").read_text().splitlines()) == 5
    mapping.write_text("[]")
    assert main(["from-mapping", str(mapping), str(gendb), *models]) == 2


def test_pairs_without_a_tier_are_exported_and_shown_too(gendb, tmp_path):
    path = gendb / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "tier"}) + "\n" for row in rows))
    assert write_parquet(gendb, tmp_path / "parquet").written == 9
    assert load("parquet", tmp_path / "parquet")[0]["tier"] is None
    assert draw_contact_sheet(gendb, tmp_path / "sheet.png").written > 0


def test_the_contact_sheet_shows_each_model_and_category_once(studio):
    for slug, categories in (("one", ["a", "b"]), ("two", ["b"])):
        studio.write_prompts(["a cat", "a dog", "a fox"], categories=categories)
        studio.run(studio.model(slug))
    counts = draw_contact_sheet(studio.output, studio.folder / "sheet.png")
    assert counts.written == 3
    sheet = images.load_image(studio.folder / "sheet.png")
    assert sheet.size == (LABEL_WIDTH + 2 * THUMBNAIL, HEADER_HEIGHT + 2 * THUMBNAIL)

    def cell(column, row):
        return sheet.getpixel((LABEL_WIDTH + column * THUMBNAIL + 64, HEADER_HEIGHT + row * THUMBNAIL + 64))

    assert cell(0, 0) != cell(1, 0)  # another image in every category, where there is one
    assert cell(0, 1) == (255, 255, 255)
    assert cell(1, 1) != (255, 255, 255)


@pytest.mark.parametrize("write", [write_parquet, write_webdataset])
def test_a_sidecar_that_is_a_link_out_of_the_folder_is_not_exported(gendb, tmp_path, write):
    (tmp_path / "secret").write_text("TOPSECRET")
    record = next(iter(read_records(gendb, ExportCounts())))
    sidecar = (gendb / record.file_name).with_suffix(".truth.json")
    sidecar.unlink()
    sidecar.symlink_to(tmp_path / "secret")
    counts = write(gendb, tmp_path / "out")
    assert (counts.written, counts.rejected) == (8, 1)
    assert not any(b"TOPSECRET" in path.read_bytes() for path in (tmp_path / "out").iterdir())


@pytest.fixture
def mixed(studio):
    """Two models and three categories; one image is there twice."""
    for slug, categories in (("one", ["a", "b"]), ("two", ["b", "c"])):
        studio.write_prompts(["a cat", "a dog", "a fox", "a hen"], categories=categories)
        studio.run(studio.model(slug))
    path = studio.output / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    first, second = rows[0], rows[1]
    (studio.output / second["file_name"]).write_bytes((studio.output / first["file_name"]).read_bytes())
    second["sha256"] = first["sha256"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return studio.output


def test_statistics_count_models_categories_and_images_that_are_there_twice(mixed, capsys):
    assert main(["stats", str(mixed), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["prompts"], found["duplicates"], found["rejected"]) == (8, 4, 1, 0)
    assert [(row["generation_model"], row["pairs"], row["sizes"]) for row in found["models"]] == [
        ("one", 4, {"32x32": 4}),
        ("two", 4, {"32x32": 4}),
    ]
    assert {row["category"]: row["pairs"] for row in found["categories"]} == {"a": 4, "b": 8, "c": 4}
    assert main(["stats", str(mixed), "--model", "two"]) == 0
    assert "4 pairs of 4 prompts" in capsys.readouterr().out


def test_images_that_are_there_twice_are_listed_and_left_out(mixed, tmp_path, capsys):
    assert main(["duplicates", str(mixed)]) == 0
    assert capsys.readouterr().out == '["P0000-one", "P0001-one"]\n'
    assert main(["filter", str(mixed), str(tmp_path / "part"), "--unique"]) == 0
    assert "P0001-one" not in (tmp_path / "part" / "metadata.jsonl").read_text()
    assert len(list(read_records(tmp_path / "part", ExportCounts()))) == 7


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--model", "one"], {"one": 4}),
        (["--category", "c", "--limit", "3"], {"two": 3}),
        (["--where", "generation_model = 'one' AND prompt_id > 'P0001'"], {"one": 2}),
    ],
)
def test_a_part_of_a_gendb_is_a_gendb_with_the_same_records_and_files(flags, kept, mixed, tmp_path):
    part = tmp_path / "part"
    assert main(["filter", str(mixed), str(part), *flags]) == 0
    lines = (part / "metadata.jsonl").read_bytes().splitlines()
    assert set(lines) <= set((mixed / "metadata.jsonl").read_bytes().splitlines())
    found = [json.loads(line) for line in lines]
    assert Counter(row["generation_model"] for row in found) == kept
    for row in found:
        for name in (row["file_name"], row["file_name"].replace(".png", ".truth.json")):
            assert (part / name).read_bytes() == (mixed / name).read_bytes()
    assert main(["filter", str(mixed), str(part), *flags]) == 2  # there is one already
    assert main(["check", str(part)]) == 0


@pytest.mark.parametrize(
    "where", ["no_column > 3", "prompt_id > 3", "seed", "width >", "tier = 'one'", "prompt_id ~ '('"]
)
@pytest.mark.parametrize("verb", ["stats", "duplicates", "filter", "contact-sheet"])
def test_a_condition_that_is_none_is_told_in_a_line(verb, where, mixed, tmp_path, said):
    output = [str(tmp_path / "out.png")] if verb in ("filter", "contact-sheet") else []
    assert main([verb, str(mixed), *output, "--where", where, "--limit", "1"]) == 2
    (said,) = said.text.strip().splitlines()[-1:]
    assert f"--where {where!r}: " in said and "the columns are pair_id" in said
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    "verb", ["stats", "duplicates", "check", "filter", "parquet", "webdataset", "hub", "to-mapping"]
)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "onne"], "--model onne; did you mean one?"),
        (["--model", "one", "--model", "sdxl"], "--model sdxl; there are one, two"),
        (["--category", "cat"], "--category cat; there are a, b, c"),
        (["--tier", "3", "--where", "width > 3"], "no pair is meant by --tier 3 --where 'width > 3'"),
    ],
)
def test_flags_that_mean_no_pair_are_told_and_nothing_is_written(verb, flags, words, mixed, tmp_path, said):
    output = [] if verb in ("stats", "duplicates", "check") else ["--output", str(tmp_path / "out")]
    assert main([verb, str(mixed), *output, *flags]) == 2
    assert words in said.text
    assert not (tmp_path / "out").exists() and not (mixed / "broken.jsonl").exists()


def rewrite(gendb, change):
    """Apply `change` to every row of the metadata."""
    path = gendb / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_numbers_that_no_column_holds_cost_no_command(mixed, tmp_path, capsys):
    def enlarge(row):
        if row["generation_model"] == "one":
            row.update(seed=2**63, width=2**31, height=2**70)
            row["settings"].update(seconds=10**400, details={"cost_usd": True}, fingerprint=["odd"])

    rewrite(mixed, enlarge)
    assert main(["stats", str(mixed), "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)["models"]
    assert (one["pairs"], one["mean_seconds"], one["cost_usd"], one["sizes"]) == (4, None, 0, {"?": 4})
    assert two["sizes"] == {"32x32": 4}
    assert main(["stats", str(mixed)]) == 0
    assert main(["filter", str(mixed), str(tmp_path / "part"), "--where", "width > 2000000000"]) == 0
    assert f'"height": {2**70}' in (tmp_path / "part" / "metadata.jsonl").read_text()
    assert main(["to-mapping", str(mixed), str(tmp_path / "mapping.json")]) == 0
    assert main(["contact-sheet", str(mixed), str(tmp_path / "sheet.png")]) == 0


@contextmanager
def without_privileges():
    """As a user whom the permissions of files hold for."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("words", [["to-mapping"], ["check", "--output"]])
def test_the_metadata_are_no_output(words, gendb, said):
    metadata = gendb / "metadata.jsonl"
    before = metadata.read_bytes()
    assert main([words[0], str(gendb), *words[1:], str(metadata)]) == 2
    assert "is an input and would be overwritten" in said.text and metadata.read_bytes() == before


def test_a_gendb_that_cannot_be_written_to_is_read(mixed, capsys):
    assert main(["stats", str(mixed)]) == 0  # imports what others may not read
    (mixed / ".index.parquet").unlink()
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        Path(name).chmod(0o755)
        shutil.copytree(mixed, gendb := Path(name, "gendb"))
        gendb.chmod(0o555)
        with without_privileges():
            assert main(["stats", str(gendb)]) == 0
            assert main(["check", str(gendb)]) == 2  # before any work
        gendb.chmod(0o755)
        told = capsys.readouterr()
        assert "8 pairs of 4 prompts" in told.out
        assert "broken.jsonl: cannot be written; name another --output" in told.err
        assert not (gendb / ".index.parquet").exists()


@pytest.mark.parametrize("flags", [["--limit", "0"], ["--limit", "-3"], ["--shard-mb", "0"], ["--shard-mb", "1.5"]])
def test_numbers_that_make_no_sense_are_refused(flags, mixed, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["parquet", str(mixed), str(tmp_path / "out"), *flags])
    assert ended.value.code == 2
    assert f"argument {flags[0]}: expected a whole number of 1 or more, found '{flags[1]}'" in capsys.readouterr().err


def test_what_a_killed_run_left_is_told(mixed, said):
    part = mixed / ".parts" / "metadata-one.jsonl"
    lines = (mixed / "metadata.jsonl").read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:3]))
    (mixed / "metadata.jsonl").write_text("".join(lines[3:]))
    assert main(["stats", str(mixed)]) == 0
    assert f"has records in {mixed / '.parts'}: the next `dyneval generate` into this folder adds them" in said.text
    (mixed / "metadata.jsonl").unlink()
    assert main(["stats", str(mixed)]) == 2
    assert f"no such file; a run that was stopped, or is still going on, has records in {mixed}" in said.text


def test_a_folder_with_files_of_others_is_no_place_for_a_part(mixed, tmp_path, said):
    theirs = tmp_path / "part" / "one" / "P0000-one.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert main(["filter", str(mixed), str(tmp_path / "part")]) == 2
    assert "is there and not empty; name a new folder" in said.text
    assert theirs.read_text() == "mine" and not (tmp_path / "part" / "metadata.jsonl").exists()


def test_of_a_pair_that_is_not_whole_nothing_is_copied(mixed, tmp_path, said):
    lost = mixed / "one" / "P0000-one.truth.json"
    lost.unlink()
    assert main(["filter", str(mixed), str(tmp_path / "part"), "--model", "one"]) == 1
    assert not (tmp_path / "part" / "one" / "P0000-one.png").exists()
    assert f"P0000-one: {lost.resolve()}: no such file" in said.text
    for path in mixed.glob("two/*.png"):
        path.unlink()
    assert main(["filter", str(mixed), str(tmp_path / "none"), "--model", "two"]) == 2
    assert "none of 4 pairs has its files" in said.text and not (tmp_path / "none" / "metadata.jsonl").exists()


@pytest.mark.parametrize("verb", ["parquet", "webdataset", "hub"])
def test_a_sidecar_that_is_no_text_or_without_end_costs_its_own_pair(verb, mixed, tmp_path, said):
    said.set_level("INFO")
    (mixed / "one" / "P0000-one.truth.json").write_bytes(b"\xff\xfe")
    with (mixed / "one" / "P0001-one.truth.json").open("wb") as file:
        file.truncate(1 << 40)
    assert main([verb, str(mixed), "--output", str(tmp_path / "out")]) == 1
    assert "P0000-one: " in said.text and "no UTF-8 text" in said.text
    assert "P0001-one: " in said.text and "more than 1048576 bytes" in said.text
    assert f"{tmp_path / 'out'}: 6 pairs, 2 rejected" in said.text
    if verb == "hub":  # the card counts what is there
        card = (tmp_path / "out" / "README.md").read_text()
        assert "| one | 1 | 2 | unknown |" in card and "| a | 2 |" in card and "| b | 6 |" in card


def test_keys_of_a_webdataset_stay_apart(mixed, tmp_path):
    names = iter(["a.b", "a_b", "a.b.", "c"] * 2)
    rewrite(mixed, lambda row: row.update(pair_id=next(names)) if row["generation_model"] == "one" else None)
    assert main(["webdataset", str(mixed), "--output", str(tmp_path / "tars"), "--model", "one"]) == 0
    with tarfile.open(tmp_path / "tars" / "part-00000.tar") as tar:
        names = [name.partition(".") for name in tar.getnames()]
    assert [end for _, _, end in names] == ["png", "json"] * 4
    assert len({key for key, _, _ in names}) == 4


def test_a_model_that_drew_for_several_tiers_is_one_row(studio, capsys):
    for tier in (3, 1):
        studio.write_prompts([f"cat {tier}"], tier=tier, categories=[f"c{tier}"])
        studio.prompts.write_text(studio.prompts.read_text().replace("P0000", f"P000{tier}"))
        studio.run(studio.model("one", tier=1), any_tier=True)
    assert main(["contact-sheet", str(studio.output), str(studio.folder / "sheet.png")]) == 0
    sheet = images.load_image(studio.folder / "sheet.png")
    assert sheet.size == (LABEL_WIDTH + 2 * THUMBNAIL, HEADER_HEIGHT + THUMBNAIL)
    assert main(["stats", str(studio.output), "--json"]) == 0
    assert [row["tiers"] for row in json.loads(capsys.readouterr().out)["models"]] == [[1, 3]]


def test_broken_files_are_found_and_named(mixed, said):
    first, second, third, *_ = read_records(mixed, ExportCounts())
    (mixed / first.file_name).write_bytes(b"\x89PNG torn")
    (mixed / second.file_name).unlink()
    (mixed / third.file_name).with_suffix(".truth.json").unlink()
    assert main(["check", str(mixed)]) == 1
    found = [json.loads(line) for line in (mixed / "broken.jsonl").read_text().splitlines()]
    assert [row["pair_id"] for row in found] == [first.pair_id, second.pair_id, third.pair_id]
    assert main(["check", str(mixed), "--model", "two"]) == 0
    assert not (mixed / "broken.jsonl").exists()


def test_the_index_follows_the_file_that_it_was_made_from(mixed, capsys):
    assert main(["stats", str(mixed)]) == 0
    made = (mixed / ".index.parquet").stat().st_mtime_ns
    assert main(["stats", str(mixed)]) == 0
    assert (mixed / ".index.parquet").stat().st_mtime_ns == made
    lines = (mixed / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (mixed / "metadata.jsonl").write_bytes(b"\n".join([b"".join(lines[:2]), b"not a row", b"".join(lines[2:4])]))
    capsys.readouterr()
    assert main(["stats", str(mixed)]) == 0
    assert "4 pairs of 4 prompts" in capsys.readouterr().out
    assert [record.pair_id for record in read_records(mixed, ExportCounts())] == [f"P000{n}-one" for n in range(4)]


@pytest.mark.parametrize("suffix", ["/../../secret", ".txt/../../x", "", "secret"])
def test_a_sidecar_outside_is_not_exported(suffix, mixed, tmp_path):
    (mixed.parent / "secret").write_text("secret")
    path = mixed / "metadata.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    row = json.loads(first)
    row["settings"]["sidecars"] = [suffix]
    path.write_text(json.dumps(row) + "\n" + "".join(rest))
    counts = write_webdataset(mixed, tmp_path / "tars")
    assert (counts.written, counts.rejected) == (7, 1)
    assert main(["filter", str(mixed), str(tmp_path / "part")]) == 1


def test_a_dataset_for_the_hub_has_a_card_that_loads(mixed, tmp_path):
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    name = 'Ours: "best" of'
    assert main(["hub", str(mixed), str(tmp_path / "hub"), "--name", name, "--unique"]) == 0
    card = DatasetCard.load(tmp_path / "hub" / "README.md")
    assert card.data.pretty_name == name
    assert card.data.size_categories == ["n<1K"]
    assert "7 images that text-to-image models drew from 4 prompts" in card.text
    assert "| one | 1 | 3 | unknown |" in card.text
    table = load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.num_rows == 7 and table[0]["image"].size == (32, 32)


@pytest.fixture
def push(mixed, tmp_path):
    """push(*flags, token) -> what `gendb hub` of the mixed images did, uploading them to a Hub of this machine."""
    (tmp_path / "hub-server").mkdir()
    command = [sys.executable, HUB_SERVER, tmp_path / "hub-server", "a-token"]
    with processes.Process(command, stdout=subprocess.PIPE, text=True) as server:
        known = {"HF_ENDPOINT": f"http://127.0.0.1:{int(server.stdout.readline())}", "HF_HUB_OFFLINE": "0"}

        def run(output, *flags, token="a-token"):
            command = [sys.executable, GENDB, "hub", mixed, tmp_path / output, "--push-to-hub", "me/gendb", *flags]
            environment = {**os.environ, **known, "HF_TOKEN": token}
            return processes.run(command, env=environment, capture_output=True, text=True)

        yield run
        server.kill()


def sent(tmp_path):
    return {str(path.relative_to(tmp_path / "hub-server" / "me/gendb/main")) for path in files_of(tmp_path)}


def test_a_dataset_is_uploaded_with_its_card_in_the_place_of_the_last_one(push, tmp_path):
    done = push("out", "--private")
    assert done.returncode == 0, done.stderr
    assert "/datasets/me/gendb" in done.stderr
    made = json.loads((tmp_path / "hub-server" / "created.json").read_text())
    assert (made["name"], made["type"], made["visibility"]) == ("gendb", "dataset", "private")
    assert sent(tmp_path) == {"README.md", "data/train-00000-of-00001.parquet"}
    theirs = tmp_path / "hub-server" / "me/gendb/main"
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "notes.md"):
        (theirs / name).write_text("of an earlier upload")
    assert push("again").returncode == 0
    assert sent(tmp_path) == {"README.md", "data/train-00000-of-00001.parquet", "notes.md"}


def test_an_image_folder_takes_the_place_of_shards(push, mixed, tmp_path):
    assert push("shards").returncode == 0
    done = push("out", "--form", "imagefolder")
    assert done.returncode == 0, done.stderr
    there = sent(tmp_path)
    rows = (tmp_path / "hub-server" / "me/gendb/main/metadata.jsonl").read_text().splitlines()
    names = {json.loads(row)["file_name"] for row in rows}
    assert names and there == {"README.md", "metadata.jsonl", *names}
    card = (tmp_path / "hub-server" / "me/gendb/main/README.md").read_text()
    assert "data_files" not in card and "was decoded" not in card


@pytest.mark.parametrize(("token", "reason"), [("x", "HF_TOKEN"), ("a-token", "is there already, and public")])
def test_what_cannot_be_uploaded_is_told_before_anything_is_written(push, tmp_path, token, reason):
    (tmp_path / "hub-server" / "is-public").touch()
    done = push("out", "--private", token=token)
    assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() and files_of(tmp_path) == []


def test_the_same_command_uploads_what_was_written_but_not_uploaded(push, tmp_path):
    (tmp_path / "hub-server" / "is-full").touch()
    done = push("out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "out: written, but not uploaded to me/gendb" in done.stderr and "same command tries again" in done.stderr
    (shard,) = (tmp_path / "out" / "data").iterdir()
    written = shard.stat().st_mtime_ns
    (tmp_path / "hub-server" / "is-full").unlink()
    other = push("out", "--limit", "2")
    assert other.returncode == 2 and "README.md is there already, of something else" in other.stderr
    assert files_of(tmp_path) == []
    done = push("out")
    assert done.returncode == 0, done.stderr
    assert sent(tmp_path) == {"README.md", "data/train-00000-of-00001.parquet"}
    assert shard.stat().st_mtime_ns == written


def files_of(folder):
    return [path for path in (folder / "hub-server" / "me").rglob("*") if path.is_file()]
