"""What is left of a judge's capacity, by how a server is asked for rewards.

    python benchmarks/reward_server.py

A stand-in of a judge takes 1 s for a batch of up to 8 images, whatever is in it: 8 a second is all that it can do, and
the share of that shows what is lost on the way. Images have 96 px. Trainers' workers send groups of 4 images of one
prompt to /compute, each worker one group after the other, as Flow-Factory does; the program ends with status 1 where
one was refused. Of real students see `benchmarks/rewards.py speed`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import httpx2
from harness import Flags, Results, timed
from PIL import Image

from dyneval.client import AsyncClient, Client
from dyneval.loaded_pairs import LoadedPair
from dyneval.records import ScoreRecord

# The stand-in's pace: so slow that what is lost on the way, and not the machine, decides the rate.
BATCH, SECONDS = 8, 1.0
# Trainers: images of a prompt, and workers that ask at the same time.
GROUP, WORKERS = 4, 64
# Images of the loop of single calls: each takes a whole second.
FEW = 24
Examples = Sequence[tuple[bytes, str]]


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

    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    # send returns None, and what is told here has to be true.
    BoundServer(config, listener, lambda: ready.send(address) is None, lambda: False).run([listener])


@contextmanager
def server() -> Iterator[str]:
    """Run it in a process; yields its address."""
    # Not forked: the client's threads and sockets must not be in the server.
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


async def many_async(address: str, examples: Examples) -> None:
    """`AsyncClient.score_many`."""
    async with AsyncClient(address) as client:
        assert sum([isinstance(result, ScoreRecord) async for result in client.score_many(examples)]) == len(examples)


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


def main() -> None:
    """Ask in each way, and print a row for each."""
    flags = Flags(__doc__)
    flags.add_argument("--images", type=int, default=512, smoke=16, help="default: %(default)s")
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"how a server is asked": "", "images": "", "rewards/s": ".2f", "share of its capacity": ".3f"})
    examples = []
    for number in range(arguments.images):
        data = io.BytesIO()
        Image.linear_gradient("L").rotate(number).resize((96, 96)).convert("RGB").save(data, "PNG")
        examples.append((data.getvalue(), f"a wall in the evening, {number // GROUP}"))
    few = examples[: 2 if arguments.smoke else FEW]
    ways: dict[str, tuple[Callable[[str, Examples], object], Examples]] = {
        "a loop of single calls": (single, few),
        "Client.score_many": (many, examples),
        "AsyncClient.score_many": (lambda address, images: asyncio.run(many_async(address, images)), examples),
        f"{WORKERS} trainers' workers on /compute, groups of {GROUP}": (trainers, examples),
    }
    with server() as address:
        # The first call starts the processes that decode images.
        single(address, examples[:1])
        for name, (ask, images) in ways.items():
            with timed() as usage:
                ask(address, images)
            rate = len(images) / usage.wall
            results.row(name, len(images), rate, rate * SECONDS / BATCH)


if __name__ == "__main__":
    main()
