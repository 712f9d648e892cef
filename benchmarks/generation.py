"""Step 2's own cost: the runner around a model that costs nothing, and what a resumed run has to read.

    python benchmarks/generation.py overhead [--images 1000] [--side 1024]
    python benchmarks/generation.py resume [--pairs 500000]
    python benchmarks/generation.py verify [--images 300] [--side 1024]

overhead: CPU time an image of the whole runner less that of encoding and hashing alone; baseline: the way of the
published scripts, `image.save` and a manifest line. resume: opening a GenDB of faked records and finding what is
recorded; baseline: json and PairRecord for every line. verify: decoding and hashing images that are there; baseline:
one thread. Each in a process of its own. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from dyneval.files.jsonl import read_jsonl
from dyneval.generation import allocation, saving
from dyneval.generation.gendb import GenDB
from dyneval.generation.model import BuildOptions, GeneratedImage, ImageRequest, ModelSpec, Preset, RunOptions
from dyneval.generation.runner import Config, generate
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, pair_id, prompt_id


def picture(side: int) -> Image.Image:
    """Something with the entropy of a photograph: smooth noise."""
    noise = np.random.default_rng(0).normal(128, 30, (side // 8, side // 8, 3)).clip(0, 255).astype("uint8")
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


@dataclass(frozen=True, kw_only=True)
class FreeSpec(ModelSpec):
    """A model that returns one and the same image at once."""

    family: ClassVar[str] = "free"

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> FreeModel:
        """Make the image."""
        return FreeModel(self.arguments(options)["side"])


class FreeModel:
    """Costs nothing."""

    batch_size = 16
    facts: ClassVar[dict[str, Any]] = {"revision": None, "dtype": None}

    def __init__(self, side: int) -> None:
        self.image = picture(side)

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


# ---------------------------------------------------------------------------------------------------------------------
# overhead


def write_prompts(path: Path, count: int) -> None:
    """Prompts of tier 1, one a line."""
    rows = ({"prompt": f"a cat number {n}", "tier": 1, "categories": ["animal_present"]} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def bench_overhead(images: int, side: int) -> dict[str, Any]:
    """The runner, encoding and hashing alone, and the way of the published scripts."""
    with tempfile.TemporaryDirectory() as name:
        folder, image = Path(name), picture(side)
        write_prompts(folder / "prompts.jsonl", images)
        published = timed(lambda: publish(folder / "published", image, images))
        alone = timed(lambda: [encode_and_hash(image) for _ in range(images)])
        config = Config(prompts=folder / "prompts.jsonl", output=folder / "gendb", devices=("cpu",))
        spec = free_spec(side)
        whole = timed(lambda: generate([spec], [spec], config))
        per_image = lambda seconds: round(1000 * seconds / images, 2)  # noqa: E731
        lines = sum(1 for _ in read_jsonl(folder / "gendb" / "metadata.jsonl"))
    assert lines == images
    return {
        "images": images,
        "side": side,
        "ms_an_image": {
            name: {"wall": per_image(times.wall), "cpu": per_image(times.cpu)}
            for name, times in (("runner", whole), ("encoding and hashing alone", alone), ("published way", published))
        },
        "overhead_cpu_ms": per_image(whole.cpu - alone.cpu),
    }


def encode_and_hash(image: Image.Image) -> str:
    """What no runner can do without."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def publish(folder: Path, image: Image.Image, images: int) -> None:
    """Save and note down each image as the published scripts do."""
    folder.mkdir()
    for number in range(images):
        path = folder / f"{number:04d}.png"
        if path.exists():
            continue
        image.save(path)
        with (folder / "generated_manifest.jsonl").open("a") as file:
            file.write(json.dumps({"gid": number, "filename": path.name, "prompt": f"a cat number {number}"}) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# resume


def bench_resume(pairs: int) -> dict[str, Any]:
    """Open a GenDB of faked records and find them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = free_spec()
        settings = spec.settings(BuildOptions())
        mark = fingerprint(settings)
        requests = list(fake_records(folder / "metadata.jsonl", pairs, settings, mark))
        size = (folder / "metadata.jsonl").stat().st_size
        before = peak_mib()

        def scan() -> None:
            with GenDB(folder, "bench") as db:
                same, others = db.recorded(requests, mark)
                assert (len(same), len(others)) == (pairs, 0)

        times, peak = timed(scan), peak_mib()
        checked = min(pairs, 5000)
        lines = [line for line, _ in zip((folder / "metadata.jsonl").open(), range(checked), strict=False)]
        baseline = timed(lambda: [PairRecord.from_dict(json.loads(line)) for line in lines])
    return {
        "pairs": pairs,
        "file_mb": round(size / 1e6),
        "wall_s": round(times.wall, 2),
        "cpu_s": round(times.cpu, 2),
        "peak_mib": round(peak),
        "of_which_before_mib": round(before),
        "baseline_cpu_s": round(baseline.cpu * pairs / checked, 1),
    }


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


def bench_verify(images: int, side: int) -> dict[str, Any]:
    """Resume over images that are all there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl", images)
        config = Config(prompts=folder / "prompts.jsonl", output=folder / "gendb", devices=("cpu",))
        spec = free_spec(side)
        generate([spec], [spec], config)
        with GenDB(folder / "gendb", "bench") as db:
            entries = list(db.index.values())
        single = timed(lambda: [saving.fault(folder / "gendb", entry) for entry in entries])
        summary = None

        def resume() -> None:
            nonlocal summary
            summary = generate([spec], [spec], config)

        seconds = timed(resume)
    assert summary is not None
    assert summary.total("existing") == images
    return {
        "images": images,
        "side": side,
        "resumed_run_ms": {name: round(1000 * value / images, 2) for name, value in seconds._asdict().items()},
        "one_thread_ms": {name: round(1000 * value / images, 2) for name, value in single._asdict().items()},
    }


class Times(NamedTuple):
    """Seconds; CPU time counts all threads, and not what other work on the machine takes."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any]) -> Times:
    """Time some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def peak_mib() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run one of the benchmarks in a fresh process and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("overhead", "resume", "verify"))
    parser.add_argument("--images", type=int, help="default 1000 (overhead) or 300 (verify)")
    parser.add_argument("--side", type=int, default=1024, help="pixels a side (default 1024)")
    parser.add_argument("--pairs", type=int, default=500_000, help="recorded pairs (default 500,000)")
    args = parser.parse_args()
    work: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "overhead": (bench_overhead, (args.images or 1000, args.side)),
        "resume": (bench_resume, (args.pairs,)),
        "verify": (bench_verify, (args.images or 300, args.side)),
    }
    run, arguments = work[args.what]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps(pool.apply(run, arguments), indent=1))


if __name__ == "__main__":
    main()
