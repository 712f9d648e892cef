"""RichHF-18K (Liang et al. 2024, arXiv 2312.10240): four scores 0-1 of 17,760 Pick-a-Pic images, 955 in the test split.

Source: https://github.com/google-research-datasets/richhf-18k (TFRecord files of tf.train.Example) and
`richhf_18k/parse_tfrecord_file.py` of https://github.com/google-research/google-research for the features:
`filename`, `aesthetics_score`, `artifact_score`, `misalignment_score`, `overall_score`, one float each, the raters
already averaged. Higher is better in all four, `misalignment_score` and `artifact_score` included: published
evaluators correlate positively with them. The records hold no prompt; https://github.com/youweiliang/RichHF
(`get_dataset.py`) joins it from Pick-a-Pic and writes `<split>_meta_data.json`, which is read too. Images are named
by the last part of `filename`.

TFRecord framing and the protobuf wire format are read here directly: TensorFlow would be 600 MB for five fields. The
checksums of records are not compared; a file that is cut short is refused by its lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dyneval.errors import DataFileError
from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.atomic import read_json
from dyneval.files.opening import opened
from dyneval.structs import Row

# Wire types of protobuf: https://protobuf.dev/programming-guides/encoding/#structure.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The split that is judged on, of the three that a clone holds; train.tfrecord and dev.tfrecord are read by name.
_TEST = ("test.tfrecord", "test_meta_data.json")
# Bytes of one record at most, so that a wrong length cannot fill the memory; real ones hold two 512x512 heat maps.
_LARGEST = 1 << 26


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of a `.tfrecord` or `<split>_meta_data.json` file; of a folder those of its test split.

    Prompts come from the JSON; it is also read where it lies beside the records.
    """
    if path.is_dir():
        path = next((path / name for name in _TEST if (path / name).exists()), path / _TEST[0])
    beside = path.with_name(f"{path.stem}_meta_data.json")
    entries: Iterable[Row] = read_json(beside).values() if beside.exists() else ()
    known = {PurePosixPath(row["filename"]).stem: row["prompt"] for row in entries}
    records: Iterable[Row] = read_json(path).values() if path.suffix == ".json" else map(parse_example, tfrecords(path))
    for row in records:
        name = PurePosixPath(row["filename"])
        yield RatedImage(
            item_id=name.stem,
            image=name.name,
            prompt=row.get("prompt") or known.get(name.stem),
            ratings=listed(row[field] if field in row else row["scores"][field]),
        )


def tfrecords(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file: length (8 bytes), its checksum (4), data, checksum (4).

    Raises:
        DataFileError: the file cannot be read or ends inside a record.
    """
    with opened(path) as file:
        while header := file.read(12):
            # A clone without Git LFS has a short text here; as a length its first eight letters are above the limit.
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else _LARGEST + 1
            record = file.read(length + 4) if length <= _LARGEST else b""
            if len(record) != length + 4:
                raise DataFileError(f"{path}: is no whole TFRecord file (near byte {file.tell()})")
            yield record[:length]


def parse_example(record: bytes) -> Row:
    """Return the text and number features of a tf.train.Example by name, the first value of each.

    Raises:
        TypeError: the bytes are no such message.
    """
    try:
        return dict(_features(record))
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise TypeError(f"a record is no tf.train.Example ({error})") from error


def _features(record: bytes) -> Iterator[tuple[str, Any]]:
    for _, features in _fields(record):  # Example.features
        for _, entry in _fields(features):  # Features.feature, a map entry
            parts = dict(_fields(entry))
            for kind, values in _fields(parts[2]):  # Feature: bytes_list 1, float_list 2, int64_list 3
                held = next((value for _, value in _fields(values)), None)
                if held is not None and kind in (1, 2):
                    yield parts[1].decode(), _text(held) if kind == 1 else struct.unpack("<f", held[:4])[0]


def _text(held: bytes) -> str | None:
    try:
        return held.decode()
    except UnicodeDecodeError:
        return None  # a heat map


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield field number and bytes of each length-delimited or fixed field of a protobuf message.

    Raises:
        ValueError, IndexError, KeyError: the bytes are no such message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        size, at = _varint(data, at) if kind == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[kind], at)
        if at + size > len(data):
            raise ValueError("it ends early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    # Seven bits a byte, lowest first; the highest bit says that another byte follows.
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


BENCHMARK = Benchmark(
    name="richhf",
    title="RichHF-18K",
    source="https://github.com/google-research-datasets/richhf-18k",
    layout="test.tfrecord with filename, aesthetics_score, artifact_score, misalignment_score, overall_score, and "
    "test_meta_data.json beside it for the prompts ({uid: {filename, prompt, scores}}), either alone, or their folder; "
    "images named as in filename",
    size="955 images (test)",
    fields={
        "misalignment_score": Field("alignment, higher is better", 0, 1),
        "overall_score": Field("overall", 0, 1),
        "artifact_score": Field("plausibility, higher is better", 0, 1),
        "aesthetics_score": Field("aesthetics", 0, 1),
    },
    read=read,
)
