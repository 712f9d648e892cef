"""A server among strangers: their names, pages of other sites, connections that say nothing, files that go wrong."""

import asyncio
import base64
import io
import json
import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import uvicorn
from PIL import Image

from dyneval.errors import ImageError, SettingError
from dyneval.loaded_pairs import LoadedPair
from dyneval.serve import connections, decoding, guard, scoring_routes
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.decoding import Decoders
from dyneval.serve.server import serve as run_server
from dyneval.serve.settings import ServerSettings

HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-"


@pytest.fixture
def serve(start, judge_class):
    """serve(judge, warm_up, **settings) -> a client of a server with these."""
    clients = []

    def begin(judge=None, warm_up=None, **settings):
        chosen = ServerSettings(**({"queue": 4, "max_pairs": 4, "timeout": 30} | settings))
        batcher = Batcher(judge or judge_class(), batch_size=2, queue=chosen.queue, wait=0.01, warm_up=warm_up)
        clients.append(httpx2.Client(base_url=start(create_app(batcher, chosen, {"model": "judge"})), timeout=30))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


@pytest.fixture
def judging(judge_class):
    """judging(judge) -> an application for `crowd`."""

    def made(judge=None):
        batcher = Batcher(judge or judge_class(), batch_size=2, queue=4, wait=5 if judge else 0.01)
        return create_app(batcher, ServerSettings(queue=4, max_pairs=4, timeout=30), {})

    return made


# ---------------------------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        (socket.gethostname(), 200),
        ("judge.example:80", 200),
        ("JUDGE.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("[::1", 403),
        ("@localhost", 403),
    ],
)
def test_only_names_of_the_server_are_answered(serve, host, status):
    http = serve(allow_hosts=("judge.example",))
    for path in ("/healthz", "/v1/model", "/nowhere/"):
        answer = http.get(path, headers={"host": host})
        assert answer.status_code == (404 if status == 200 and path == "/nowhere/" else status)
        assert "evil" not in answer.text + str(answer.headers), "no name is repeated"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 422),
        ("https://127.0.0.1:8000", 422),
        ("https://judge.example", 422),
        ("http://127.0.0.1:8001", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_sites_cannot_ask(serve, origin, status):
    headers = {"host": "127.0.0.1:8000", "origin": origin, "content-type": "text/plain"}
    http = serve(allow_hosts=("judge.example",))
    assert http.post("/v1/score", headers=headers | {"content-type": "application/json"}).status_code == status
    assert serve(allow_hosts=("*",)).get("/healthz", headers=headers | {"host": "any.example"}).status_code == 200


def test_a_wrong_token_is_called_wrong(serve):
    http = serve(token="correct-horse-battery")
    assert http.get("/v1/model", headers={"host": "any.example"}).status_code == 401
    said = [http.get("/v1/model", headers=headers).json()["message"] for headers in ({}, {"authorization": "Bearer x"})]
    assert said == ["a bearer token is needed", "the bearer token is wrong"]


# ---------------------------------------------------------------------------------------------------------------------
# Connections


def ended(connection):
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def test_half_open_connections_lock_nobody_out(crowd, judging):
    address = crowd(8, judging())
    silent = [socket.create_connection(address, timeout=20) for _ in range(30)]
    for one in silent:
        with suppress(OSError):  # some were ended meanwhile
            one.sendall(HALF)
    for _ in range(3):
        assert httpx2.get(f"http://{address[0]}:{address[1]}/healthz", timeout=20).status_code == 200
    assert ended(silent[0]), "the oldest one makes room"
    for one in silent:
        one.close()


def test_a_client_in_the_middle_of_its_upload_outlives_half_open_connections(crowd, judging, encoded):
    address = crowd(4, judging())
    body = json.dumps({"image": encoded, "prompt": "a"}).encode()
    with socket.create_connection(address, timeout=20) as honest:
        honest.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"ok" not in answer:
            answer += honest.recv(4096)
        silent = [socket.create_connection(address, timeout=20) for _ in range(6)]
        honest.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        honest.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
        for _ in range(6):
            silent.append(socket.create_connection(address, timeout=20))
            with suppress(OSError):
                silent[-1].sendall(HALF)
        assert httpx2.get(f"http://{address[0]}:{address[1]}/healthz", timeout=20).status_code == 200
        honest.sendall(body[100:])
        assert honest.recv(4096).startswith(b"HTTP/1.1 200")
    for one in silent:
        one.close()


def test_a_server_full_of_requests_at_work_says_when_to_come_back(crowd, judging, judge_class, encoded):
    judge = judge_class()
    address = crowd(2, judging(judge))
    body = json.dumps({"image": encoded, "prompt": "wait"}).encode()
    head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    busy = [socket.create_connection(address, timeout=20) for _ in range(2)]
    for one in busy:
        one.sendall(head % len(body) + body)
    while judge.batches != [["wait"] * 2]:
        time.sleep(0.01)
    with socket.create_connection(address, timeout=20) as late:
        said = late.recv(4096)
    assert said.startswith(b"HTTP/1.1 503") and b"Retry-After: 5" in said
    judge.go.set()
    for one in busy:
        one.close()


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_headers_arrive_in_time_or_never(crowd, judging, monkeypatch, before):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    with socket.create_connection(crowd(8, judging()), timeout=20) as slow:
        slow.sendall(before)
        answer = b""
        while before and b"ok" not in answer:
            answer += slow.recv(4096)
        slow.sendall(HALF)
        assert ended(slow)


def test_a_body_that_stops_in_the_middle_is_given_up(crowd, judging, monkeypatch):
    monkeypatch.setattr(guard, "_SILENCE", 0.3)
    with socket.create_connection(crowd(8, judging()), timeout=20) as slow:
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: 9\r\n\r\n{")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(("size", "count", "status"), [(1, 1100, b"400"), (600, 21_000, b"200")])
def test_a_body_in_crumbs_is_refused_and_one_in_segments_is_not(crowd, judging, encoded, size, count, status):
    head = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    body = json.dumps({"image": encoded, "prompt": "a"}).encode().ljust(size * count)
    parts = [b"%x\r\n%s\r\n" % (size, body[at : at + size]) for at in range(0, len(body), size)]
    with socket.create_connection(crowd(8, judging()), timeout=20) as sender:
        with suppress(ConnectionResetError):  # it was refused before its end
            sender.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + b"".join(parts) + b"0\r\n\r\n")
        assert sender.recv(4096).startswith(b"HTTP/1.1 " + status)


POST = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("rest", [b"1\r\na\r\n" * 300, b"no size\r\n"], ids=["crumbs", "no-chunk"])
@pytest.mark.parametrize("answered", [True, False])
def test_a_body_that_goes_wrong_leaves_no_line_in_the_log(crowd, judging, caplog, monkeypatch, rest, answered):
    address = crowd(8, judging())
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    with socket.create_connection(address, timeout=20) as stranger:
        if answered:
            stranger.sendall(POST)
            answer = b""
            while b"Not Found" not in answer.partition(b"\r\n\r\n")[2]:
                answer += stranger.recv(4096)
            stranger.sendall(rest)
        else:
            stranger.sendall(POST + rest)
            assert stranger.recv(4096).startswith(b"HTTP/1.1 400")
        while not ended(stranger):
            pass
    assert httpx2.get(f"http://{address[0]}:{address[1]}/healthz", timeout=20).status_code == 200
    assert caplog.text == ""


def test_a_wish_for_another_protocol_leaves_no_line_in_the_log(crowd, judging, caplog, monkeypatch):
    address = crowd(8, judging())
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    for wish in ("websocket", "h2c"):
        headers = {"connection": "upgrade", "upgrade": wish}
        answer = httpx2.get(f"http://{address[0]}:{address[1]}/healthz", headers=headers, timeout=20)
        assert answer.status_code == 200
    assert caplog.text == ""


# ---------------------------------------------------------------------------------------------------------------------
# What requests hold


@pytest.mark.parametrize("kind", ["json", "form", "batch"])
def test_a_prompt_of_megabytes_is_refused_by_its_size(serve, encoded, picture, kind):
    http, prompt = serve(), "word " * 200_000
    if kind == "batch":
        pairs = [{"image": encoded, "prompt": prompt}, {"image": encoded, "prompt": "a"}]
        huge, good = http.post("/v1/score/batch", json={"pairs": pairs}).json()["results"]
        assert "at most 65536 are read" in huge["error"]["message"] and good["overall"] == 3
        return
    content = {"json": {"image": encoded, "prompt": prompt}}
    if kind == "form":
        content = {"files": {"image": picture}, "data": {"prompt": prompt}}
    answer = http.post("/v1/score", **content)
    assert answer.status_code == 422 and "1000000 bytes, at most 65536" in answer.json()["message"]


def test_texts_of_a_form_are_utf8(serve, picture):
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n' + picture
    head += b'\r\n--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'
    http = serve()
    for charset, prompt, status in (
        ("punycode", b"x" * 500_000 + b"-" + b"b" * 500_000, 415),  # quadratic in Python
        ("utf-16", b"a", 415),
        ("UTF-8", "für".encode(), 200),
    ):
        kind = {"content-type": f"multipart/form-data; charset={charset}; boundary=x"}
        assert http.post("/v1/score", content=head + prompt + b"\r\n--x--\r\n", headers=kind).status_code == status


def test_base64_as_people_send_it_is_taken(serve, picture, encoded):
    lines = base64.encodebytes(picture).decode()
    safe = base64.urlsafe_b64encode(picture).decode()
    forms = [encoded, lines, lines.replace("\n", "\r\n"), f" {encoded} ", encoded.rstrip("="), safe, safe.rstrip("=")]
    forms += [f"data:image/png;base64,{one}" for one in (encoded, lines)] + [f"data:;base64,{encoded}"]
    http = serve()
    answers = [http.post("/v1/score", json={"image": one, "prompt": "a"}) for one in forms]
    assert [answer.status_code for answer in answers] == [200] * len(forms)
    assert len({answer.json()["pair_id"] for answer in answers}) == 1
    for wrong in ("data:image/png,abc", "aGk!", "ähm", "http://127.0.0.1/a.png", "a"):
        assert http.post("/v1/score", json={"image": wrong, "prompt": "a"}).status_code == 422


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch"])
def test_what_stands_twice_counts_neither_time(serve, encoded, path):
    pair = f'{{"image": "{encoded}", "prompt": "a red square", "prompt": "a blue ball"}}'
    body = f'{{"pairs": [{pair}]}}' if path.endswith("batch") else pair
    answer = serve().post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "prompt stands there 2 times" in answer.json()["message"]
    for name in ("prompt", "pr\\u006fmpt"):
        hidden = pair.replace('"prompt": "a red', f'"{name}": "a red')
        body = f'{{"pairs": [{hidden}]}}' if path.endswith("batch") else hidden
        answer = serve().post(path, content=body, headers={"content-type": "application/json"})
        assert answer.json()["message"] == "body: prompt stands there 2 times, expected once"
    quoted = {"image": encoded, "prompt": '"prompt": "prompt":', "pair_id": "prompt"}
    assert serve().post("/v1/score", json=quoted).status_code == 200


def test_what_stands_twice_in_one_pair_is_not_made_up_for_by_another(serve, encoded):
    twice = f'{{"image": "{encoded}", "prompt": "a", "pair_id": "x", "pair_id": "y"}}'
    body = f'{{"pairs": [{twice}, {{"image": "{encoded}", "prompt": "a"}}]}}'
    answer = serve().post("/v1/score/batch", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "pair_id stands there 2 times" in answer.json()["message"]


def test_millions_of_wrong_pairs_are_refused_at_the_first(serve):
    body = b'{"pairs": [' + b"{}," * 2_000_000 + b"{}]}"
    answer = serve().post("/v1/score/batch", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and len(answer.text) < 1000


# ---------------------------------------------------------------------------------------------------------------------
# Decoding


def noise(side):
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(buffer, "JPEG", progressive=True)
    return buffer.getvalue()


def decoded(decoders, content):
    return decoders.threads.submit(decoders.decode, content, "image").result()


def test_a_file_that_takes_too_long_ends_its_decoder_and_nothing_else(picture):
    patient, hasty = Decoders(1 << 24), Decoders(1 << 24, seconds=0.05)
    try:
        with pytest.raises(ImageError, match=r"image: not decoded within 0\.05 s of computing"):
            decoded(hasty, noise(3000))
        assert decoded(patient, noise(3000)).image.size == (3000, 3000)
        assert decoded(patient, picture).image.size == (96, 64)
        with pytest.raises(ImageError, match="image: not an image file"):
            decoded(patient, b"no image")
    finally:
        patient.close()
        hasty.close()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_another_decoder_takes_the_place_of_one_that_died(serve, encoded, number):
    http = serve()
    for _ in range(3):
        assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200
        for pid in decoder_processes():
            os.kill(pid, number)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch", "/v1/score/stream"])
def test_what_is_wrong_with_the_machine_is_not_said_of_the_image(serve, encoded, path, monkeypatch, tmp_path):
    http = serve()
    pair = {"image": encoded, "prompt": "a"}
    body = {"pairs": [pair] * 3} if path.endswith("batch") else pair
    with monkeypatch.context() as patch:
        for python in (tmp_path / "no-such-python", Path("/bin/false")):
            patch.setattr("sys.executable", str(python))
            answer = http.post(path, json=body)
            if path.endswith("batch"):
                assert [row["error"]["code"] for row in answer.json()["results"]] == ["unavailable"] * 3
            else:
                assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
            assert "dyneval_queue_pairs 0.0" in http.get("/metrics").text
    assert http.post(path, json=body).status_code == 200


def test_a_decoder_that_says_nothing_is_given_up(serve, encoded, monkeypatch):
    monkeypatch.setattr(decoding, "_WAIT", 5)
    http = serve()
    pair = {"image": encoded, "prompt": "a"}
    while http.post("/v1/score", json=pair).status_code != 200:  # starting one may take longer than that
        pass
    for pid in decoder_processes():
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(decoding, "_WAIT", 60)
    assert http.post("/v1/score", json=pair).status_code == 503
    assert http.post("/v1/score", json=pair).status_code == 200


def test_decoders_import_nothing_from_where_the_server_is_started(serve, encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("json", "PIL", "struct", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    assert serve().post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200
    assert not (tmp_path / "executed").exists()


def decoder_processes():
    """Decoders that are children of this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
            if b"dyneval.serve.decoding" in path.read_bytes() and parent == os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_decoder_keeps_nothing_of_an_image_but_its_answer(picture):
    decoders, before, held = Decoders(1 << 24), {*decoder_processes()}, []
    try:
        for content, size in ((picture, (96, 64)), (noise(4000), (4000, 4000))):
            assert decoders.decode(content, "image").image.size == size
            (pid,) = {*decoder_processes()} - before
            held.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    finally:
        decoders.close()
    # The answer has three bytes a pixel. Pillow's image has four more, and would count against the next file's limit.
    assert held[1] - held[0] < 5 * 4000 * 4000


def test_decoders_end_with_the_server_whatever_ends_it(serve_in_process, student, encoded, tmp_path):
    with serve_in_process(student, tmp_path / "log.txt") as (address, process):
        pair = {"image": encoded, "prompt": "a"}
        assert httpx2.post(f"{address}/v1/score", json=pair, timeout=60).status_code == 200
        lists = [task / "children" for task in Path(f"/proc/{process.pid}/task").iterdir()]
        children = [int(child) for one in lists for child in one.read_text().split()]
        assert children
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while any(alive(child) for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Coming and going


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/batch"])
def test_clients_that_leave_free_their_places(serve, judge_class, encoded, path):
    judge = judge_class()
    http = serve(judge, queue=4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": "wait"})
        while not judge.batches:
            time.sleep(0.01)
        for number in range(12):
            pair = {"image": encoded, "prompt": f"left {number}"}
            body = json.dumps({"pairs": [pair] * 2} if path.endswith("batch") else pair).encode()
            with socket.create_connection((http.base_url.host, http.base_url.port), timeout=20) as leaving:
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                leaving.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                while "dyneval_queue_pairs 0.0" in http.get("/metrics").text:
                    time.sleep(0.01)
            while "dyneval_queue_pairs 0.0" not in http.get("/metrics").text:
                time.sleep(0.01)
        judge.go.set()
        assert first.result().status_code == 200
    assert http.post("/v1/score", json={"image": encoded, "prompt": "next"}).status_code == 200
    assert judge.batches == [["wait"], ["next"]]
    left = 24 if path.endswith("batch") else 12
    assert f'dyneval_pairs_total{{outcome="left"}} {left}.0' in http.get("/metrics").text
    assert 'dyneval_pairs_total{outcome="scored"} 2.0' in http.get("/metrics").text


def test_a_stream_that_never_starts_leaves_no_pair_behind(judge_class, encoded):
    """The client is gone between the end of its request and the first event: no piece is ever asked for."""
    judge = judge_class()
    body = json.dumps({"image": encoded, "prompt": "left"}).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/score/stream", "headers": headers, "query_string": b""}
    scope |= {
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
    }

    async def scenario():
        batcher = Batcher(judge, batch_size=1, queue=4, wait=0)
        app = create_app(batcher, ServerSettings(), {})
        asked = []

        async def receive():
            asked.append(1)
            if len(asked) == 1:
                return {"type": "http.request", "body": body, "more_body": False}
            if len(asked) == 2:  # while the image is decoded
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        async with app.router.lifespan_context(app):
            with batcher.hold() as places:
                first = places.submit(
                    LoadedPair(pair_id="1", prompt="wait", image=Image.new("RGB", (8, 8)), image_name="i")
                )
            while not judge.batches:
                await asyncio.sleep(0.01)
            await app(scope, receive, send)
            await asyncio.sleep(0)
            held = batcher.held
            judge.go.set()
            await first
        return held

    assert asyncio.run(scenario()) == 0
    assert judge.batches == [["wait"]]


def test_a_server_that_warms_up_says_so(serve, encoded, monkeypatch):
    monkeypatch.setattr(scoring_routes, "_MOMENT", 0.1)
    go = threading.Event()
    http = serve(warm_up=lambda judge: go.wait(20) and 30.0, timeout=None)
    for answer in (http.get("/readyz"), http.post("/v1/score", json={"image": encoded, "prompt": "a"})):
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 0
        assert answer.json() == {"code": "warming_up", "message": "the student is warming up"}
    assert http.get("/healthz").status_code == 200
    go.set()
    while http.get("/readyz").status_code != 200:
        time.sleep(0.01)
    assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200


def test_the_timeout_follows_from_the_first_pair():
    assert ServerSettings().seconds(0.5) == 120 and ServerSettings().seconds(60) == 600
    assert ServerSettings(timeout=5).seconds(60) == 5


def test_a_port_that_is_taken_is_told_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"--port {port}: cannot listen there"):
            run_server(lambda: pytest.fail("loaded"), ServerSettings(), "127.0.0.1", port)
    for host, port in (("no-such-host.invalid", 0), ("127.0.0.1", 70_000), ("127.0.0.1", -1)):
        with pytest.raises(SettingError, match="cannot listen there"):
            run_server(lambda: pytest.fail("loaded"), ServerSettings(), host, port)


def test_the_log_tells_once_that_connections_cannot_be_accepted(caplog):
    config = uvicorn.Config(lambda scope: None, log_config=None)
    server = connections.BoundServer(config, socket.socket(), lambda: True, lambda: False)
    loop = asyncio.new_event_loop()
    context = {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many")}
    for _ in range(100):
        server.on_loop_error(loop, context)
    loop.close()
    assert len(caplog.records) == 1 and "raise ulimit -n" in caplog.text
