"""Speed and memory of Step 3, each beside a baseline in the same run.

    python benchmarks/distill.py client [--requests 10000] [--latency 1.0]
    python benchmarks/distill.py build [--pairs 250000]

client: requests about real 1024x1024 PNGs to a local HTTP server of fixed latency that answers 64 at once; baseline:
one request at a time. build: DynEvalInstruct from generated annotations, validation on; baseline: four small JSON files
a pair, all samples in one list, checked with pure-Python jsonschema, and the same unchecked. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from distill_build import bench_build, timed
from PIL import Image

from dyneval.records import Question

ROOT = Path(__file__).parents[1]
PARALLEL = 64
# ---------------------------------------------------------------------------------------------------------------------
# client


@contextlib.contextmanager
def chat_server(latency: float) -> Iterator[str]:
    """The tests' HTTP server: fixed latency, `PARALLEL` requests at once, the others wait."""
    command = [sys.executable, str(ROOT / "tests/llm/chat_server.py"), f"--parallel={PARALLEL}", f"--latency={latency}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def make_images(folder: Path, count: int = 32) -> list[Path]:
    """Smooth pictures with a little noise: 1.7 MB each as PNG, as photographs of this size have."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((1024, 1024), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (pixels + rng.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(noisy).save(paths[-1], compress_level=1)
    return paths


async def send(url: str, images: Sequence[Path], requests: int, concurrency: int) -> dict[str, float]:
    """Send requests through the engine, the images encoded beforehand; seconds, and CPU seconds of this process."""
    from dyneval.llm.registry import make_engine
    from dyneval.teacher.prompts import answers_request

    questions = [Question(question=f"Is thing {number} there?", answer="yes") for number in range(12)]
    engine = make_engine("openai", "m", base_urls=[f"{url}/v1"], concurrency=concurrency)
    prepared = [answers_request("t2ia", image, "a cat", questions) for image in images]
    for request in prepared:  # encodes the images, opens the connections
        await engine.chat(request)
    todo = iter(range(requests))

    async def work() -> None:
        for number in todo:
            await engine.chat(prepared[number % len(prepared)])

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await engine.close()
    return {"seconds": wall, "cpu_seconds": cpu}


def bench_client(args: argparse.Namespace) -> dict[str, Any]:
    """The engine with 1.5 times as many requests in flight as the server takes, against one at a time."""
    from dyneval.llm.pictures import data_url

    with tempfile.TemporaryDirectory() as folder, chat_server(args.latency) as url:
        images = make_images(Path(folder))
        encoding = timed(lambda: [data_url(image) for image in images]) / len(images)
        one = asyncio.run(send(url, images, args.baseline_requests, 1))
        many = asyncio.run(send(url, images, args.requests, PARALLEL * 3 // 2))
        with urlopen(f"{url}/stats") as reply:
            most = json.load(reply)["most_in_flight"]
    rate, slow = args.requests / many["seconds"], args.baseline_requests / one["seconds"]
    return {
        "requests": args.requests,
        "server_latency_s": args.latency,
        "server_capacity_per_s": PARALLEL / args.latency,
        "requests_per_s": round(rate, 2),
        "share_of_capacity": round(rate * args.latency / PARALLEL, 4),
        "most_in_flight": most,
        "client_cpu_ms_per_request": round(many["cpu_seconds"] / args.requests * 1000, 2),
        "image_encoding_ms": round(encoding * 1000, 1),
        "baseline_one_at_a_time_per_s": round(slow, 3),
        "times_faster": round(rate / slow, 1),
    }


def main() -> None:
    """Parse the command line and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    client = parts.add_parser("client", help="requests a second, and what one costs")
    client.add_argument("--requests", type=int, default=10_000)
    client.add_argument("--baseline-requests", type=int, default=20)
    client.add_argument("--latency", type=float, default=1.0)
    build = parts.add_parser("build", help="seconds and memory to build DynEvalInstruct")
    build.add_argument("--pairs", type=int, default=250_000)
    build.add_argument("--baseline-pairs", type=int, default=10_000)
    build.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    build.add_argument("--scratch", type=Path, help="folder with room for 13 kB a pair, and as much for the result")
    args = parser.parse_args()
    result = bench_client(args) if args.part == "client" else bench_build(args)
    print(json.dumps({**result, "load_average": os.getloadavg()[0], "cpus": os.cpu_count()}, indent=2))


if __name__ == "__main__":
    main()
