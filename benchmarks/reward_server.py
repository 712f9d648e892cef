"""What is left of a judge's capacity, by how a server is asked for rewards.

    python benchmarks/reward_server.py

A stand-in of a judge takes 1 s for a batch of up to 8 images, whatever is in it: 8 a second is all that it can do, and
the share of that shows what is lost on the way. Images have 96 px. Trainers' workers send groups of 4 images of one
prompt to /compute, each worker one group after the other, as Flow-Factory does; the exit status is 1 where one was
refused. Of real students see `benchmarks/rewards.py speed`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import httpx2
from PIL import Image

from dyneval.client import AsyncClient, Client
from dyneval.loaded_pairs import LoadedPair
from dyneval.records import ScoreRecord

BATCH, SECONDS = 8, 1.0
GROUP, WORKERS = 4, 64
Examples = Sequence[tuple[bytes, str]]
Row = tuple[str, int, float]


def paced(pairs: Sequence[LoadedPair]) -> Iterator[tuple[int, ScoreRecord]]:
    """A judge that gives every image the same scores, in its own time."""
    time.sleep(SECONDS)
    question = {"question": "Is it?", "answer": "yes", "score": 3, "soft_score": 3.0, "reasoning": "It is."}
    scores = dict.fromkeys(("t2ia", "iqa", "overall"), 3.0)
    row = {
        **scores,
        "normalised": dict.fromkeys(scores, 0.5),
        "soft": scores,
        "t2ia_questions": [question],
        "iqa_questions": [question],
        "scene_graph": {"nodes": [], "edges": []},
        "model": "paced",
        "template": "readme",
    }
    for number, pair in enumerate(pairs):
        own = {"pair_id": pair.pair_id, "prompt": pair.prompt, "image": pair.image_name}
        yield number, ScoreRecord.from_dict(row | own, pair.pair_id)


def serve_paced(ready: Any) -> None:
    """Body of a process: the server with the paced judge; tells its address."""
    import uvicorn

    from dyneval.serve.app import create_app
    from dyneval.serve.batcher import Batcher
    from dyneval.serve.connections import BoundServer, listen_on, protocol
    from dyneval.serve.settings import ServerSettings

    settings = ServerSettings(rewards=True, max_body=1 << 27)
    batcher = Batcher(paced, batch_size=BATCH, queue=settings.queue, wait=settings.batch_wait)  # type: ignore[arg-type]
    listener = listen_on("127.0.0.1", 0)
    app = create_app(batcher, settings, {"model": "paced"})
    config = uvicorn.Config(app, http=protocol(), ws="none", log_level="warning")  # type: ignore[arg-type]

    def tell() -> bool:
        ready.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
        return True

    BoundServer(config, listener, tell, lambda: False).run([listener])


@contextmanager
def server() -> Iterator[str]:
    """Run it in a process; yields its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_paced, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def single(address: str, examples: Examples) -> None:
    """One image after the other."""
    with Client(address) as client:
        for image, prompt in examples:
            client.score([image], [prompt])


def many(address: str, examples: Examples) -> None:
    """`Client.score_many`."""
    with Client(address) as client:
        assert sum(isinstance(result, ScoreRecord) for result in client.score_many(examples)) == len(examples)


def many_async(address: str, examples: Examples) -> None:
    """`AsyncClient.score_many`."""

    async def run() -> int:
        async with AsyncClient(address) as client:
            return sum([isinstance(result, ScoreRecord) async for result in client.score_many(examples)])

    assert asyncio.run(run()) == len(examples)


def trainers(address: str, examples: Examples) -> None:
    """Workers with a session each; raises where one of them is refused, or gets no rewards."""
    waiting = iter(examples)
    groups = iter(lambda: list(islice(waiting, GROUP)), [])

    def worker(mine: list[Examples]) -> None:
        with httpx2.Client(base_url=address, timeout=60) as session:
            for group in mine:
                images = [base64.b64encode(image).decode() for image, _ in group]
                answer = session.post("/compute", json={"prompt": [prompt for _, prompt in group], "image": images})
                if answer.status_code != 200 or len(answer.json().get("rewards", ())) != len(group):
                    raise SystemExit(f"a trainer was answered {answer.status_code}: {answer.text[:300]}")

    shares: list[list[Examples]] = [[] for _ in range(WORKERS)]
    for number, group in enumerate(groups):
        shares[number % WORKERS].append(group)
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(worker, shares))


def examples_of(count: int, side: int) -> list[tuple[bytes, str]]:
    """Images, as PNG files, and prompts; of each prompt there is a group."""
    found = []
    for number in range(count):
        image = Image.linear_gradient("L").rotate(number).resize((side, side)).convert("RGB")
        data = io.BytesIO()
        image.save(data, "PNG")
        found.append((data.getvalue(), f"a wall in the evening, {number // GROUP}"))
    return found


def timed(name: str, ask: Callable[[], None], count: int) -> Row:
    """Ask; returns name, images and seconds."""
    started = time.perf_counter()
    ask()
    return name, count, time.perf_counter() - started


def asked(address: str, examples: Examples, few: int) -> Iterator[Row]:
    """All ways to ask a server; a loop of single calls about a `few` of them."""
    single(address, examples[:1])  # the first one starts what decodes
    yield timed("server, a loop of single calls", lambda: single(address, examples[:few]), few)
    yield timed("server, Client.score_many", lambda: many(address, examples), len(examples))
    yield timed("server, AsyncClient.score_many", lambda: many_async(address, examples), len(examples))
    yield timed(f"server, {WORKERS} trainers' workers on /compute", lambda: trainers(address, examples), len(examples))


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="default: %(default)s")
    arguments = parser.parse_args()
    with server() as address:
        for name, count, seconds in asked(address, examples_of(arguments.images, 96), 24):
            rate = count / seconds
            share = round(rate * SECONDS / BATCH, 3)
            print(json.dumps({"asked": name, "images": count, "a second": round(rate, 2), "share": share}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
