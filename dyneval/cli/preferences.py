"""Pairs of a better and a worse image of one prompt, from scores, to train image models with DPO.

    dyneval preferences scores.jsonl --output dpo.jsonl --margin 0.1
    dyneval preferences scores.jsonl --output dpo/train.parquet --image-root gendb     # with the images inside

The columns are those of Pick-a-Pic, which the scripts of Diffusion-DPO and of diffusers read: caption, jpg_0, jpg_1,
label_0 (1: jpg_0 is the better one, as it is here in all rows). JSONL has paths in jpg_0 and jpg_1, and the same as
chosen and rejected; Parquet has the bytes of the files. --margin is in points of the soft score, 1-5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg
from dyneval.records import ScoreName

if TYPE_CHECKING:
    from dyneval.choosing import Candidate
    from dyneval.structs import Row

# Pairs in memory: 50 of two images of 2 MB are 200 MB.
_ROW_GROUP = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencesOptions:
    """Whose scores, which pairs of them, and where to."""

    scores: Annotated[Path, arg("scores.jsonl with several images of a prompt", position=True)]
    output: Annotated[Path, arg("file to write, .jsonl or .parquet")]
    margin: Annotated[float, arg("least difference of a pair's scores, in points", ge=0, le=4)] = 0.1
    score: Annotated[ScoreName, arg("which soft score decides")] = "overall"
    pairs: Annotated[Literal["extremes", "all"], arg("the best and the worst image of each prompt, or all pairs")] = (
        "extremes"
    )
    image_root: Annotated[
        Path | None, arg("folder that the images' names are relative to; default: the current one", folder=True)
    ] = None

    def __post_init__(self) -> None:
        if self.output.suffix not in (".jsonl", ".parquet"):
            raise SettingError(f"--output {self.output}: expected a name that ends in .jsonl or .parquet")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(PreferencesOptions, argv)
    return run(parser, _write, options)


def _write(options: PreferencesOptions) -> int:
    from dyneval.choosing import read_candidates
    from dyneval.errors import DataFileError
    from dyneval.files.atomic import refuse_overwrite

    output = options.output
    refuse_overwrite([options.scores], [output])
    groups = read_candidates(options.scores, options.score)
    if not groups:
        raise DataFileError(f"{options.scores}: holds no scores to choose from")
    rows = []
    for prompt, candidates in groups.items():
        ranked = sorted(candidates, key=lambda one: -one.score)
        pairs = combinations(ranked, 2) if options.pairs == "all" else [(ranked[0], ranked[-1])]
        for better, worse in pairs:
            # Rounded, since 3.3 - 3.2 is less than 0.1 in floating point.
            if better.score > worse.score and round(better.score - worse.score, 4) >= options.margin:
                rows.append(_row(prompt, better, worse))
    if not rows:
        alone = sum(len(candidates) < 2 for candidates in groups.values())
        raise DataFileError(
            f"{options.scores}: no two images of a prompt lie {options.margin} or more apart ({len(groups)} "
            f"prompts, {alone} of them with one image)"
        )
    written = (_write_parquet if output.suffix == ".parquet" else _write_jsonl)(rows, output, options.image_root)
    sys.stderr.write(f"{len(written)} pairs of {len(set(written))} of {len(groups)} prompts -> {output}\n")
    # Fewer than chosen: an image could not be read.
    return 0 if len(written) == len(rows) else 1


def _row(prompt: str, better: Candidate, worse: Candidate) -> Row:
    return {
        "caption": prompt,
        "jpg_0": better.image,
        "jpg_1": worse.image,
        "label_0": 1,
        "label_1": 0,
        "image_0_uid": better.pair_id,
        "image_1_uid": worse.pair_id,
        "best_image_uid": better.pair_id,
        "score_0": better.score,
        "score_1": worse.score,
    }


def _write_jsonl(rows: Sequence[Row], output: Path, root: Path | None) -> list[str]:
    """Write all rows; returns their prompts."""
    from dyneval.files.atomic import atomic_write
    from dyneval.files.jsonl import to_line

    with atomic_write(output, "wb") as file:
        for row in rows:
            paths = {name: str((root or Path()) / row[name]) for name in ("jpg_0", "jpg_1")}
            named = {"prompt": row["caption"], "chosen": paths["jpg_0"], "rejected": paths["jpg_1"]}
            file.write(to_line(row | paths | named))
    return [row["caption"] for row in rows]


def _write_parquet(rows: Sequence[Row], output: Path, root: Path | None) -> list[str]:
    """Write the rows whose images can be read; the others are told on stderr. Returns the prompts of those written.

    Raises DataFileError: there are none; a file that was there stays.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dyneval.errors import DataFileError
    from dyneval.files.atomic import atomic_write

    # The types of Pick-a-Pic; all other columns are texts.
    kinds = {"jpg_0": pa.binary(), "jpg_1": pa.binary(), "label_0": pa.int64(), "label_1": pa.int64()}
    kinds |= {"score_0": pa.float64(), "score_1": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    written: list[str] = []
    with atomic_write(output, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), _ROW_GROUP):
            whole = [one for row in rows[start : start + _ROW_GROUP] if (one := _with_images(row, root)) is not None]
            writer.write_table(pa.Table.from_pylist(whole, schema))
            written += [row["caption"] for row in whole]
        if not written:
            raise DataFileError(f"{output}: not written, no pair has both images; --image-root is where they lie")
    return written


def _with_images(row: Row, root: Path | None) -> dict[str, Any] | None:
    from dyneval.errors import ImageError
    from dyneval.files.images import decode_image, image_path, read_file

    images = {}
    for name in ("jpg_0", "jpg_1"):
        try:
            images[name] = read_file(image_path(root, row[name]), row[name])
            # Its bytes are written as they are, but a trainer would end at a broken image.
            decode_image(images[name], row[name])
        except ImageError as error:
            sys.stderr.write(f"dyneval preferences: {error}\n")
            return None
    return row | images
