"""Queue, timeouts, token and a breaking student, with a judge that needs no model."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings


@pytest.fixture
def serve(start):
    """serve(judge, **settings) -> a client of a server with these."""
    clients = []

    def begin(judge, batch_size=2, **settings):
        chosen = ServerSettings(**({"queue": 4, "max_pairs": 4, "timeout": 10} | settings))
        batcher = Batcher(judge, batch_size=batch_size, queue=chosen.queue, wait=0.01, patience=chosen.timeout)
        address = start(create_app(batcher, chosen, {"model": "judge"}))
        clients.append(httpx2.Client(base_url=address, timeout=20))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


def test_a_full_queue_answers_429_and_all_that_was_taken_is_answered(serve, judge_class, encoded):
    judge = judge_class()
    http = serve(judge)
    with ThreadPoolExecutor(12) as pool:
        answers = [
            pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": f"wait {n}"}) for n in range(12)
        ]
        while sum(answer.done() for answer in answers) < 12 - 2 - 4:
            time.sleep(0.02)
        batch = http.post("/v1/score/batch", json={"pairs": [{"image": encoded, "prompt": "a"}] * 4})
        judge.go.set()
    statuses = sorted(answer.result().status_code for answer in answers)
    assert set(statuses) == {200, 429} and statuses.count(200) >= 4
    for answer in [batch, *(answer.result() for answer in answers if answer.result().status_code == 429)]:
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert "dyneval_queue_pairs 0.0" in http.get("/metrics").text


def test_a_batch_larger_than_the_room_left_is_refused_whole(serve, judge_class, encoded):
    judge = judge_class()
    http = serve(judge)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": "wait"})
        while not judge.batches:
            time.sleep(0.01)
        held = pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": "a"})
        while "dyneval_queue_pairs 1.0" not in http.get("/metrics").text:
            time.sleep(0.01)
        assert http.post("/v1/score/batch", json={"pairs": [{"image": encoded, "prompt": "b"}] * 4}).status_code == 429
        judge.go.set()
        assert running.result().status_code == held.result().status_code == 200
    assert judge.batches == [["wait"], ["a"]]


def test_a_result_that_takes_too_long_is_a_timeout_and_the_next_pair_is_scored(serve, judge_class, encoded):
    judge = judge_class()
    http = serve(judge, timeout=3)
    assert http.post("/v1/score", json={"image": encoded, "prompt": "wait"}).status_code == 504
    events = http.post("/v1/score/stream", json={"image": encoded, "prompt": "queued behind"}).text
    assert "event: error" in events and "no result within 3 s" in events
    judge.go.set()
    assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200
    assert ["queued behind"] not in judge.batches


def test_a_request_that_does_not_arrive_holds_no_place_and_ends(serve, judge_class, encoded):
    http = serve(judge_class(), timeout=4, queue=1, max_pairs=1)
    address = (http.base_url.host, http.base_url.port)
    with socket.create_connection(address, timeout=60) as slow:
        slow.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_reader_of_a_stream_who_leaves_takes_the_pair_along(serve, judge_class, encoded):
    judge = judge_class()
    http = serve(judge, batch_size=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": "wait"})
        while not judge.batches:
            time.sleep(0.01)
        with http.stream("POST", "/v1/score/stream", json={"image": encoded, "prompt": "left"}) as answer:
            next(answer.iter_lines())
        while 'path="/v1/score/stream"' not in http.get("/metrics").text:  # counted when the stream has ended
            time.sleep(0.02)
        judge.go.set()
        assert first.result().status_code == 200
    assert http.post("/v1/score", json={"image": encoded, "prompt": "next"}).status_code == 200
    assert judge.batches == [["wait"], ["next"]]


def test_passes_are_streamed_as_they_end(serve, judge_class, encoded):
    judge = judge_class()
    http = serve(judge)
    with http.stream("POST", "/v1/score/stream", json={"image": encoded, "prompt": "a"}) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith(("event", "data"))]
    assert lines[::2] == ["event: queued", "event: pass", "event: result"]
    assert json.loads(lines[3].removeprefix("data: "))["pass"] == "t2ia_questions"


def test_a_pair_that_breaks_the_student_is_a_500_of_its_own(serve, judge_class, encoded):
    http = serve(judge_class())
    batch = http.post(
        "/v1/score/batch", json={"pairs": [{"image": encoded, "prompt": p} for p in ("a", "break", "fail")]}
    )
    good, broken, failed = batch.json()["results"]
    assert good["overall"] == 3
    assert broken["error"] == {"code": "internal", "message": "the student broke on this pair"}
    assert failed["error"]["message"] == "no reply"
    for _ in range(3):
        assert http.post("/v1/score", json={"image": encoded, "prompt": "break"}).status_code == 500
    assert http.get("/readyz").status_code == 503 and http.get("/healthz").status_code == 200
    assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}).status_code == 200
    assert http.get("/readyz").status_code == 200


TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, f"Bearer {TOKEN}x", f"bearer {TOKEN}", f"Basic {TOKEN}", "Bearer \xff"]
)
def test_without_the_token_nothing_is_told(serve, judge_class, given):
    http = serve(judge_class(), token=TOKEN)
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    for method, path in [("POST", "/v1/score"), ("POST", "/v1/score/batch"), ("GET", "/v1/model"), ("GET", "/metrics")]:
        answer = http.request(method, path, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert http.get("/healthz").status_code == http.get("/").status_code == 200


def test_the_token_opens_the_door(serve, judge_class, encoded):
    http = serve(judge_class(), token=TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert http.post("/v1/score", json={"image": encoded, "prompt": "a"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"queue": 0}, {"timeout": 0}, {"batch_wait": -1}, {"queue": 4, "max_pairs": 5}, {"token": "short"}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        ServerSettings(**wrong)
    assert "secret" not in repr(ServerSettings(token="secret-of-the-server"))
