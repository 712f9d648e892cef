"""Trainers at the server: each client's call as its code makes it, what it reads of the answer, how it retries."""

import asyncio
import base64
import io
import json
import math
import pickle
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx2
import msgspec
import numpy as np
import openai
import pytest
import requests
from openai.types.chat import ChatCompletion
from PIL import Image
from requests.adapters import HTTPAdapter, Retry

from dyneval.loaded_pairs import PassEnded
from dyneval.records import normalised_score
from dyneval.serve import guard
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings


@pytest.fixture
def serve(start, judge_class):
    """serve(judge, **settings) -> address of a server for trainers with these."""

    def begin(judge=None, batch_size=8, mode="full", **settings):
        chosen = ServerSettings(**({"queue": 8, "max_pairs": 8, "rewards": True, "pickles": True} | settings))
        judge = judge or bright(judge_class())
        batcher = Batcher(judge, batch_size=batch_size, queue=chosen.queue, wait=0.005, patience=60)
        return start(create_app(batcher, chosen, {"model": "judge", "settings": {"mode": mode}}))

    return begin


def bright(judge):
    """The judge, which takes the red of an image for its alignment, 0-255, and the green for its quality."""

    def stream(pairs):
        for number, event in judge(pairs):
            if isinstance(event, PassEnded) or not hasattr(event, "soft"):
                yield number, event
                continue
            red, green, _ = pairs[number].image.getpixel((0, 0))
            soft = {"t2ia": 1 + 4 * red / 255, "iqa": 1 + 4 * green / 255}
            yield number, msgspec.structs.replace(event, soft=soft | {"overall": (soft["t2ia"] + soft["iqa"]) / 2})

    return stream


IMAGES = [Image.new("RGB", (16, 16), (n * 15, 255 - n * 10, 30)) for n in range(16)]
T2IA = [n * 15 / 255 for n in range(16)]
IQA = [1 - n * 10 / 255 for n in range(16)]
OVERALL = [(t2ia + iqa) / 2 for t2ia, iqa in zip(T2IA, IQA, strict=True)]
PROMPTS = [f"a cat, {n}" for n in range(16)]


def file_of(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG"} | options))
    return buffer.getvalue()


def base64_of(image, **options):
    return base64.b64encode(file_of(image, **options)).decode()


class FlowFactory:
    """The remote client of Flow-Factory: looks at /health, then posts; three tries at once."""

    def __init__(self, url, timeout=60.0):
        self.url, self.timeout = url.rstrip("/"), timeout
        self.session = requests.Session()
        self.tries = 0
        if not self.session.get(f"{self.url}/health", timeout=5.0).ok:
            raise RuntimeError("cannot connect to the reward server")

    def compute(self, prompt, image=None, **others):
        content = [base64_of(one) for one in image] if image else None
        payload = {"prompt": prompt, "image": content, "video": None, "condition_images": None}
        payload |= {"condition_videos": None, "kwargs": None} | others
        for _ in range(3):
            self.tries += 1
            try:
                answer = self.session.post(f"{self.url}/compute", json=payload, timeout=self.timeout)
                answer.raise_for_status()
                data = answer.json()
            except requests.RequestException as error:
                last = error
                continue
            if data.get("error"):
                raise RuntimeError(f"server error: {data['error']}")
            return data["rewards"]
        raise RuntimeError(f"failed to connect: {last}")


# ---------------------------------------------------------------------------------------------------------------------
# Flow-Factory


@pytest.mark.parametrize(("path", "expected"), [("", OVERALL), ("/t2ia/", T2IA), ("/iqa", IQA)])
def test_flow_factory_gets_its_rewards_in_order(serve, path, expected):
    rewards = FlowFactory(serve() + path).compute(PROMPTS, IMAGES)
    assert rewards == pytest.approx(expected, abs=1e-4) and all(type(reward) is float for reward in rewards)


def test_flow_factory_is_told_at_once_what_no_further_try_would_mend(serve):
    client = FlowFactory(serve())
    for wrong, why in (
        ({"prompt": ["a", "fail"], "image": IMAGES[:2]}, "pair 2: no reply"),
        ({"prompt": ["a"], "image": IMAGES[:2]}, "images: 2, prompts: 1"),
        ({"prompt": ["a"]}, "images: 0, prompts: 1"),
        ({"prompt": ["a"], "image": IMAGES[:1], "video": [["AAAA"]]}, "videos and images to be edited are not"),
        ({"prompt": ["a"], "image": IMAGES[:1], "condition_images": [["AAAA"]]}, "images to be edited are not"),
        ({"prompt": ["a"] * 1025, "image": [IMAGES[0]] * 1025}, "1025 images are too many, at most 1024"),
    ):
        before = client.tries
        with pytest.raises(RuntimeError, match=f"server error: .*{re.escape(why)}"):
            client.compute(**wrong)
        assert client.tries == before + 1
    assert client.compute([], []) == []


def test_a_student_that_breaks_is_asked_again(serve):
    client = FlowFactory(serve())
    with pytest.raises(RuntimeError, match="failed to connect: 500 Server Error"):
        client.compute(["break"], IMAGES[:1])
    assert client.tries == 3


def test_sixteen_files_of_noise_of_1024_pixels_fit(serve):
    from dyneval.cli.serve import REWARD_BODIES, REWARD_BODY

    noise = Image.effect_noise((1024, 1024), 90)
    image = Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)])
    body = {"prompt": ["a"] * 16, "image": [base64_of(image, compress_level=1)] * 16}
    address = serve(max_body=REWARD_BODY, max_bodies=REWARD_BODIES)
    answer = requests.post(f"{address}/compute", json=body, timeout=300)
    assert int(answer.request.headers["content-length"]) > 60 << 20 and len(answer.json()["rewards"]) == 16


def test_64_workers_of_trainers_lose_no_request(serve, judge_class):
    """Each worker has a session of its own, sends its batches one after the other and dies of the third refusal."""
    judge = judge_class(seconds=0.002)
    address = serve(bright(judge), queue=8)

    def worker(number):
        client = FlowFactory(address, timeout=300)
        rewards = [client.compute([f"{number} {n}" for n in range(4)], IMAGES[:4]) for _ in range(3)]
        return rewards, client.tries

    with ThreadPoolExecutor(64) as pool:
        for rewards, tries in pool.map(worker, range(64)):
            assert rewards == [pytest.approx(OVERALL[:4], abs=1e-4)] * 3 and tries == 3
    assert sum(map(len, judge.batches)) == 64 * 3 * 4
    figures = requests.get(f"{address}/metrics", timeout=30).text
    assert 'dyneval_pairs_total{outcome="scored"} 768.0' in figures and 'outcome="refused"' not in figures


# ---------------------------------------------------------------------------------------------------------------------
# UniRL


def unirl(address, images, prompts, required=("dyneval",), identities=False, timeout=300):
    """UniRL's client: looks for its rewards at /health, posts all images at once and demands finite numbers."""
    session = requests.Session()
    session.trust_env = False
    offered = session.get(f"{address}/health", timeout=5.0).json()["rewards"]
    assert isinstance(offered, dict) and all(name in offered for name in required)
    assert session.get(f"{address}/rewards", timeout=5.0).json() == {"rewards": list(offered)}
    wire = [
        {
            "history": [{"text": prompt, "image_b64": base64_of(image, format="JPEG", quality=95)}],
            "required_rewards": list(required),
            "metadata": {"tag": "counting", "include": [{"class": "cat", "count": 2}]},
        }
        for image, prompt in zip(images, prompts, strict=True)
    ]
    if identities:
        for number, one in enumerate(wire):
            one |= {"request_id": f"r{number}", "sample_id": f"s{number}", "group_id": "g", "source_rank": 0}
            one |= {"policy_version": 3, "scorer_version": None, "idempotency_key": "ab" * 32}
    answer = session.post(f"{address}/score", json={"protocol_version": "1", "requests": wire}, timeout=timeout)
    answer.raise_for_status()
    raw = answer.json()
    assert len(raw["results"]) == len(raw["errors"]) == len(wire)
    if identities:
        names = ("request_id", "sample_id", "group_id", "source_rank", "policy_version", "idempotency_key")
        for sent, back in zip(wire, raw["identities"], strict=True):
            assert {name: back[name] for name in names} == {name: sent[name] for name in names}
    for row in raw["results"]:
        for parts in row.values():
            assert all(type(value) is float and math.isfinite(value) for value in parts.values())
    return raw


@pytest.mark.parametrize("identities", [False, True])
def test_unirl_gets_overall_first_and_the_halves_by_name(serve, identities):
    raw = unirl(serve(), IMAGES, PROMPTS, ("dyneval", "dyneval_t2ia", "dyneval_iqa"), identities)
    assert raw["errors"] == [{}] * 16
    for row, t2ia, iqa in zip(raw["results"], T2IA, IQA, strict=True):
        assert list(row["dyneval"]) == ["overall", "t2ia", "iqa"]
        assert row["dyneval"]["overall"] == pytest.approx((t2ia + iqa) / 2, abs=0.02)
        assert row["dyneval_t2ia"] == {"t2ia": pytest.approx(t2ia, abs=0.02)}  # of a JPEG
        assert row["dyneval_iqa"] == {"iqa": pytest.approx(iqa, abs=0.02)}


def test_unirl_hears_of_each_sample_that_failed(serve):
    raw = unirl(serve(), IMAGES[:3], ["a", "fail", "b"])
    assert [list(row) for row in raw["results"]] == [["dyneval"], [], ["dyneval"]]
    assert raw["errors"] == [{}, {"dyneval": "no reply"}, {}]


def test_unirl_requests_that_make_no_sense_are_refused(serve):
    address = serve()
    good = {"history": [{"text": "a", "image_b64": base64_of(IMAGES[0])}], "required_rewards": ["dyneval"]}
    turn = good["history"][0]
    for wrong, status in (
        (good | {"required_rewards": ["pickscore"]}, 400),
        (good | {"history": [turn, turn]}, 400),
        (good | {"history": [{"text": "a", "video_b64": "AAAA"}]}, 400),
        (good | {"history": [{"text": "a"}]}, 422),
        (good | {"history": []}, 422),
        ({"history": [turn]}, 422),
    ):
        assert requests.post(f"{address}/score", json={"requests": [wrong]}, timeout=30).status_code == status
    assert requests.post(f"{address}/score", json={"requests": []}, timeout=30).json()["results"] == []
    raw = requests.post(f"{address}/score", json={"requests": [good | {"history": [turn | {"image_b64": "!"}]}, good]})
    assert "not base64" in raw.json()["errors"][0]["dyneval"] and raw.json()["results"][1]["dyneval"]


# ---------------------------------------------------------------------------------------------------------------------
# Clients of a chat model

FINAL = (
    "<image>\nYou are given a text caption and a generated image based on that caption. Assign a score from 1 to 5 "
    "after 'Final Score:'.\nYour task is provided as follows:\nText Caption: [{}]"
)
THREE = (
    "Output your evaluation using the format below:\n\nAlignment Score (1-5): X\nCoherence Score (1-5): Y\n"
    "Style Score (1-5): Z\n\nYour task is provided as follows:\nText Caption: [{}]"
)


def turn(image, text, url="data:image;base64,"):
    content = [{"type": "image_url", "image_url": {"url": url + base64_of(image)}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def test_flow_grpo_reads_a_final_score(serve):
    address = serve()

    async def evaluate():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="flowgrpo") as client:
            assert "dyneval" in [model.id async for model in client.models.list()]
            return await asyncio.gather(
                *[
                    client.chat.completions.create(
                        model="UnifiedReward-7b-v1.5", messages=turn(image, FINAL.format(prompt)), temperature=0
                    )
                    for image, prompt in zip(IMAGES, PROMPTS, strict=True)
                ]
            )

    answers = asyncio.run(evaluate())
    found = [re.search(r"Final Score:\s*([1-5](?:\.\d+)?)", one.choices[0].message.content) for one in answers]
    assert [float(one[1]) for one in found] == pytest.approx([1 + 4 * score for score in OVERALL], abs=1e-3)


def test_verl_omni_reads_three_scores(serve, judge_class):
    judge = judge_class()
    address = serve(bright(judge))
    prompt = 'a sign that says "Text Caption: [no]" [1] and more'

    async def complete(image):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            body = {"messages": turn(image, THREE.format(prompt), "data:image/png;base64,"), "model": "x/y"}
            body |= {"temperature": 0.0, "top_p": 1.0, "max_tokens": 512}
            async with session.post(f"{address}/v1/chat/completions", json=body) as answer:
                return ChatCompletion(**json.loads(await answer.text()))

    content = asyncio.run(complete(IMAGES[3])).choices[0].message.content
    pattern = (
        r"(Alignment|Coherence|Style)\s+Score\s*(?:\(1-5\))?\s*:\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
    )
    scores = {name.lower(): float(value) for name, value in re.findall(pattern, content, re.IGNORECASE)}
    iqa = pytest.approx(1 + 4 * IQA[3], abs=1e-3)
    assert scores == {"alignment": pytest.approx(1 + 4 * T2IA[3], abs=1e-3), "coherence": iqa, "style": iqa}
    assert judge.batches == [[prompt]]


def test_chats_about_anything_else_are_refused(serve):
    url = f"{serve()}/v1/chat/completions"
    good = {"model": "m", "messages": turn(IMAGES[0], FINAL.format("a cat"))}
    own = {"messages": turn(IMAGES[0], "How many cats are there?"), "dyneval": {"prompt": "two cats"}}
    for right in (good, own):
        assert "Final Score: " in requests.post(url, json=right, timeout=30).json()["choices"][0]["message"]["content"]
    for wrong in (
        good | {"messages": turn(IMAGES[0], "Is this image good? Answer yes or no.")},
        good | {"messages": turn(IMAGES[0], "Text Caption: [a cat]")},
        good | {"messages": turn(IMAGES[0], FINAL.format("a cat").rstrip("]"))},
        good | {"messages": [{"role": "system", "content": [{"type": "text", "text": "Hi"}]}, *good["messages"]]},
        good | {"messages": turn(IMAGES[0], FINAL.format("a cat"), "http://127.0.0.1/")},
        good | {"messages": [{"role": "user", "content": [{"type": "text", "text": FINAL.format("a cat")}]}]},
        good | {"messages": [{"role": "user", "content": FINAL.format("a cat")}]},
        good | {"stream": True},
        good | {"n": 2},
    ):
        answer = requests.post(url, json=wrong, timeout=30)
        assert answer.status_code == 400 and set(answer.json()) == {"code", "message"}


# ---------------------------------------------------------------------------------------------------------------------
# Pickles


def test_verl_omni_sends_one_pickled_image_at_a_time(serve):
    address = serve()

    async def compute_score(session, image, prompt):
        content = file_of(image, format="JPEG")
        payload = pickle.dumps({"images": [content], "prompts": [prompt], "metadata": {}})
        async with session.post(address, data=payload) as answer:
            data = pickle.loads(await answer.read())
            return answer.status, data.get("error") or float(data["scores"][0])

    async def all_at_once(prompts):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            return await asyncio.gather(*map(compute_score, [session] * len(prompts), IMAGES, prompts))

    for (status, score), expected in zip(asyncio.run(all_at_once(PROMPTS)), OVERALL, strict=True):
        assert status == 200 and score == pytest.approx(expected, abs=0.02)
    assert asyncio.run(all_at_once(["fail", "break"])) == [(422, "no reply"), (500, "the student broke on this pair")]


def test_ddpo_s_kin_read_outputs(serve):
    session = requests.Session()
    retries = Retry(total=1000, backoff_factor=1, status_forcelist=[500], allowed_methods=False)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    files = [file_of(image, format="JPEG", quality=80) for image in IMAGES]
    data = pickle.dumps({"images": files, "prompts": PROMPTS})
    answer = session.post(f"{serve()}/t2ia", data=data, timeout=120)
    assert pickle.loads(answer.content)["outputs"] == pytest.approx(T2IA, abs=0.02)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def laughs():
    """A list of lists of lists ..., each of which holds ten times the one before: 10^9 texts in 200 bytes."""
    inner = ["ha" * 50]
    for _ in range(9):
        inner = [inner] * 10
    return {"images": inner, "prompts": []}


def round_and_round():
    inner = []
    inner.append(inner)
    return {"images": inner, "prompts": inner}


PROTO = b"\x80\x04"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pickle.dumps({"images": [Evil()], "prompts": ["a"]}), "the instruction STACK_GLOBAL"),
        (pickle.dumps({"images": [Evil()], "prompts": ["a"]}, 2), "the instruction GLOBAL"),
        (b"cos\nsystem\n(S'true'\ntR.", "the instruction GLOBAL"),
        (pickle.dumps({"images": [], "prompts": []}, 0), "the instruction"),
        (pickle.dumps({"images": [bytearray(b"x")], "prompts": ["a"]}, 5), "the instruction BYTEARRAY8"),
        (pickle.dumps({1: 2, 1 + (2**61 - 1): 3}), "a key that is a int, expected texts"),
        (pickle.dumps(laughs()), "when repeated values are counted each time"),
        (pickle.dumps(round_and_round()), "one within itself"),
        (PROTO + b"N" * 200_000 + b".", "more than 100000 instructions"),
        (PROTO + b"]" + b"(" * 50_000 + b".", "values are left over"),
        (PROTO + b"B\xff\xff\xff\xffshort", "broken"),
        (PROTO + b"\x8e" + b"\xff" * 8 + b"short", "broken"),
        (PROTO + b"]r\xff\xff\xff\x7f.", "expected {"),
        (PROTO + b"h\x05.", "broken"),
        (PROTO + b"]e.", "broken"),
        (PROTO + b"](Ke.", "broken"),
        (PROTO + b"e", "broken"),
        (PROTO + b"}(NNu.", "a key that is a NoneType"),
        (PROTO + b"\x82\x01.", "the instruction EXT1"),
        (PROTO + b"N", "broken"),
        (pickle.dumps({"images": [], "prompts": np.array(["a"])}), "array.tolist()"),
        (b"\x80\x09N.", "protocol 9"),
        (b"", "broken"),
        (b"\x89PNG", "the instruction PERSID"),
        (PROTO + b"\xff.", "broken"),
        (pickle.dumps([1, 2.5, True, None, ("a", b"b")]), "expected {"),
        (pickle.dumps({"images": ["text"], "prompts": ["a"]}), "expected {"),
        (pickle.dumps({"images": [b"x"] * 3, "prompts": ["a"]}), "images: 3, prompts: 1"),
    ],
)
def test_pickles_of_anything_but_plain_values_are_refused(serve, content, why, capfd):
    answer = requests.post(serve(max_body=1 << 20), data=content, timeout=60)
    assert answer.status_code in (400, 422) and why in pickle.loads(answer.content)["error"]
    assert "executed" not in capfd.readouterr().out


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_read_as_pickle_reads_them(protocol):
    from dyneval.serve.pickles import loads

    shared = {"count": 2, "classes": ["cat", "cat"]}
    value = {"images": [b"", b"x" * 300, b"y" * 70_000], "a": [0, -1, 255, 256, 65_536, -(2**31), 2**40, 2**80, 1.5]}
    value |= {"b": (), "c": (1,), "d": (1, 2), "e": (1, 2, 3), "f": (1, 2, 3, 4), "g": [True, False, None]}
    value |= {"h": ["", "ä" * 300, "z" * 70_000], "metadata": [shared, shared, {}], "empty": [[], {}]}
    value["many"] = list(range(3000))
    if protocol == 2:  # it writes bytes as a call
        value.pop("images")
    assert loads(pickle.dumps(value, protocol), 1 << 20) == value


def test_there_are_no_routes_for_trainers_unless_asked_for(serve):
    address = serve(rewards=False)
    assert requests.get(f"{address}/health", timeout=30).status_code == 404
    for path in ("/compute", "/score", "/v1/chat/completions", "/t2ia/compute"):
        assert requests.post(address + path, json={}, timeout=30).status_code == 404
    assert requests.post(serve(pickles=False), data=pickle.dumps({}), timeout=30).status_code == 405


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--pickles"], "go with --rewards"),
        (["--rewards", "--rate", "metadata.jsonl", "--ratings", "mine.csv"], "--rewards need a student"),
        (["--devices", "cuda:0,"], "name devices"),
        (["--devices", "cpu,cpu", "--device", "cpu"], "without --device"),
        (["--devices", "all", "--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"], "of engine transformers"),
    ],
)
def test_flags_that_do_not_go_together_are_told(flags, why, capsys):
    from dyneval.cli.serve import main

    with pytest.raises(SystemExit, match="2"):
        main(flags)
    assert why in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# Waiting, leaving, limits


def talk(address, body, path="/compute", kind="application/json"):
    """A connection on which a request was sent."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def computing(prompts, images=IMAGES):
    return json.dumps({"prompt": prompts, "image": [base64_of(one) for one in images[: len(prompts)]]}).encode()


def until(check):
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_waits_hears_from_the_server_before_there_is_an_answer(serve, judge_class, monkeypatch):
    monkeypatch.setattr("dyneval.serve.rewards._SILENCE", 0.05)
    judge = judge_class()
    address = serve(bright(judge))
    with talk(address, computing(["wait", "fail"])) as connection:
        heard = b""
        while heard.count(b"\r\n \r\n") < 3:  # chunks of one blank
            heard += connection.recv(4096)
        assert heard.startswith(b"HTTP/1.1 200")
        judge.go.set()
        while b"0\r\n\r\n" not in heard:
            heard += connection.recv(4096)
        assert b'{"error": "pair 2: no reply"}' in heard
    judge.go.clear()
    client = FlowFactory(address)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.compute, ["wait"], IMAGES[:1])
        until(lambda: judge.batches[-1] == ["wait"])
        time.sleep(0.2)
        judge.go.set()
        assert waiting.result() == pytest.approx(OVERALL[:1], abs=1e-4) and client.tries == 1


@pytest.mark.parametrize("silence", [0.05, 10])
def test_there_is_an_end_to_waiting(serve, judge_class, monkeypatch, silence):
    monkeypatch.setattr("dyneval.serve.rewards._SILENCE", silence)
    judge = judge_class()
    address = serve(bright(judge), reward_timeout=0.5)
    try:
        with pytest.raises(RuntimeError, match=r"server error: no result within 0\.5 s"):
            FlowFactory(address).compute(["wait"], IMAGES[:1])
        answer = requests.post(address, data=pickle.dumps({"images": [file_of(IMAGES[0])], "prompts": ["wait"]}))
        assert answer.status_code == 500 and "no result within 0.5 s" in pickle.loads(answer.content)["error"]
        monkeypatch.setattr("dyneval.serve.rewards._PICKLES_WAIT", 0.2)
        answer = requests.post(address, data=pickle.dumps({"images": [file_of(IMAGES[0])], "prompts": ["wait"]}))
        assert "no result within 0.2 s" in pickle.loads(answer.content)["error"]
    finally:
        judge.go.set()


@pytest.mark.parametrize("silence", [0.05, 30])
def test_a_trainer_that_leaves_takes_its_pairs_along(serve, judge_class, monkeypatch, silence):
    monkeypatch.setattr("dyneval.serve.rewards._SILENCE", silence)
    judge = judge_class()
    address = serve(bright(judge), queue=2, max_pairs=2, batch_size=1)
    client = FlowFactory(address)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.compute, ["wait"], IMAGES[:1])
        until(lambda: judge.batches)
        with talk(address, computing([f"left {n}" for n in range(8)])):
            until(lambda: "dyneval_queue_pairs 2.0" in requests.get(f"{address}/metrics", timeout=30).text)
        until(lambda: 'dyneval_pairs_total{outcome="left"} 8.0' in requests.get(f"{address}/metrics", timeout=30).text)
        judge.go.set()
        assert first.result() and client.compute(["next"], IMAGES[:1])
    assert judge.batches == [["wait"], ["next"]]
    assert "dyneval_queue_pairs 0.0" in requests.get(f"{address}/metrics", timeout=30).text


def test_a_small_request_does_not_wait_for_all_of_a_large_one(serve, judge_class, monkeypatch):
    monkeypatch.setattr("dyneval.serve.rewards._SILENCE", 0.05)
    judge = judge_class()
    address = serve(bright(judge), queue=1, max_pairs=1, batch_size=1)
    client = FlowFactory(address)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.compute, ["wait"], IMAGES[:1])
        until(lambda: judge.batches)
        large = pool.submit(client.compute, [f"large {n}" for n in range(8)], IMAGES[:8])
        until(lambda: "dyneval_queue_pairs 1.0" in requests.get(f"{address}/metrics", timeout=30).text)
        with talk(address, computing(["small"])) as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")  # a blank: it waits
            judge.go.set()
            assert first.result() and len(large.result()) == 8
    assert judge.batches[:4] == [["wait"], ["large 0"], ["large 1"], ["small"]]


def test_requests_wait_for_the_first_pair_of_all(start, judge_class):
    go = threading.Event()
    settings = ServerSettings(rewards=True)
    batcher = Batcher(bright(judge_class()), batch_size=2, queue=8, wait=0, warm_up=lambda judge: go.wait(20) and 0.1)
    address = start(create_app(batcher, settings, {}))
    client = FlowFactory(address)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.compute, PROMPTS, IMAGES)
        until(lambda: 'path="/compute"' not in requests.get(f"{address}/metrics", timeout=30).text)
        go.set()
        assert waiting.result() == pytest.approx(OVERALL, abs=1e-4) and client.tries == 1


def test_more_bytes_than_may_be_held_wait_in_the_network(serve, judge_class):
    """Bodies of 3 x 100 kB where 250 kB may be held: one after the other, and none is refused."""
    noise = Image.merge("RGB", [Image.effect_noise((180, 180), 90)] * 3)
    address = serve(max_bodies=250_000, max_body=400_000)

    def worker(_):
        client = FlowFactory(address, timeout=300)
        return client.compute(["a"] * 3, [noise] * 3), client.tries

    with ThreadPoolExecutor(8) as pool:
        for rewards, tries in pool.map(worker, range(16)):
            assert len(rewards) == 3 and tries == 1
    pair = {"image": base64_of(noise), "prompt": "a"}
    assert requests.post(f"{address}/v1/score", json=pair, timeout=60).status_code == 200


def test_slow_bodies_hold_up_no_trainer(serve, monkeypatch):
    monkeypatch.setattr(guard, "_SILENCE", 2)
    address = serve(queue=2, max_pairs=2, max_bodies=40_000, max_body=100_000, timeout=60)
    host, port = address.removeprefix("http://").split(":")
    head = (
        b"POST /compute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n{"
    )
    slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(12)]
    for one in slow:
        one.sendall(head + b" " * 2000)
    client = FlowFactory(address)
    assert client.compute(PROMPTS[:2], IMAGES[:2]) == pytest.approx(OVERALL[:2], abs=1e-4) and client.tries == 1
    for one in slow:
        assert one.recv(4096).startswith(b"HTTP/1.1 408")
        one.close()


@pytest.mark.parametrize("path", ["/compute", "/score", "/v1/chat/completions", "/", "/iqa/compute"])
def test_limits_hold_for_trainers_too(serve, path):
    address = serve(max_body=300_000, max_pixels=10_000)
    http = httpx2.Client(base_url=address, timeout=60)
    kind = {"content-type": "application/json"}
    assert http.post(path, content=b"x" * 300_001, headers=kind).status_code == 413
    assert http.post(path, content=(b"x" * 100_000 for _ in range(4)), headers=kind).status_code == 413
    for body in (b"", b"{}", b"[" * 100_000, b"\xff\xfe", b"null", b'{"prompt": ["\\ud800"], "image": ["aa"]}'):
        answer = http.post(path, content=body, headers=kind)
        assert answer.status_code in (400, 422) or "error" in answer.json(), (body[:20], answer.text)
    assert http.post(path, content=b"{}", headers=kind | {"origin": "http://evil.example"}).status_code == 403
    assert http.post(path, content=b"{}", headers=kind | {"host": "evil.example"}).status_code == 403
    assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/compute", "/score", "/v1/chat/completions"])
def test_what_stands_twice_or_a_million_times_is_refused(serve, path):
    address = serve()
    kind = {"content-type": "application/json"}
    for body in (
        b'{"prompt": [], "prompt": [], "requests": [], "requests": []}',
        b'{"a": [' + b"[]," * 300_000 + b"[]]}",
    ):
        answer = requests.post(address + path, data=body, headers=kind, timeout=60)
        assert answer.status_code in (400, 422)
        assert "stands there 2 times" in answer.text or "more than 200000 values" in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", PROTO + b"S" + b"\xff" * 300_000 + b"\n."),
        ("/compute", b'{"%s": 1, "%s": 2}' % (b"a" * 300_000, b"a" * 300_000)),
        ("/compute", rb'{"\ud800": 1, "\ud800": 2}'),
        ("/v1/chat/completions", rb'{"messages": [{"role": "\ud800", "content": []}]}'),
        ("/score", rb'{"requests": [{"history": [{"text": "a", "image_b64": ""}], "required_rewards": ["\ud800"]}]}'),
    ],
)
def test_a_refusal_quotes_little_of_what_it_refuses_and_can_be_sent(serve, path, body):
    answer = requests.post(serve() + path, data=body, timeout=60)
    assert answer.status_code in (400, 422) and len(answer.content) < 2000


def test_half_a_character_of_a_client_comes_back_as_it_was(serve):
    wire = {"history": [{"text": "a", "image_b64": base64_of(IMAGES[0])}], "required_rewards": ["dyneval"]}
    raw = requests.post(f"{serve()}/score", json={"requests": [wire | {"request_id": "\ud800"}]}, timeout=60).json()
    assert raw["errors"] == [{}] and raw["identities"][0]["request_id"] == "\ud800"


def test_pictures_that_are_bombs_fail_alone(serve, odd_images):
    # The student, which is not here, refuses the sliver.
    bombs = [content for content, reason in odd_images.values() if reason not in (None, "aspect ratio")]
    wire = [
        {"history": [{"text": "a", "image_b64": base64.b64encode(one).decode()}], "required_rewards": ["dyneval"]}
        for one in [*bombs, file_of(IMAGES[0])]
    ]
    raw = requests.post(f"{serve(queue=64, max_pixels=1_000_000)}/score", json={"requests": wire}, timeout=120).json()
    assert all(raw["errors"][:-1]) and raw["results"][-1]["dyneval"]["t2ia"] == pytest.approx(T2IA[0], abs=1e-4)


def test_a_token_is_asked_for(serve):
    address = serve(token="a-long-enough-token")
    with pytest.raises(RuntimeError, match="cannot connect"):
        FlowFactory(address)
    for path in ("/compute", "/score", "/", "/v1/chat/completions"):
        assert requests.post(address + path, json={}, timeout=30).status_code == 401
    body = {"model": "m", "messages": turn(IMAGES[0], FINAL.format("a cat"))}
    key = {"authorization": "Bearer a-long-enough-token"}
    answer = requests.post(f"{address}/v1/chat/completions", json=body, headers=key, timeout=30)
    assert answer.status_code == 200


def test_a_server_of_one_half_gives_that_one(serve, judge_class):
    judge = judge_class()

    def half(pairs):
        for number, event in bright(judge)(pairs):
            soft = {"t2ia": event.soft["t2ia"]} if hasattr(event, "soft") else None
            yield number, msgspec.structs.replace(event, soft=soft) if soft else event

    address = serve(half, mode="t2ia-only")
    assert FlowFactory(address).compute(PROMPTS, IMAGES) == pytest.approx(T2IA, abs=1e-4)
    with pytest.raises(RuntimeError, match="there is no score iqa in this server's mode, only t2ia"):
        FlowFactory(f"{address}/iqa").compute(PROMPTS[:1], IMAGES[:1])
    raw = unirl(address, IMAGES[:1], PROMPTS[:1], ("dyneval", "dyneval_t2ia"))
    assert list(raw["results"][0]["dyneval"]) == ["t2ia"]


# ---------------------------------------------------------------------------------------------------------------------
# The real student


def test_images_of_one_prompt_share_its_questions(start, student):
    """A group of 6 in batches of 2, and the same prompt again in another request: the student is asked once."""
    from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings

    scorer = Scorer.from_pretrained(
        student, device="cpu", settings=ScorerSettings(limits=ReplyLimits().capped(2, 8), batch_size=2)
    )
    asked, answer = [], scorer.student.answer

    def counted(asks, most):
        asked.extend(ask.turn for ask in asks if ask.kind == "t2ia")
        return answer(asks, most)

    scorer.student.answer = counted
    batcher = Batcher(scorer.score_stream, batch_size=2, queue=16, wait=0.05)
    address = start(create_app(batcher, ServerSettings(queue=16, max_pairs=16, rewards=True), {}))
    client = FlowFactory(address)
    rewards = client.compute(["a red circle"] * 6, IMAGES[:6])
    again = client.compute(["a red circle", "a blue square"], IMAGES[:2])
    assert len(asked) == 2
    local = scorer.score(IMAGES[:2], ["a red circle"] * 2)
    assert rewards[:2] == [normalised_score(record.soft["overall"]) for record in local] and again[0] == rewards[0]
