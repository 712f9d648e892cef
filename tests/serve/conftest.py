import base64
import io
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from PIL import Image, ImageDraw

from dyneval.loaded_pairs import Failure, PassEnded
from dyneval.records import ScoreRecord
from tests import processes

LIMITS = ["--max-questions", "2", "--max-text", "8", "--batch-size", "8", "--device", "cpu"]


def serving(student, log, *flags, **environment):
    """The real server with a student, in a process of its own; yields its address and the process."""
    return running(log, "--checkpoint", str(student), *LIMITS, *flags, **environment)


@contextmanager
def running(log, *flags, **environment):
    """`dyneval serve` in a process of its own; yields its address and the process."""
    command = [sys.executable, "-m", "dyneval", "serve", "--port", "0", *flags]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DYNEVAL_TOKEN": ""} | environment
    with log.open("wb") as output:
        process = processes.Process(command, stdout=output, stderr=output, env=settings)
    try:
        yield _address(process, log), process
    finally:
        process.kill()
        process.wait()


def _address(process, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = log.read_text()
        if "running on" in text:
            return text.split("running on ")[1].split()[0]
        assert process.poll() is None, text
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def serve_in_process():
    """The context manager that runs the real server: serve_in_process(student, log, *flags, **environment)."""
    return serving


@pytest.fixture(scope="session")
def run_server():
    """The context manager that runs `dyneval serve`: run_server(log, *flags, **environment)."""
    return running


@pytest.fixture(scope="session")
def server(student, tmp_path_factory):
    """Address of one real server for all tests that leave it as it is."""
    with serving(student, tmp_path_factory.mktemp("server") / "log.txt", "--max-image", "1000000") as (address, _):
        yield address


@pytest.fixture
def visit(chromium):
    """visit(address, **context) -> a page; at the end no script may have failed and nothing been asked of others."""
    opened = []

    def go(address, **options):
        page = chromium.new_context(**options).new_page()
        page.set_default_timeout(60_000)
        trouble = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda said: said.type == "error" and not is_status(said.text) and trouble.append(said.text))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or trouble.append(request.url),
        )
        page.goto(address)
        opened.append((page, trouble))
        return page

    yield go
    for page, trouble in opened:
        assert trouble == []
        page.context.close()


def is_status(text):
    """The browser's own note of an answer such as 401 or 422, or of none, which the page tells in its words."""
    return text.startswith("Failed to load resource: ")


@pytest.fixture(scope="session")
def picture():
    """Bytes of a PNG file."""
    image = Image.new("RGB", (96, 64), (200, 180, 90))
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(180, 30, 30))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoded(picture):
    return base64.b64encode(picture).decode()


class Judge:
    """Scores all 3, without a model; "break" in a prompt raises, "fail" fails, "wait" waits until `go` is set."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.go = threading.Event()
        self.batches = []

    def __call__(self, pairs):
        self.batches.append([pair.prompt for pair in pairs])
        if any("break" in pair.prompt for pair in pairs):
            raise RuntimeError("CUDA error: something on the device")
        time.sleep(self.seconds)
        for number, pair in enumerate(pairs):
            if "wait" in pair.prompt:
                self.go.wait(20)
            yield number, PassEnded("t2ia_questions", {"t2ia_questions": [{"question": "Is it?", "answer": "yes"}]})
            yield number, Failure(pair.pair_id, "no reply") if "fail" in pair.prompt else _verdict(pair)


def _verdict(pair):
    question = {"question": "Is it?", "answer": "yes", "score": 3, "soft_score": 3.2, "reasoning": "It is."}
    scores = dict.fromkeys(("t2ia", "iqa", "overall"), 3.0)
    return ScoreRecord(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        image=pair.image_name,
        **scores,
        normalised=dict.fromkeys(scores, 0.5),
        t2ia_questions=[question],
        iqa_questions=[question],
        scene_graph={"nodes": [], "edges": []},
        model="judge",
        template="readme",
        soft=dict.fromkeys(scores, 3.2),
    )


@pytest.fixture(scope="session")
def judge_class():
    return Judge


@pytest.fixture
def start():
    """Serve an application from a thread: start(app) -> address. All are ended after the test."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_in_thread(app))


@pytest.fixture
def crowd():
    """crowd(most, app) -> host and port of the application behind at most so many connections, as `dyneval serve`."""
    ends = []

    def begin(most, app):
        import uvicorn

        from dyneval.serve import connections

        http = partial(connections.Connection, opened={}, most=most)
        config = uvicorn.Config(app, http=http, ws="none", log_level="warning")
        listener = connections.listen_on("127.0.0.1", 0)
        server = connections.BoundServer(config, listener, lambda: True, lambda: False)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        ends.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return listener.getsockname()[:2]

    yield begin
    for server, thread in ends:
        server.should_exit = True
        thread.join()


@contextmanager
def _in_thread(app):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
