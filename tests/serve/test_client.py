import asyncio
import base64
import dataclasses
import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import httpx2
import numpy as np
import pytest
from PIL import Image

from dyneval.client import AsyncClient, Client, ClientError
from dyneval.loaded_pairs import Failure, LoadedPair
from dyneval.records import ScoreRecord
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings


@pytest.fixture
def serve(start, judge_class):
    def begin(judge=None, **settings):
        chosen = ServerSettings(**({"queue": 2, "max_pairs": 2} | settings))
        batcher = Batcher(judge or judge_class(), batch_size=2, queue=chosen.queue, wait=0.001, patience=chosen.timeout)
        return start(create_app(batcher, chosen, {"model": "judge"}))

    return begin


def test_a_server_scores_as_the_scorer_that_it_has(server, student, picture, tmp_path):
    from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings

    file = tmp_path / "circle.png"
    file.write_bytes(picture)
    images, prompts = [file, Image.new("RGB", (50, 90), "navy")], ["a red circle", "the night"]
    settings = ScorerSettings(limits=ReplyLimits().capped(2, 8), template="readme", reply_form="readme")
    expected = Scorer.from_pretrained(student, device="cpu", settings=settings).score(images, prompts)
    with Client(server) as client:
        records = client.score(images, prompts)
        assert client.model()["revision"] == expected[0].revision
        assert client.model()["settings"]["limits"]["questions"] == 2
    assert records[0].image == str(file)
    assert records[0].key == expected[0].key and records[0].revision == expected[0].revision
    for one, other in zip(records, expected, strict=True):
        for name in ("prompt", "overall", "scene_graph", "template", "settings"):
            assert getattr(one, name) == getattr(other, name)
        assert [q.question for q in one.iqa_questions] == [q.question for q in other.iqa_questions]


def test_one_picture_has_one_score_in_every_form_and_door(server, student, tmp_path):
    from dyneval import Reward
    from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings

    ink = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    ink.putalpha(Image.linear_gradient("L").resize((64, 48)))
    path = tmp_path / "ink.png"
    ink.save(path)
    content, prompt = path.read_bytes(), "a red circle"
    forms = [path, content, io.BytesIO(content), {"bytes": content}, Image.open(path), np.asarray(ink)]
    settings = ScorerSettings(limits=ReplyLimits().capped(2, 8))
    scorer = Scorer.from_pretrained(student, device="cpu", settings=settings)
    (local,) = scorer.score([path], [prompt])
    with Client(server) as client:
        records = client.score(forms, [prompt] * len(forms))
        assert Reward(client)(forms, [prompt] * len(forms)) == Reward(scorer)(forms, [prompt] * len(forms))
    body = {"image": base64.b64encode(content).decode(), "prompt": prompt}
    answers = [
        httpx2.post(f"{server}/v1/score", json=body, timeout=60),
        httpx2.post(f"{server}/v1/score", files={"image": content}, data={"prompt": prompt}, timeout=60),
    ]
    records += [ScoreRecord.from_dict(answer.json(), "answer") for answer in answers]
    for record in records:
        for name in ("overall", "soft", "scene_graph", "t2ia_questions", "iqa_questions"):
            assert getattr(record, name) == getattr(local, name)
    # Files travel as they are, so the server knows them by the same hash.
    assert [record.key == local.key for record in records] == [True] * 4 + [False] * 2 + [True] * 2


def test_open_images_of_all_modes_are_sent(serve):
    modes = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
    images = [Image.new(mode, (8, 8)) for mode in modes]
    with Client(serve()) as client:
        assert len(client.score(images, ["a"] * len(modes))) == len(modes)
        pairs = [
            LoadedPair(pair_id=i.mode, prompt="a", image=i, image_name=i.mode)
            for i in [*images, Image.new("RGB", (0, 0))]
        ]
        *good, bad = client.score_pairs(pairs)
    assert [record.pair_id for record in good] == modes
    assert bad == Failure("RGB", "RGB: 0x0 pixels")


def test_many_pairs_come_back_in_order_through_a_queue_of_two(serve, judge_class):
    image = Image.new("RGB", (8, 8))
    prompts = ["fail" if n % 7 == 3 else "a" for n in range(30)]
    pairs = [LoadedPair(pair_id=f"p/{n}", prompt=p, image=image, image_name=f"{n}.png") for n, p in enumerate(prompts)]
    with Client(serve(judge_class(seconds=0.01)), workers=6) as client:
        results = list(client.score_pairs(iter(pairs)))
    assert [result.pair_id for result in results] == [pair.pair_id for pair in pairs]
    for result, prompt in zip(results, prompts, strict=True):
        assert result == Failure(result.pair_id, "no reply") if prompt == "fail" else result.overall == 3
    assert results[0].image == "0.png"


def test_a_pair_that_the_server_gives_up_on_is_not_offered_again(serve, judge_class):
    judge = judge_class()
    with Client(serve(judge, timeout=3)) as client:
        (result,) = client.score_pairs(
            [LoadedPair(pair_id="a", prompt="wait", image=Image.new("RGB", (8, 8)), image_name="a")]
        )
        judge.go.set()
    assert result == Failure("a", "no result within 3 s") and judge.batches == [["wait"]]


@pytest.mark.parametrize("said", [None, [], {"limits": None}, {"limits": {"filling": "many"}}])
def test_a_server_that_does_not_say_what_fills_it_is_asked_a_few_pairs_at_a_time(start, judge_class, said):
    batcher = Batcher(judge_class(), batch_size=2, queue=64, wait=0.001, patience=60)
    app = create_app(batcher, ServerSettings(), {"model": "judge"})
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") != "/v1/model"]
    if said is not None:
        app.get("/v1/model")(lambda: said)
    with Client(start(app)) as client:
        assert len(client.score([Image.new("RGB", (8, 8))] * 3, ["a"] * 3)) == 3


def test_errors_of_a_pair_name_it(serve, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with Client(serve()) as client:
        with pytest.raises(ClientError, match=r"1 pair.*pair 2: .*text\.png: not an image file"):
            client.score([Image.new("RGB", (8, 8)), tmp_path / "text.png"], ["a", "b"])
        with pytest.raises(ValueError, match="images: 1, prompts: 0"):
            client.score([Image.new("RGB", (8, 8))], [])
        with pytest.raises(ClientError, match="pair 1: prompt: half a character"):
            client.score([Image.new("RGB", (8, 8))], ["half an emoji \ud83d"])


def test_a_token_from_the_environment_is_sent(serve, monkeypatch):
    address = serve(token="a-long-enough-token")
    with Client(address) as client, pytest.raises(ClientError, match="bearer token"):
        client.score([Image.new("RGB", (8, 8))], ["a"])
    monkeypatch.setenv("DYNEVAL_TOKEN", "a-long-enough-token")
    with Client(address) as client:
        assert isinstance(client.score([Image.new("RGB", (8, 8))], ["a"])[0], ScoreRecord)
    assert "a-long-enough-token" not in repr(dataclasses.replace(ServerSettings(token="a-long-enough-token")))


def test_a_server_that_was_never_there_is_an_error_at_once():
    with (
        Client("http://127.0.0.1:9", patience=3600) as client,
        pytest.raises(ClientError, match=r"http://127\.0\.0\.1:9: nobody answers there .*; is dyneval serve running\?"),
    ):
        client.score([Image.new("RGB", (8, 8))], ["a"])


@pytest.mark.parametrize(
    "url",
    [
        *["127.0.0.1:8000", "localhost", "ftp://host", "http://", "//host"],
        *["http://host:port", "http://[::1", "http://me:se/cret@host"],
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ClientError, match="expected the address of a server, such as http://127") as told:
        Client(url)
    assert "cret" not in str(told.value)


def test_any_number_of_images_keeps_the_server_busy_and_few_are_held(serve, judge_class):
    judge, taken, done = judge_class(), [], []

    def images():
        for number in range(200):
            taken.append(number)
            assert len(taken) - len(done) <= 2 * 8 + 1
            yield (Image.new("RGB", (8, 8)), "fail" if number % 50 == 7 else f"a {number}")

    with Client(serve(judge, queue=16)) as client:
        for result in client.score_many(images()):
            done.append(result)
    expected = ["no reply" if number % 50 == 7 else f"a {number}" for number in range(200)]
    assert [one.reason if isinstance(one, Failure) else one.prompt for one in done] == expected
    assert sum(map(len, judge.batches)) == 200


def test_an_image_that_cannot_be_used_is_a_failure_among_the_others(serve, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    images = [(Image.new("RGB", (8, 8)), "a"), (tmp_path / "text.png", "b"), (Image.new("RGB", (8, 8)), "c\ud83d")]
    with Client(serve()) as client:
        good, *bad = client.score_many(images)
        with pytest.raises(ValueError, match="value_range"):
            list(client.score_many(images, (1, -1)))
    assert good.overall == 3 and [one.pair_id for one in bad] == ["pair-2", "pair-3"]
    assert "not an image file" in bad[0].reason and "half a character" in bad[1].reason


def test_a_server_says_how_many_requests_keep_it_full(serve):
    with Client(serve()) as client:
        assert client.model()["limits"]["filling"] == 4


def passes_of(found):
    *passes, record = found
    assert [one.name for one in passes] == ["t2ia_questions"] and passes[0].found["t2ia_questions"]
    assert isinstance(record, ScoreRecord) and record.overall == 3
    return record


def test_passes_are_heard_as_they_end(serve, judge_class):
    judge = judge_class()
    with Client(serve(judge)) as client:
        assert passes_of(client.stream(Image.new("RGB", (8, 8)), "a cat")).image == "image-1"
        for prompt, why in (("fail", "no reply"), ("break", "broke on this pair"), (" \ud83d", "half a character")):
            with pytest.raises(ClientError, match=why):
                list(client.stream(Image.new("RGB", (8, 8)), prompt))
        for _ in client.stream(Image.new("RGB", (8, 8)), "another"):
            break  # the connection of one who leaves is not used again
        assert client.score([Image.new("RGB", (8, 8))], ["next"])


def test_the_asynchronous_client_does_what_the_other_does(serve, judge_class, tmp_path):
    judge = judge_class(seconds=0.005)
    image = Image.new("RGB", (8, 8))
    pairs = [LoadedPair(pair_id=f"p/{n}", prompt="a", image=image, image_name=f"{n}.png") for n in range(20)]
    address = serve(judge)

    async def arriving():
        for number in range(30):
            await asyncio.sleep(0)
            yield image, "fail" if number == 3 else f"a {number}"

    async def talk():
        async with AsyncClient(address, workers=6) as client:
            assert (await client.model())["model"] == "judge"
            assert [one.overall for one in await client.score([image, image], ["a", "b"])] == [3, 3]
            many = [one async for one in client.score_many(arriving())]
            in_pairs = [one.pair_id async for one in client.score_pairs(iter(pairs))]
            passes_of([found async for found in client.stream(image, "a cat")])
            with pytest.raises(ClientError, match="no reply"):
                [found async for found in client.stream(image, "fail")]
            with pytest.raises(ClientError, match=r"1 pair.*pair 1: no reply"):
                await client.score([image], ["fail"])
            with pytest.raises(ValueError, match="images: 1, prompts: 0"):
                await client.score([image], [])
            return many, in_pairs

    many, in_pairs = asyncio.run(talk())
    assert in_pairs == [pair.pair_id for pair in pairs]
    told = [one.reason if isinstance(one, Failure) else one.prompt for one in many]
    assert told == ["no reply" if number == 3 else f"a {number}" for number in range(30)]


def test_who_leaves_the_asynchronous_client_leaves_nothing_under_way(serve, judge_class):
    judge, taken = judge_class(seconds=0.02), []
    address = serve(judge, queue=8)

    def images():
        for number in range(1000):
            taken.append(number)
            yield Image.new("RGB", (8, 8)), "a"

    async def talk():
        async with AsyncClient(address) as client:
            async with aclosing(client.score_many(images())) as results:
                async for result in results:
                    assert result.overall == 3
                    break
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(talk()) == []
    assert len(taken) <= 17


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_waiting_for_a_server_ends_when_it_was_said_to(start, kind):
    asked = []

    async def always_full(scope, receive, send):
        if scope["type"] == "http":
            asked.append(scope["path"])
            headers = [(b"retry-after", b"1"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 429, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"message": "the queue is full"}'})

    client = kind(start(always_full), patience=2.5)
    with pytest.raises(ClientError, match=r"no answer within 2\.5 s \(the queue is full\)"):
        asyncio.run(client.model()) if kind is AsyncClient else client.model()
    assert asked == ["/v1/model"] * len(asked) and 2 <= len(asked) <= 3


def test_a_pair_is_offered_again_as_long_as_others_are_answered(start):
    offered = []

    async def full_for_one(scope, receive, send):
        if scope["type"] == "http":
            offered.extend([1] * (scope["path"] == "/v1/score"))
            status = 200 if scope["path"] == "/v1/model" else 429 if len(offered) < 5 else 422
            headers = [(b"retry-after", b"1"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"message": "no reply"}'})

    with Client(start(full_for_one), patience=3.9, workers=1) as client, ThreadPoolExecutor(1) as pool:
        pair = LoadedPair(pair_id="a", prompt="a", image=Image.new("RGB", (8, 8)), image_name="a")
        result = pool.submit(lambda: list(client.score_pairs([pair])))  # its fifth offer is after four seconds or more
        while not result.done():
            client.model()
            time.sleep(0.05)
        assert result.result() == [Failure("a", "no reply")]
