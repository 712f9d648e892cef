"""Step 2's own cost: the runner around a model that costs nothing, and what a resumed run has to read.

    python benchmarks/generation.py overhead --images 1000 --side 1024
    python benchmarks/generation.py resume --pairs 500000
    python benchmarks/generation.py verify --images 300 --side 1024

overhead: CPU time an image of the whole runner less that of encoding and hashing alone; baseline: the way of the
published scripts, `image.save` and a manifest line. resume: opening a GenDB of faked records and finding what is
recorded; baseline: json and PairRecord for every line. verify: decoding and hashing images that are there; baseline:
one thread. Each run is a process of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from harness import Cost, Flags, Results, alone, alternate, timed
from PIL import Image

from dyneval.files.jsonl import read_jsonl
from dyneval.generation import allocation, saving
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, GeneratedImage, ImageRequest, ModelSpec, Preset, RunOptions
from dyneval.generation.runner import Config, generate
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, pair_id, prompt_id

# Lines that the baseline of `resume` reads; its time is extrapolated to all.
CHECKED = 5000


def picture(side: int) -> Image.Image:
    """An image with about the entropy of a photograph: smooth noise. Plain colours would encode in no time."""
    noise = np.random.default_rng(0).normal(128, 30, (side // 8, side // 8, 3)).clip(0, 255).astype("uint8")
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


@dataclass(frozen=True, kw_only=True)
class FreeSpec(ModelSpec):
    """A model that returns one and the same image at once."""

    family: ClassVar[str] = "free"

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> FreeModel:
        """Make the image."""
        return FreeModel(picture(self.arguments(options)["side"]))


@dataclass(frozen=True)
class FreeModel:
    """Draws one and the same image for every request, in no time."""

    image: Image.Image
    batch_size: ClassVar[int] = 16
    facts: ClassVar[dict[str, Any]] = {"revision": None, "dtype": None}

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[GeneratedImage]:
        """The same image for every request."""
        for request in batch:
            yield GeneratedImage(request=request, image=self.image, prompt_sent=request.prompt, seconds=0)

    def close(self) -> None:
        """Nothing to free."""


def free_spec(side: int = 1024) -> FreeSpec:
    """Describe the free model."""
    preset = Preset({"side": side})
    return FreeSpec(slug="free", name="Free", tier=1, variants={"x": "x"}, presets={"recommended": preset})


def write_prompts(path: Path, count: int) -> None:
    """Prompts of tier 1, one a line."""
    rows = ({"prompt": f"a cat number {n}", "tier": 1, "categories": ["animal_present"]} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---------------------------------------------------------------------------------------------------------------------
# overhead


def draw_all(images: int, side: int) -> Cost:
    """The whole runner: checks, PNG, SHA-256, atomic write, record."""
    with tempfile.TemporaryDirectory() as name:
        folder, spec = Path(name), free_spec(side)
        write_prompts(folder / "prompts.jsonl", images)
        config = Config(prompts=folder / "prompts.jsonl", output=folder / "gendb", devices=("cpu",))
        with timed() as usage:
            generate([spec], [spec], config)
        assert sum(1 for _ in read_jsonl(folder / "gendb" / "metadata.jsonl")) == images
    return usage


def encode_all(images: int, side: int) -> Cost:
    """What no runner can do without: PNG at the runner's level, and SHA-256."""
    image = picture(side)
    with timed() as usage:
        for _ in range(images):
            buffer = io.BytesIO()
            image.save(buffer, format="PNG", compress_level=1)
            hashlib.sha256(buffer.getbuffer()).hexdigest()
    return usage


def publish_all(images: int, side: int) -> Cost:
    """Save and note down each image as the published scripts do."""
    image = picture(side)
    with tempfile.TemporaryDirectory() as name, timed() as usage:
        for number in range(images):
            path = Path(name, f"{number:04d}.png")
            if path.exists():
                continue
            image.save(path)
            with Path(name, "generated_manifest.jsonl").open("a") as file:
                row = {"gid": number, "filename": path.name, "prompt": f"a cat number {number}"}
                file.write(json.dumps(row) + "\n")
    return usage


# ---------------------------------------------------------------------------------------------------------------------
# resume


def open_gendb(folder: Path, pairs: int) -> Cost:
    """Open a GenDB of faked records and find all of them."""
    settings = free_spec().settings(BuildOptions())
    mark = fingerprint(settings)
    requests = list(fake_records(folder / "metadata.jsonl", pairs, settings, mark))
    with timed() as usage, GenDB(folder, "bench") as db:
        same, others = db.recorded(requests, mark)
        assert (len(same), len(others)) == (pairs, 0)
    return usage


def fake_records(path: Path, pairs: int, settings: dict[str, Any], mark: str) -> Iterator[ImageRequest]:
    """Write records of images that do not exist; yield the requests that they answer."""
    sent = "a photograph of a cat on a red chair beside a window, sharp focus, intricate, cinematic light, 35 mm"
    more = {"fingerprint": mark, "prompt_sent": sent, "seconds": 1.25, "safety": None, "sidecars": []}
    versions = {"versions": {"python": "3.11", "diffusers": "0.42.1", "torch": "2.13.0"}, "dtype": "bfloat16"}
    with path.open("w") as file:
        for number in range(pairs):
            key = prompt_id(f"prompt {number}")
            record = PairRecord(
                file_name=f"free/{key}-free.png",
                pair_id=pair_id(key, "free"),
                prompt_id=key,
                prompt=sent,
                tier=1,
                categories=["animal_present", "single_object"],
                generation_model="free",
                seed=allocation.image_seed(key, "free", 0),
                width=1024,
                height=1024,
                settings={**settings, **versions, **more},
                sha256=hashlib.sha256(key.encode()).hexdigest(),
            )
            file.write(json.dumps(record.to_dict()) + "\n")
            yield ImageRequest(pair_id=record.pair_id, prompt_id=key, prompt=sent, seed=1, tier=1)


# ---------------------------------------------------------------------------------------------------------------------
# verify


def verify(images: int, side: int) -> tuple[Cost, Cost]:
    """Resume over images that are all there: with the runner's threads, and checked in one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder, spec = Path(name), free_spec(side)
        write_prompts(folder / "prompts.jsonl", images)
        config = Config(prompts=folder / "prompts.jsonl", output=folder / "gendb", devices=("cpu",))
        generate([spec], [spec], config)
        with GenDB(folder / "gendb", "bench") as db:
            entries = list(db.index.values())
        with timed() as single:
            for entry in entries:
                saving.fault(folder / "gendb", entry)
        with timed() as resumed:
            summary = generate([spec], [spec], config)
    assert summary.total("existing") == images
    return resumed, single


def main() -> None:
    """Run one of the benchmarks, each measurement in a fresh process."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("what", choices=("overhead", "resume", "verify"))
    flags.add_argument("--images", type=int, smoke=3, help="default 1000 (overhead) or 300 (verify)")
    flags.add_argument("--side", type=int, default=1024, smoke=64, help="pixels a side (default 1024)")
    flags.add_argument("--pairs", type=int, default=500_000, smoke=50, help="recorded pairs (default 500,000)")
    arguments = flags.parse_args()
    results = Results(arguments)
    pairs, side = arguments.pairs, arguments.side
    if arguments.what == "resume":
        results.table({"": "", "pairs": ",", "wall s": ".2f", "CPU s": ".2f", "peak MiB": ".0f"})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            opened = [alone(open_gendb, folder, pairs) for _ in range(arguments.repeat)]
            # The baseline: json and the schema check of the first lines.
            with timed() as plain, (folder / "metadata.jsonl").open() as file:
                for line, _ in zip(file, range(min(pairs, CHECKED)), strict=False):
                    PairRecord.from_dict(json.loads(line))
        share = pairs / min(pairs, CHECKED)
        results.row("open", pairs, *([getattr(run, kind) for run in opened] for kind in ("wall", "cpu", "peak")))
        results.row(
            f"json and check of all lines (from {CHECKED:,})", pairs, plain.wall * share, plain.cpu * share, None
        )
        return
    results.table({"an image": "", "side px": "", "wall ms": ".2f", "CPU ms": ".2f"})
    if arguments.what == "overhead":
        images = arguments.images or 1000
        works = {"runner": draw_all, "encoding and hashing alone": encode_all, "published way": publish_all}
        found = alternate({name: partial(alone, work, images, side) for name, work in works.items()}, arguments.repeat)
    else:
        images = arguments.images or 300
        both = [alone(verify, images, side) for _ in range(arguments.repeat)]
        found = {"resumed run": [one for one, _ in both], "checked in one thread": [other for _, other in both]}
    for name, runs in found.items():
        results.row(name, side, *([1000 * getattr(run, kind) / images for run in runs] for kind in ("wall", "cpu")))
    if arguments.what == "overhead":
        runner, least = (sum(run.cpu for run in found[name]) / len(found[name]) for name in list(found)[:2])
        results.row("overhead of the runner", side, None, 1000 * (runner - least) / images)


if __name__ == "__main__":
    main()
