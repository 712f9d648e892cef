import dataclasses

import pytest
from PIL import Image

from dyneval.client import Client, ClientError
from dyneval.records import ScoreRecord
from dyneval.scorer.pairs import Failure, Pair
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
        assert [q["question"] for q in one.iqa_questions] == [q["question"] for q in other.iqa_questions]


def test_many_pairs_come_back_in_order_through_a_queue_of_two(serve, judge_class):
    image = Image.new("RGB", (8, 8))
    prompts = ["fail" if n % 7 == 3 else "a" for n in range(30)]
    pairs = [Pair(pair_id=f"p/{n}", prompt=p, image=image, image_name=f"{n}.png") for n, p in enumerate(prompts)]
    with Client(serve(judge_class(seconds=0.01)), workers=6) as client:
        results = list(client.score_pairs(iter(pairs)))
    assert [result.pair_id for result in results] == [pair.pair_id for pair in pairs]
    for result, prompt in zip(results, prompts, strict=True):
        assert result == Failure(result.pair_id, "no reply") if prompt == "fail" else result.overall == 3
    assert results[0].image == "0.png"


def test_errors_of_a_pair_name_it(serve, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with Client(serve()) as client:
        with pytest.raises(ClientError, match=r"pair 2: image: not an image file"):
            client.score([Image.new("RGB", (8, 8)), tmp_path / "text.png"], ["a", "b"])
        with pytest.raises(ValueError, match="argument"):
            client.score([Image.new("RGB", (8, 8))], [])


def test_a_token_from_the_environment_is_sent(serve, monkeypatch):
    address = serve(token="a-long-enough-token")
    with Client(address) as client, pytest.raises(ClientError, match="bearer token"):
        client.score([Image.new("RGB", (8, 8))], ["a"])
    monkeypatch.setenv("DYNEVAL_TOKEN", "a-long-enough-token")
    with Client(address) as client:
        assert isinstance(client.score([Image.new("RGB", (8, 8))], ["a"])[0], ScoreRecord)
    assert "a-long-enough-token" not in repr(dataclasses.replace(ServerSettings(token="a-long-enough-token")))


def test_a_server_that_is_not_there_is_an_error_after_the_patience(serve):
    with (
        Client("http://127.0.0.1:9", patience=0.1) as client,
        pytest.raises(ClientError, match=r"no answer within 0\.1 s"),
    ):
        client.score([Image.new("RGB", (8, 8))], ["a"])
