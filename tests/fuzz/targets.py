"""What is fuzzed: functions of bytes that return when those are read, or refused as documented, and raise otherwise."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dyneval.errors import DataFileError, ImageError, SchemaError
from dyneval.files import images
from dyneval.instruct.annotations import Annotations
from dyneval.llm.chat import UnusableReply
from dyneval.prompts import sources
from dyneval.published.annotations import Layout, read_annotation
from dyneval.published.mapping import MAPPING, read_mapping
from dyneval.records import WORKFLOWS, PairRecord, Question
from dyneval.teacher import replies
from qwenvl.data.annotation_file import AnnotationFile

MAX_PIXELS = 1 << 20
_MEMORY = Path("/dev/shm")


class Target(NamedTuple):
    """A function to be fuzzed, and bytes that it reads without complaint; the first one says which file they are."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


@cache
def _folder() -> Path:
    """Place of the files to be read, made when the first is written; the readers take paths."""
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))


def forget_files() -> None:
    """Remove the files that were fuzzed."""
    shutil.rmtree(_folder())
    _folder.cache_clear()


def _choice(data: bytes, options: Sequence[Any]) -> tuple[Any, bytes]:
    """An option named by the first byte, and the other bytes."""
    return options[(data[0] if data else 0) % len(options)], data[1:]


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


# Replies -------------------------------------------------------------------------------------------------------------

_ASKED = [{"question": "Is a cat there?", "answer": "yes"}, {"question": "Is it red?", "answer": "no"}]
_QUESTIONS = [Question(question=one["question"], answer=one["answer"]) for one in _ASKED]
_GRAPH = {
    "nodes": [{"id": "n1", "label": "cat", "attributes": ["red"]}, {"id": "n2", "label": "mat", "attributes": []}],
    "edges": [{"source": "n1", "target": "n2", "relationship": "on"}],
}
_ANSWERS = [
    {"question": one["question"], "reasoning": "It is.", "answer": "yes", "score": 4 + number}
    for number, one in enumerate(_ASKED)
]
_PARSERS: Sequence[Callable[[str], Any]] = (
    lambda text: replies.parse_questions(text, 100),
    replies.parse_scene,
    lambda text: replies.parse_t2ia_answers(text, _QUESTIONS),
    lambda text: replies.parse_iqa_answers(text, _QUESTIONS),
)


def reply(data: bytes) -> None:
    """A teacher's reply, as each of the four."""
    parse, rest = _choice(data, _PARSERS)
    try:
        parse(rest.decode("utf-8", "surrogateescape"))
    except UnusableReply:
        return


_REPLIES = [
    b"\0" + json.dumps({"questions": _ASKED}).encode(),
    b"\0Here you are:\n```json\n[{'question': 'Is it?', 'answer': yes},]\n```\nThat is all.",
    b"\1" + json.dumps({"scene_graph": _GRAPH, "questions": _ASKED}).encode(),
    b"\2" + json.dumps({"answers": _ANSWERS}).encode(),
    b"\3" + json.dumps({"answers": _ANSWERS}).encode()[:-30],
]

# Annotations ---------------------------------------------------------------------------------------------------------

_PAIR = PairRecord(
    pair_id="P1-m",
    file_name="m/P1-m.png",
    prompt_id="P1",
    prompt="a cat",
    tier=1,
    categories=[],
    generation_model="m",
    width=8,
    height=8,
    settings={},
    sha256="0" * 64,
)
_PROVENANCE = {
    "model": "m",
    "engine": "e",
    "prompt_version": "v",
    "attempts": 1,
    "created": "2026-01-01T00:00:00+00:00",
}
_COMMON = {"pair_id": "P1-m", "prompt": "a cat"}
_TARGETS = [{"target_answer": one["answer"], **answer} for one, answer in zip(_ASKED, _ANSWERS, strict=True)]
_SCORED = [{name: row[name] for name in ("question", "target_answer", "reasoning", "score")} for row in _TARGETS]
_JUDGED = [{**row, "correct": row["answer"] == row["target_answer"]} for row in _TARGETS]
_KINDED = [{**one, "kind": "alignment"} for one in _ASKED]
_FILES = {
    "t2ia_questions": {"prompt_id": "P1", "prompt": "a cat", "questions": _KINDED, "provenance": _PROVENANCE},
    "t2ia_answers": {**_COMMON, "answers": _SCORED, "provenance": _PROVENANCE},
    "iqa_questions": {**_COMMON, "scene_graph": _GRAPH, "questions": _ASKED, "provenance": _PROVENANCE},
    "iqa_answers": {**_COMMON, "answers": _JUDGED, "score": 4.5, "provenance": _PROVENANCE},
}
_ENTRY = {"pair_id": "P1-m", "text_id": "P1", "prompt": "a cat", "image_path": "m/P1-m.png", "generation_model": "m"}
_PUBLISHED: dict[str, Any] = {
    MAPPING: {"prompts": [_ENTRY]},
    "model-responses/questions/P1-m.json": _ASKED,
    "model-responses/answers/P1-m.json": {**_COMMON, "answers": _SCORED, "raw_response": ""},
    "iqa_outputs/P1-m.json": {**_COMMON, "scene_graph": _GRAPH, "questions": _ASKED},
    "iqa_answers/P1-m.json": {**_COMMON, "answers": _JUDGED, "score": 4},
}


def _read_ours(folder: Path) -> None:
    try:
        with Annotations(folder, folder) as annotations:
            annotations.of(_PAIR)
    except DataFileError:
        pass


def _read_theirs(folder: Path) -> None:
    try:
        entries, _ = read_mapping(folder / MAPPING)
    except DataFileError:
        return
    layout = Layout.beside(folder / MAPPING, {})
    for entry in entries:
        for name in WORKFLOWS:
            with suppress(DataFileError, SchemaError):
                read_annotation(name, layout, entry)


def _with_files(name: str, good: dict[str, bytes], read: Callable[[Path], None]) -> Callable[[bytes], None]:
    """Puts the bytes in the place of one of the `good` files of a folder of annotations, and reads the pair."""

    def run(data: bytes) -> None:
        folder = _folder() / name
        if not folder.exists():
            for file, content in good.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
        file, rest = _choice(data, list(good))
        (folder / file).write_bytes(rest)
        try:
            read(folder)
        finally:
            (folder / file).write_bytes(good[file])

    return run


_OURS = {f"{name}.jsonl": _line(row) for name, row in _FILES.items()}
_THEIRS = {name: _line(row) for name, row in _PUBLISHED.items()}
annotations = _with_files("ours", _OURS, _read_ours)
published_files = _with_files("theirs", _THEIRS, _read_theirs)


def annotation_file(data: bytes) -> None:
    """A training file."""
    path = _folder() / "train.json"
    path.write_bytes(data)
    try:
        entries = AnnotationFile(path)
    except DataFileError:
        return
    for number in range(len(entries)):
        entries[number]


# Images and prompts --------------------------------------------------------------------------------------------------


def image(data: bytes) -> None:
    """An image file."""
    try:
        found = images.decode_image(io.BytesIO(data), "fuzzed", MAX_PIXELS)
    except ImageError:
        return
    if found.mode != "RGB" or found.width * found.height > MAX_PIXELS:
        raise AssertionError(f"{found.mode}, {found.size}")


def _encoded(kind: str, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((9, 7)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


_KINDS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet")


def prompts(data: bytes) -> None:
    """A source of prompts of any kind."""
    kind, rest = _choice(data, _KINDS)
    path = _folder() / f"prompts{kind}"
    path.write_bytes(rest)
    try:
        for batch in sources.read(sources.Source(str(path), path)):
            batch.rows["prompt"].to_list()
    except (sources.SourceError, DataFileError):
        return


def _parquet() -> bytes:
    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame({"prompt": ["a cat", None], "prompt_nsfw": [0.1, 0.2]}).write_parquet(
        buffer, compression="uncompressed"
    )
    return buffer.getvalue()


TARGETS: dict[str, Target] = {
    "reply": Target(reply, _REPLIES),
    "annotations": Target(annotations, [bytes([number]) + data for number, data in enumerate(_OURS.values())]),
    "published": Target(published_files, [bytes([number]) + data for number, data in enumerate(_THEIRS.values())]),
    "annotation_file": Target(
        annotation_file,
        [b'[{"a": 1},\n{"a": [2]}]', b'{"a": 1}\n\n{"a": "\\u00e9"}\n', '\ufeff[{"a": "é"}]'.encode()],
    ),
    "image": Target(
        image,
        [
            _encoded("PNG", "RGB"),
            _encoded("PNG", "P", transparency=0),
            _encoded("PNG", "I;16"),
            _encoded("JPEG", "CMYK"),
            _encoded("GIF", "P"),
            _encoded("WEBP", "RGBA"),
            _encoded("BMP", "1"),
            _encoded("TIFF", "F"),
            _encoded("PPM", "RGB"),
            _encoded("JPEG2000", "RGB"),
        ],
    ),
    "prompts": Target(
        prompts,
        [
            b"\0a cat\nein B\xe4r\n",
            b"\0\xff\xfea\0 \0c\0",
            b'\1prompt,prompt_nsfw\n"a, cat",0.1\nb,\n',
            b"\2x\tprompt\n1\ta cat\n",
            b'\3["a cat", {"prompt": "b", "image_nsfw": "x"}]',
            b'\4{"prompt": "a cat", "prompt_nsfw": 1}\n{"prompt": null}\nno\n',
            b"\5" + _parquet(),
        ],
    ),
}


def all_cases() -> list[tuple[str, bytes]]:
    """The seeds of all targets, and the inputs that once broke one (cases.jsonl), as (target, bytes)."""
    path = Path(__file__).with_name("cases.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    kept = ((row["target"], (row["data"] + row["again"] * row["times"]).encode("latin-1")) for row in rows)
    seeds = ((name, seed) for name, target in TARGETS.items() for seed in target.seeds)
    return list(itertools.chain(seeds, kept))
