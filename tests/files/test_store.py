import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.errors import DataFileError, SchemaError
from dyneval.files.atomic import atomic_write, read_json, write_json
from dyneval.files.jsonl import read_jsonl
from dyneval.files.store import JsonlIndex, JsonlStore
from dyneval.records import Reject
from dyneval.structs import Record
from tests import processes


class Item(Record, frozen=True, kw_only=True, omit_defaults=True):
    KEY = "id"
    id: str
    value: str | None = None
    n: int | None = None
    x: str | int | None = None
    provenance: dict[str, str] | None = None


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.dictionaries(text, st.fixed_dictionaries({"value": text, "n": st.integers(-(2**63), 2**64 - 1)}), max_size=8)


def write(path, content, **options):
    with JsonlStore(path, Item, **options) as store:
        for name, row in content.items():
            store.append(Item(id=name, **row))


@settings(max_examples=60)
@given(content=rows, cut=st.integers(0, 10_000))
def test_whatever_is_cut_off_the_rest_is_kept_and_the_missing_can_be_added(content, cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.jsonl"
    write(path, content)
    whole = path.read_bytes()
    kept = whole[: max(0, len(whole) - cut)]
    path.write_bytes(kept)
    survivors = [json.loads(line) for line in kept.split(b"\n")[:-1]]
    assert list(read_jsonl(path)) == survivors
    with JsonlStore(path, Item) as store:
        assert store.done == {row["id"] for row in survivors}
        for name in content.keys() - store.done:
            store.append(Item(id=name, **content[name]))
        assert {name: store.get(name) for name in content} == {n: Item(id=n, **row) for n, row in content.items()}
        assert {item.id: item for item in store} == {n: Item(id=n, **row) for n, row in content.items()}
    assert sorted(row["id"] for row in read_jsonl(path)) == sorted(content)


@settings(max_examples=60)
@given(content=rows, separators=st.sampled_from([(", ", ": "), (",", ":")]), first=st.booleans())
def test_keys_are_found_in_rows_of_any_layout(content, separators, first, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for name, row in content.items():
            row = {"id": name, **row} if first else {**row, "id": name}
            file.write(json.dumps(row, separators=separators) + "\n")
    index = JsonlIndex(path, Item)
    assert len(index) == len(content)
    assert all(index.get(name).value == row["value"] for name, row in content.items())
    index.close()


@pytest.mark.parametrize(
    "content",
    [
        b"python generate.py --seed 7",
        b"first line\nsecond line",
        b'{"id": "a"}\npython generate.py',
        b'{"seed": 7, "id": "a"}',
        b'{"seed": 7}\n',
        b'{\n "id": "a"\n}',
        b"\x89PNG\r\n\x1a\n\x00\x00",
    ],
)
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "run.txt"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"run\.txt"), JsonlStore(path, Item):
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("torn", [b"", b"{", b'{"i', b'{"id": "b", "x', b'{"id":"b"}', b"\0\0\0", b'{"\0\0'])
def test_the_beginning_of_a_row_is_cut(tmp_path, torn):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + torn)
    with JsonlStore(path, Item) as store:
        assert store.done == {"a"}
    assert path.read_bytes() == b'{"id": "a"}\n'


def test_only_rows_of_the_version_count_and_the_last_one_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    hostile = '", "prompt_version": "v2'
    for version in ("v1", "v2"):
        write(path, {"a": {"x": hostile, "provenance": {"prompt_version": version}}})
        write(path, {"b": {"x": version, "provenance": {"prompt_version": "v1"}}})
    with JsonlStore(path, Item, version="v2") as store:
        assert store.done == {"a"}
        assert store.get("b").x == "v2"


def test_the_records_that_are_there_are_read_in_order(tmp_path):
    write(tmp_path / "a.jsonl", {"a": {"x": 1}, "b": {"x": 2}})
    write(tmp_path / "a.jsonl", {"a": {"x": 3}})
    with JsonlStore(tmp_path / "a.jsonl", Item) as store:
        assert [(item.id, item.x) for item in store] == [("b", 2), ("a", 3)]


@pytest.mark.parametrize(
    "item",
    [
        Item(id="b", value=1),
        Item(id="b", x=float("nan")),
        Item(id="b", value="\ud800"),
        Item(id="b", provenance={"a": float("inf")}),
        Item(id="b", n=None, provenance={"a": None}),
    ],
)
def test_what_does_not_fit_its_type_is_not_written(item, tmp_path):
    write(tmp_path / "a.jsonl", {"a": {"x": 1}})
    before = (tmp_path / "a.jsonl").read_bytes()
    with JsonlStore(tmp_path / "a.jsonl", Item) as store:
        with pytest.raises(SchemaError, match=r"^b: "):
            store.append(item)
        assert store.done == {"a"} and store.written == 0
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_a_broken_line_within_the_file_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a"}\nnonsense\n{"id": "b"}\n')
    with pytest.raises(DataFileError, match=r"a\.jsonl:2: is not JSON"), JsonlStore(path, Item):
        pass
    write(tmp_path / "other.jsonl", {})  # the lock of the failed opening is free again
    path.write_text('{"id": "a"}\n')
    write(path, {})


def _hold(path, ready, release):
    with JsonlStore(path, Item):
        ready.set()
        release.wait(30)


def test_second_process_is_refused_or_waits(tmp_path):
    path = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(path, ready, release))
    holder.start()
    try:
        assert ready.wait(30)
        with pytest.raises(DataFileError, match="another process"), JsonlStore(path, Item):
            pass
        release.set()
        with JsonlStore(path, Item, wait=30) as store:
            store.append(Item(id="a"))
    finally:
        release.set()
        holder.join()


def test_rejects_start_anew_unless_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonlStore(path, Item) as store:
        store.reject(Reject(key="a", kind="reply", reason="no", detail={"raw": "\x00é"}))
        assert store.rejected == 1
    assert next(read_jsonl(tmp_path / "a.rejects.jsonl")) == {
        "id": "a", "kind": "reply", "reason": "no", "raw": "\x00é",
    }  # fmt: skip
    with JsonlStore(path, Item, keep_rejects=True) as store:
        assert [row["id"] for row in read_jsonl(store.rejects_path)] == ["a"]
    with JsonlStore(path, Item) as store:
        assert not store.rejects_path.exists()


WRITER = """
import sys
from pathlib import Path
from dyneval.files.store import JsonlStore
from dyneval.structs import Record

class Item(Record, frozen=True, kw_only=True):
    KEY = "id"
    id: str
    x: str

with JsonlStore(Path(sys.argv[1]), Item) as store:
    number = len(store.done)
    print("open", flush=True)
    while True:
        store.append(Item(id=str(number), x="y" * 50_000))
        number += 1
"""


def test_kill_9_while_writing_loses_and_doubles_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    for wait in (0.02, 0.05, 0.08):
        process = processes.Process([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    ids = [row["id"] for row in read_jsonl(path)]
    assert ids == [str(number) for number in range(len(ids))] and len(ids) > 3


FULL = """
import errno, resource, sys, signal
from pathlib import Path
from dyneval.files.store import JsonlStore
from dyneval.structs import Record

class Item(Record, frozen=True, kw_only=True):
    KEY = "id"
    id: str
    x: str

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
with JsonlStore(Path(sys.argv[1]), Item) as store:
    try:
        for number in range(100):
            store.append(Item(id=str(number), x="y" * 900))
    except OSError as error:
        print("stopped at", number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.append(Item(id="after", x=""))
"""


def test_a_write_that_fails_leaves_whole_lines(tmp_path):
    """A file size limit cuts a write short as a full disk does."""
    path = tmp_path / "a.jsonl"
    done = processes.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("stopped at 10")
    assert [row["id"] for row in read_jsonl(path)] == [*(str(number) for number in range(10)), "after"]


def test_atomic_write_is_all_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": "é"})
    with pytest.raises(ValueError), atomic_write(path) as file:
        file.write("half")
        raise ValueError
    with pytest.raises(ValueError):
        write_json(path, float("nan"))
    assert read_json(path) == {"a": "é"} and [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path):
    path = tmp_path / "a.json"
    path.with_name(".a.json.tmp").write_text("half of something longer than what comes now")
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1} and [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_of_two_writers_at_once_the_second_waits(tmp_path):
    path = tmp_path / "a.txt"

    def second():
        with atomic_write(path) as file:
            file.write("second")

    with atomic_write(path) as file:
        thread = threading.Thread(target=second)
        thread.start()
        file.write("first, and longer")
    thread.join(30)
    assert path.read_text() == "second" and [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataFileError, match=r"a\.json: is not JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}, "Windows writes a mark"


def test_missing_file_is_named():
    for read in (read_json, lambda path: list(read_jsonl(path)), lambda path: JsonlIndex(path, Item)):
        with pytest.raises(DataFileError, match=r"nothing\.jsonl: cannot be read"):
            read(Path("nothing.jsonl"))


def test_replaced_and_retired_rows_move_aside(tmp_path):
    path = tmp_path / "rows.jsonl"

    def write(*rows, retired=()):
        with JsonlStore(path, Item, latest_only=True) as store:
            for row in rows:
                store.append(Item(**row))
            for key in retired:
                store.retire(key)
        with JsonlStore(path, Item) as store:
            found = [store.get(row["id"]) == Item(**row) for row in read_jsonl(path)]
        assert all(found), "places are those of the new file"
        return [row["n"] for row in read_jsonl(path)], path.with_name("rows.jsonl.superseded")

    kept, aside = write({"id": "a", "n": 1}, {"id": "b", "n": 2})
    assert kept == [1, 2] and not aside.exists()
    kept, aside = write({"id": "a", "n": 3}, {"id": "c", "n": 4}, retired=["b", "unknown"])
    assert kept == [3, 4] and [row["n"] for row in read_jsonl(aside)] == [1, 2]
    with JsonlStore(path, Item) as store:  # another writer, or one that was killed, left two rows
        store.append(Item(id="c", n=5))
    kept, aside = write()
    assert kept == [3, 5] and [row["n"] for row in read_jsonl(aside)] == [1, 2, 4]
