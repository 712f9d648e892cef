"""The real server with the real scorer, over HTTP."""

import base64
import json
import os

import httpx2
import pytest
from jsonschema import Draft202012Validator

from dyneval.records import ScoreRecord, json_schema


@pytest.fixture(scope="module")
def http(server):
    with httpx2.Client(base_url=server, timeout=60) as client:
        yield client


def comparable(record):
    return {name: value for name, value in record.items() if name not in ("pair_id", "seconds")}


def test_json_multipart_and_batch_give_the_same_valid_record(http, picture, encoded):
    by_json = http.post("/v1/score", json={"image": encoded, "prompt": "a red circle", "pair_id": "mine"})
    by_form = http.post("/v1/score", files={"image": ("../../x.png", picture)}, data={"prompt": "a red circle"})
    batch = http.post("/v1/score/batch", json={"pairs": [{"image": encoded, "prompt": "a red circle"}] * 2})
    assert by_json.status_code == by_form.status_code == batch.status_code == 200
    record = by_json.json()
    Draft202012Validator(json_schema(ScoreRecord)).validate(record)
    assert record["pair_id"] == "mine" and by_form.json()["pair_id"].startswith("P")
    others = [by_form.json(), *batch.json()["results"]]
    assert [comparable(other) for other in others] == [comparable(record)] * 3


def test_odd_images_each_get_a_result_or_an_error_of_their_own(http, odd_images):
    for name, (content, reason) in odd_images.items():
        answer = http.post("/v1/score", files={"image": (name, content)}, data={"prompt": "a red circle"})
        if reason is None:
            assert answer.status_code == 200, (name, answer.text)
        else:
            assert answer.status_code == 422 and reason in answer.json()["message"], (name, answer.text)


def test_odd_prompts_each_get_a_result_or_an_error_of_their_own(http, encoded, odd_prompts):
    for name, (prompt, reason) in odd_prompts.items():
        answer = http.post("/v1/score", json={"image": encoded, "prompt": prompt})
        if reason is None:
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["prompt"] == prompt
        else:
            assert answer.status_code == 422 and reason in answer.json()["message"], (name, answer.text)


def test_a_batch_does_not_die_of_one_of_its_pairs(http, encoded, odd_images, odd_prompts):
    images = [(base64.b64encode(content).decode(), reason) for content, reason in odd_images.values()]
    pairs = [({"image": image, "prompt": "a cat"}, reason) for image, reason in images]
    pairs += [({"image": encoded, "prompt": prompt}, reason) for prompt, reason in odd_prompts.values()]
    answer = http.post(
        "/v1/score/batch", json={"pairs": [{**pair, "pair_id": str(n)} for n, (pair, _) in enumerate(pairs)]}
    )
    results = answer.json()["results"]
    assert [result["pair_id"] for result in results] == [str(n) for n in range(len(pairs))]
    for result, (_, reason) in zip(results, pairs, strict=True):
        assert reason in result["error"]["message"] if reason else result["overall"] >= 1


def test_the_stream_tells_the_passes_and_ends_in_the_result(http, picture):
    with http.stream("POST", "/v1/score/stream", files={"image": picture}, data={"prompt": "a cat"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).strip().split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    assert [one["event"] for one in events] == ["queued", *["pass"] * 4, "result"]
    record = json.loads(events[-1]["data"])
    Draft202012Validator(json_schema(ScoreRecord)).validate(record)
    passes = {found.pop("pass"): found for found in (json.loads(one["data"]) for one in events[1:-1])}
    assert passes["t2ia_scores"] == {"t2ia_questions": record["t2ia_questions"]}
    assert passes["iqa_questions"]["scene_graph"] == record["scene_graph"]
    assert passes["iqa_scores"] == {"iqa_questions": record["iqa_questions"]}


def test_the_stream_tells_an_error_of_the_pair(http, picture):
    answer = http.post("/v1/score/stream", files={"image": picture}, data={"prompt": " "})
    assert answer.text.strip().splitlines()[-2:] == [
        "event: error",
        'data: {"code": "unprocessable", "message": "the prompt is empty"}',
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": b"{}", "headers": {"content-type": "application/json"}}, 422),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 422),
        ({"content": b'{"image": "", "prompt": "\\ud800"}', "headers": {"content-type": "application/json"}}, 422),
        ({"content": b"\xff\xfe", "headers": {"content-type": "application/json"}}, 422),
        ({"json": {"image": "!", "prompt": "a"}}, 422),
        ({"json": {"image": "", "prompt": "a", "path": "/etc/passwd"}}, 422),
        ({"json": {"image": "http://127.0.0.1/x.png", "prompt": "a"}}, 422),
        ({"json": {"image": "", "prompt": "a", "pair_id": ""}}, 422),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"x"}, 415),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400),
        ({"data": {"image": "not a file", "prompt": "a"}}, 415),
        ({"files": {"image": b"x"}}, 422),
        ({"files": {"image": b"x", "other": b"y"}, "data": {"prompt": "a"}}, 400),
        ({"content": b"x" * (17 << 20), "headers": {"content-type": "application/json"}}, 413),
        ({"content": (b"x" * (1 << 20) for _ in range(17)), "headers": {"content-type": "application/json"}}, 413),
    ],
)
def test_wrong_bodies_are_told_what_is_wrong(http, body, status):
    answer = http.post("/v1/score", **body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"code", "message"}


def test_too_many_pairs_are_refused_at_once(http):
    answer = http.post("/v1/score/batch", json={"pairs": [{"image": "", "prompt": ""}] * 33})
    assert answer.status_code == 422 and "at most 32" in answer.json()["message"]
    assert http.post("/v1/score/batch", json={"pairs": []}).status_code == 422


def test_health_readiness_model_and_figures(http):
    assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
    about = http.get("/v1/model").json()
    assert about["template"] == "readme" and about["settings"]["max_pixels"] == 9216
    text = http.get("/metrics").text
    assert 'dyneval_pairs_total{outcome="scored"}' in text and "dyneval_queue_pairs 0.0" in text
    assert 'path="/v1/score",status="200"' in text
    for _ in range(3):
        assert http.get(f"/{os.urandom(4).hex()}").status_code == 404
    # Strangers' paths do not become labels.
    assert 'dyneval_requests_total{path="other",status="404"} 3.0' in http.get("/metrics").text


def test_no_answer_lets_the_page_load_anything_from_elsewhere(http):
    for path in ("/", "/page.css", "/page.js", "/graph.js", "/v1/model", "/nowhere"):
        answer = http.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http" not in http.get("/page.css").text + http.get("/").text.replace("http://www.w3.org/2000/svg", "")
