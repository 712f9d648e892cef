import asyncio
import base64
import io
import json
import logging
import re
import socket
import time

import numpy as np
import pytest
from PIL import Image

from dyneval.errors import ImageError, SettingError
from dyneval.llm.chat import (
    ChatError,
    ChatRequest,
    EngineStopped,
    Message,
    RejectedReply,
    TokenTally,
    Unreachable,
    ask,
    half_character,
)
from dyneval.llm.openai_wire import JsonBody, to_reply, words_of
from dyneval.llm.pictures import DataUrls, data_url
from dyneval.llm.registry import make_engine
from dyneval.teacher.replies import parse_questions

SCHEMA = {"type": "object", "properties": {"questions": {"type": "array", "maxItems": 5}}}


def request(text='Prompt: "a red cat"\n', *images, schema=SCHEMA):
    return ChatRequest(task="test", messages=(Message(role="user", text=text, images=images),), schema=schema)


def chat(requests, model="m", **options):
    async def run():
        engine = make_engine("openai", model, **{"patience": 0.0, **options})
        try:
            return await asyncio.gather(*(engine.chat(item) for item in requests), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(run())


def picture(path, size=(64, 48), mode="RGB", **options):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, **options)
    return path


def opened(url):
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def test_reply_and_usage(chat_server, tmp_path):
    server = chat_server()
    (reply,) = chat([request("?", picture(tmp_path / "a.png"))], base_urls=[server.url])
    assert "scene_graph" in reply.text and reply.finish_reason == "stop" and reply.completion_tokens > 0


def test_concurrency_is_bounded_and_used(chat_server):
    server = chat_server("--latency", "0.05")
    chat([request()] * 40, base_urls=[server.url], concurrency=8)
    assert server.stats()["most_in_flight"] == 8


def test_retries_rate_limits_server_errors_and_lost_connections(chat_server):
    server = chat_server("--faults", "429,500,503,disconnect", "--fault-rate", "0.5")
    replies = chat([request()] * 20, base_urls=[server.url], concurrency=20)
    assert all("questions" in reply.text for reply in replies)
    assert server.stats()["requests"] > 25


def test_gives_up_with_a_reason(chat_server):
    server = chat_server("--faults", "503")
    (error,) = chat([request()], base_urls=[server.url], max_retries=1)
    assert isinstance(error, ChatError) and "503" in str(error) and server.stats()["requests"] == 2


def test_patience_outlasts_a_server_that_starts_again(chat_server, monkeypatch):
    monkeypatch.setattr("dyneval.llm.openai_server.FIRST_WAIT", 0.2)
    server = chat_server()
    port = server.url.split(":")[-1].removesuffix("/v1")

    async def run():
        engine = make_engine("openai", "m", base_urls=[server.url], max_retries=0, patience=60)
        await engine.chat(request())
        server.process.kill()
        server.process.wait()
        waiting = asyncio.create_task(engine.chat(request()))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(chat_server, "--port", port)
        reply = await waiting
        await engine.close()
        return reply

    assert "questions" in asyncio.run(run()).text


def test_html_in_place_of_a_completion_is_an_error(chat_server):
    (error,) = chat([request()], base_urls=[chat_server("--faults", "html").url])
    assert isinstance(error, ChatError)


@pytest.mark.parametrize("formats", ["json_object", "none"])
def test_falls_back_where_the_server_lacks_json_schema(chat_server, formats, caplog):
    server = chat_server("--formats", formats)
    replies = chat([request()] * 6, base_urls=[server.url], concurrency=3)
    assert all("questions" in reply.text for reply in replies)
    refusals = [record for record in caplog.records if "does not take" in record.message]
    assert len(refusals) == 1 and f"response_format {formats} in place of json_schema" in refusals[0].message


def test_two_servers_share_the_load_and_one_takes_over(chat_server):
    one, two = chat_server("--latency", "0.05"), chat_server("--latency", "0.05")
    chat([request()] * 20, base_urls=[one.url, two.url], concurrency=10)
    assert one.stats()["served"] == two.stats()["served"] == 10
    one.process.kill()
    one.process.wait()
    replies = chat([request()] * 20, base_urls=[one.url, two.url], concurrency=10, max_retries=1)
    assert all("questions" in reply.text for reply in replies)


@pytest.fixture
def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_was_never_there_is_told_at_once(free_address):
    begun = time.monotonic()
    errors = chat([request()] * 5, base_urls=[f"http://{free_address}/v1"], max_retries=8, patience=900)
    assert time.monotonic() - begun < 5
    for error in errors:
        assert isinstance(error, EngineStopped)
        assert f"{free_address}: nobody answers there" in str(error) and "Connect call failed" in str(error)
        assert "start a server there, such as `vllm serve m`" in str(error) and "--base-url" in str(error)


def test_a_host_that_does_not_exist_is_told_at_once():
    (error,) = chat([request()], base_urls=["http://no-such-host.invalid/v1"], max_retries=8, patience=900)
    assert isinstance(error, EngineStopped) and "no-such-host.invalid" in str(error)


def test_one_server_that_was_never_there_leaves_the_work_to_another(chat_server, free_address):
    there = chat_server()
    replies = chat([request()] * 10, base_urls=[f"http://{free_address}/v1", there.url], max_retries=8)
    assert all("questions" in reply.text for reply in replies)


def test_a_server_that_answers_with_errors_is_there(chat_server):
    """While a model is loaded a server may answer 503: that is waited for."""
    (error,) = chat([request()], base_urls=[chat_server("--faults", "503").url], max_retries=1)
    assert isinstance(error, Unreachable)


def test_a_server_that_drops_its_first_connection_is_there(chat_server):
    (error,) = chat([request()], base_urls=[chat_server("--faults", "disconnect").url], max_retries=1)
    assert isinstance(error, Unreachable)


def test_what_a_lost_server_was_is_told(chat_server):
    server = chat_server()

    async def run():
        engine = make_engine("openai", "m", base_urls=[server.url], max_retries=0, patience=0)
        await engine.chat(request())
        server.process.kill()
        server.process.wait()
        with pytest.raises(Unreachable):  # the connection that was open
            await engine.chat(request())
        with pytest.raises(Unreachable, match=r"no answer \(Cannot connect to host 127\.0\.0\.1"):
            await engine.chat(request())
        await engine.close()

    asyncio.run(run())


def test_a_server_that_writes_errors_in_its_own_form_is_understood(chat_server):
    """Which format it refuses and why stands in `detail`, where the openai package does not look."""
    server = chat_server("--formats", "json_object", "--error-form", "detail")
    (reply,) = chat([request()], base_urls=[server.url])
    assert "questions" in reply.text
    (error,) = chat([request()], base_urls=[chat_server("--faults", "long400", "--error-form", "detail").url])
    assert "so there" in str(error)


def test_long_words_of_a_server_reach_the_user_to_their_end(chat_server):
    (error,) = chat([request()], base_urls=[chat_server("--faults", "long400").url])
    assert "HTTP 400" in str(error) and "so there" in str(error)


@pytest.mark.parametrize(("code", "kind"), [(400, EngineStopped), (429, Unreachable), (502, Unreachable)])
def test_an_error_with_status_200_is_told_in_its_words_without_the_key(chat_server, monkeypatch, code, kind):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    server = chat_server("--faults", f"error{code}")
    (error,) = chat([request()], base_urls=[server.url], api_key_env="TEACHER_KEY", max_retries=1)
    assert type(error) is kind and f"HTTP 200, but the body is an error {code}: upstream says Bearer ***" in str(error)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refusal", "the model refuses to answer: I cannot judge people."),
        ("filter", "content filter ended the reply"),
        ("reasoning", "characters of it stand in reasoning_content: start the server without a reasoning parser"),
        ("empty", "the reply is empty"),
        ("truncated", "cut off at 4096 tokens"),
    ],
)
def test_replies_that_are_no_answers_are_told_apart(chat_server, fault, said):
    server = chat_server("--faults", fault)

    async def run():
        engine = make_engine("openai", "m", base_urls=[server.url])
        try:
            await ask(engine, request(), lambda text: parse_questions(text, 9), 2, TokenTally())
        finally:
            await engine.close()

    with pytest.raises(RejectedReply, match="2 replies could not be used") as caught:
        asyncio.run(run())
    assert said in str(caught.value)
    assert bool(caught.value.raw) == (fault in ("reasoning", "truncated"))


def test_key_is_sent_but_never_told(chat_server, monkeypatch, caplog):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    server = chat_server("--faults", "503")
    with caplog.at_level(logging.DEBUG):
        (error,) = chat([request()], base_urls=[server.url], api_key_env="TEACHER_KEY", max_retries=0)
    assert server.stats()["seen"] == ["Bearer sk-very-secret"]
    assert "sk-very-secret" not in str(error) + repr(error) + caplog.text


def test_hosted_key_does_not_go_to_other_servers(chat_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hosted")
    server = chat_server()
    chat([request()], base_urls=[server.url])
    assert "sk-hosted" not in server.stats()["seen"][0]


def test_missing_key_names_the_variable(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ValueError, match="NO_SUCH_KEY is not set"):
        make_engine("openai", "m", api_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://"])
def test_bad_address(url):
    with pytest.raises(ValueError, match="expected something like"):
        make_engine("openai", "m", base_urls=[url])


def test_a_password_in_an_address_is_refused_and_not_told():
    with pytest.raises(SettingError, match=r"\.\.\.@host:8000/v1: a user name or password cannot be sent") as caught:
        make_engine("openai", "m", base_urls=["http://user:secret@host:8000/v1"])
    assert "secret" not in str(caught.value)


def test_unknown_engine():
    with pytest.raises(ValueError, match="expected one of"):
        make_engine("gpt", "m")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": 3}, "engine openai: has no option 'retries'; it has base_urls, "),
        ({"timeout": "long"}, r"engine openai: Expected `float`, got `str` - at `\$.timeout`"),
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size goes with --engine vllm, not with openai"),
    ],
)
def test_options_that_an_engine_does_not_take(options, said):
    with pytest.raises(SettingError, match=said):
        make_engine("openai", "m", **options)


def test_data_url_keeps_the_bytes_of_a_plain_image(tmp_path):
    path = picture(tmp_path / "a.png")
    assert base64.b64decode(data_url(path).split(",", 1)[1]) == path.read_bytes()


def test_data_url_fits_the_budget_in_the_grid(tmp_path):
    shown = opened(data_url(picture(tmp_path / "a.png", (400, 200)), max_pixels=128 * 128))
    assert shown.width % 32 == shown.height % 32 == 0 and shown.width * shown.height <= 128 * 128
    assert shown.width > shown.height


def test_data_url_turns_and_flattens(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert opened(data_url(picture(tmp_path / "turned.jpg", (64, 32), exif=exif))).size == (32, 64)
    assert opened(data_url(picture(tmp_path / "alpha.png", mode="RGBA"))).mode == "RGB"


def test_broken_image_is_named(tmp_path):
    whole = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"half\.png"):
        data_url(tmp_path / "half.png")


def test_image_is_encoded_once_for_its_requests(tmp_path, monkeypatch):
    path, made = picture(tmp_path / "a.png"), []
    monkeypatch.setattr("dyneval.llm.pictures.data_url", lambda *args: made.append(args) or "data:")

    async def run():
        urls = DataUrls()
        await asyncio.gather(*(urls.get(path) for _ in range(5)))
        await urls.get(path)
        urls.close()

    asyncio.run(run())
    assert len(made) == 1


def test_body_holds_ready_made_json_as_it_is_and_can_be_sent_again():
    async def pieces(body: JsonBody) -> bytes:
        return b"".join([piece async for piece in body])

    value = {"messages": [{"content": [b'"data:one"', "b'\"data:one\"'", b'"data:two"']}], "text": 'é "quoted"'}
    body = JsonBody(value)
    sent = [asyncio.run(pieces(body)) for _ in range(2)]
    assert sent[0] == sent[1] and len(body) == len(sent[0])
    assert json.loads(sent[0]) == {
        "messages": [{"content": ["data:one", "b'\"data:one\"'", "data:two"]}],
        "text": 'é "quoted"',
    }
    with pytest.raises(TypeError, match="set"):
        JsonBody({"a": {1}})


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ('{"choices": []}', "no choices"),
        ('{"object": "list"}', "missing required field `choices`"),
        ("<html>Welcome</html>", "<html>Welcome</html>"),
        ('{"choices": [{"message": {"content": ["a"]}}]}', "Expected `str | null`"),
        ('{"choices": [', "truncated"),
    ],
)
def test_what_is_no_completion_is_told(sent, problem):
    with pytest.raises(ChatError, match=f"gpu1: the reply is no chat completion .*{re.escape(problem)}"):
        to_reply(sent, "gpu1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "no such model", "code": 404}}', "no such model"),
        ('{"error": "no such model"}', "no such model"),
        ('{"detail": "no such model"}', "no such model"),
        ('{"detail": [{"loc": ["seed"], "msg": "extra"}]}', '[{"loc":["seed"],"msg":"extra"}]'),
        ('{"object": "error", "message": "no such model", "code": 404}', "no such model"),
        ("<h1>Bad gateway</h1>", "<h1>Bad gateway</h1>"),
        ('["odd"]', '["odd"]'),
    ],
)
def test_the_words_of_an_error_are_found_in_every_form(body, words):
    assert words_of(body) == words


def test_half_a_character_is_the_replys_fault_not_the_servers():
    reply = to_reply('{"choices": [{"message": {"content": "\\ud83d and \\u00e9"}}]}', "gpu1")
    assert reply.text == "\ud83d and é" and "lone surrogate \\ud83d" in str(half_character(reply.text))


def test_completion_with_nulls_is_read():
    nulls = {"content": None, "refusal": None}
    choice = {"message": nulls, "finish_reason": None, "logprobs": {"content": [{"token": "a", "logprob": -1}]}}
    reply = to_reply(json.dumps({"id": "x", "choices": [choice], "usage": {"prompt_tokens": None}}), "gpu1")
    assert (reply.text, reply.finish_reason, reply.prompt_tokens) == ("", "stop", 0)
    assert [(token.text, token.logprob, token.alternatives) for token in reply.tokens] == [("a", -1.0, {})]
