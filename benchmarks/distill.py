"""Speed and memory of Step 3, each beside a baseline in the same run.

    python benchmarks/distill.py client --requests 10000 --latency 1.0
    python benchmarks/distill.py build --pairs 250000

client: requests about real 1024x1024 PNGs to a local HTTP server of fixed latency that answers 64 at once; baseline:
one request at a time. build: DynEvalInstruct from made-up annotations, validation on; baseline: four small JSON files
a pair, all samples in one list, checked with pure-Python jsonschema, and the same unchecked.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from distill_build import bench_build
from harness import ROOT, Cost, Flags, Results, alternate, timed
from PIL import Image

from dyneval.records import Question

# Requests that the server answers at once; further ones wait, as in front of a busy vLLM.
PARALLEL = 64


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


async def send(url: str, images: Sequence[Path], requests: int, concurrency: int) -> Cost:
    """Send requests through the engine, the images encoded beforehand; returns the time of this process."""
    from dyneval.llm.registry import make_engine
    from dyneval.teacher.prompts import answers_request

    questions = [Question(question=f"Is thing {number} there?", answer="yes") for number in range(12)]
    engine = make_engine("openai", "m", base_urls=[f"{url}/v1"], concurrency=concurrency)
    prepared = [answers_request("t2ia", image, "a cat", questions) for image in images]
    # The first round encodes the images and opens the connections, which a long run does once.
    for request in prepared:
        await engine.chat(request)
    todo = iter(range(requests))

    async def work() -> None:
        for number in todo:
            await engine.chat(prepared[number % len(prepared)])

    with timed() as usage:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    await engine.close()
    return usage


def bench_client(arguments: argparse.Namespace, results: Results) -> None:
    """The engine with 1.5 times as many requests in flight as the server takes, against one at a time."""
    from dyneval.llm.pictures import data_url

    columns = {"": "", "requests": ",", "requests/s": ".2f", "share of the server's capacity": ".3f"}
    results.table(columns | {"client CPU ms a request": ".1f", "most in flight": ""})
    few, many, capacity = arguments.baseline_requests, arguments.requests, PARALLEL / arguments.latency
    with tempfile.TemporaryDirectory() as folder, chat_server(arguments.latency) as url:
        # Smooth pictures with a little noise: 1.7 MB each as PNG, as photographs of this size have.
        rng, images = np.random.default_rng(0), []
        for number in range(2 if arguments.smoke else 32):
            small = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            pixels = np.asarray(small.resize((1024, 1024), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = (pixels + rng.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
            images.append(Path(folder, f"{number}.png"))
            Image.fromarray(noisy).save(images[-1], compress_level=1)
        with timed() as encoding:
            for image in images:
                data_url(image)
        print(f"encoding an image takes {encoding.wall / len(images):.3f} s; it is done once, before", file=sys.stderr)
        variants = {
            "one at a time": lambda: asyncio.run(send(url, images, few, 1)),
            # Fewer would leave the server's places empty while the client reads replies and prepares requests.
            "engine `openai`": lambda: asyncio.run(send(url, images, many, PARALLEL * 3 // 2)),
        }
        found = alternate(variants, arguments.repeat)
        with urlopen(f"{url}/stats") as reply:
            most = json.load(reply)["most_in_flight"]
    for (name, runs), requests in zip(found.items(), (few, many), strict=True):
        rates = [requests / run.wall for run in runs]
        cpu = [1000 * run.cpu / requests for run in runs]
        results.row(name, requests, rates, [rate / capacity for rate in rates], cpu, most if requests == many else 1)


def main() -> None:
    """Measure one of the two parts."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("what", choices=("client", "build"))
    flags.add_argument("--requests", type=int, default=10_000, smoke=64, help="client: default: %(default)s")
    flags.add_argument("--baseline-requests", type=int, default=20, smoke=2)
    flags.add_argument("--latency", type=float, default=1.0, smoke=0.05, help="seconds that the server takes")
    flags.add_argument("--pairs", type=int, default=250_000, smoke=40, help="build: default: %(default)s")
    flags.add_argument("--baseline-pairs", type=int, default=10_000, smoke=20)
    flags.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of the builder")
    flags.add_argument("--scratch", type=Path, help="folder with room for 13 kB a pair, and as much for the result")
    arguments = flags.parse_args()
    (bench_client if arguments.what == "client" else bench_build)(arguments, Results(arguments))


if __name__ == "__main__":
    main()
