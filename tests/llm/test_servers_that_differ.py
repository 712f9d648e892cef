"""Servers that refuse a field, one request, or all of them: what is sent on, what is given up, what is said."""

import asyncio
import datetime
import ipaddress
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dyneval.errors import SettingError
from dyneval.llm.chat import ChatReply, ChatRequest, EngineStopped, Message, Refused, UnfitServer, Unreachable
from dyneval.llm.registry import make_engine

SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}}


class Stub(ThreadingHTTPServer):
    """Answers what `rule` says of a body and path: status, value and headers; None: a completion, 0: no answer."""

    def __init__(self, rule):
        super().__init__(("127.0.0.1", 0), Handler)
        self.rule, self.seen = rule, []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": "{}"}
        status, value, *headers = self.server.rule(body, self.path) or (200, {"choices": [{"message": message}]})
        self.server.seen.append((status, body))
        if status == 0:
            self.close_connection = True
            return
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": len(data), **(headers[0] if headers else {})}.items():
            self.send_header(name, str(text))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    running = []

    def start(rule):
        running.append(Stub(rule))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def request(text="a cat", task="test", **options):
    return ChatRequest(task=task, messages=(Message(role="user", text=text),), schema=SCHEMA, **options)


def chat(server, requests, *others, **options):
    """Replies and exceptions of requests that are sent one after the other, and what the engine noted."""

    async def run():
        urls = [one.url for one in (server, *others)]
        engine = make_engine("openai", "m", base_urls=urls, **{"patience": 0, "max_retries": 1, **options})
        found = []
        for one in requests:
            try:
                found.append(await engine.chat(one))
            except Exception as error:
                found.append(error)
        await engine.close()
        return found, engine.notes

    return asyncio.run(run())


def refuses(name, status=400, words="Extra inputs are not permitted", form="error"):
    def rule(body, path):
        if name in body:
            said = {"error": {"message": f"{words}: {name}"}} if form == "error" else {"detail": [{"loc": [name]}]}
            return status, said
        return None

    return rule


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        (refuses("seed", 422, form="detail"), "no seed"),
        (refuses("max_tokens"), "max_completion_tokens in place of max_tokens"),
        (refuses("temperature"), "no temperature"),
        (refuses("response_format", 404), "response_format none in place of json_schema"),
        (lambda body, _: refuses("seed")(body, _) or refuses("max_tokens")(body, _), "of max_tokens, no seed"),
        (
            lambda body, _: (400, {"error": "computer says no"}) if "seed" in body else None,
            "no seed",
        ),
    ],
)
def test_a_field_that_a_server_refuses_is_found_out_once_and_told(stub, rule, changed):
    server = stub(rule)
    replies, (note,) = chat(server, [request()] * 5)
    assert all(isinstance(reply, ChatReply) for reply in replies)
    assert changed in note and "HTTP 4" in note
    assert [status for status, _ in server.seen[-5:]] == [200] * 5, "asked about once"


def test_an_echo_of_the_request_costs_one_request_and_changes_nothing(stub):
    def rule(body, _):
        if "dog" in str(body["messages"]):
            return 400, {"error": {"message": f"context length exceeded. response_format json_schema seed {body}"}}
        return None

    server = stub(rule)
    (first, refused, last), notes = chat(server, [request(), request("a dog"), request()])
    assert isinstance(first, ChatReply) and isinstance(last, ChatReply) and not notes
    assert isinstance(refused, Refused) and "context length exceeded" in str(refused)
    assert {body["response_format"]["type"] for _, body in server.seen} == {"json_schema"}
    assert len(server.seen) == 4, "the refused one was compared with one that is known to be good"


@pytest.mark.parametrize("status", [400, 413, 422, 500, 0])
def test_forty_bad_requests_in_a_row_stop_nothing(stub, status):
    def rule(body, _):
        return (status, {"error": {"message": "not this one"}}) if "dog" in str(body["messages"]) else None

    *refused, reply = chat(stub(rule), [*[request("a dog")] * 40, request()], max_retries=0)[0]
    assert all(isinstance(one, Refused) for one in refused) and isinstance(reply, ChatReply)
    assert status == 0 or all("not this one" in str(one) for one in refused)


def test_with_one_server_left_out_a_request_that_the_other_is_too_busy_for_is_unreachable_and_nothing_worse(stub):
    wrong = stub(lambda *_: (404, {"error": "no model m here"}))
    busy = stub(lambda *_: (503, {"error": "loading"}))
    errors, notes = chat(wrong, [request()] * 5, busy, max_retries=0, patience=0)
    assert all(isinstance(error, Unreachable) and "loading" in str(error) for error in errors), errors
    assert any("left out from here on" in note for note in notes)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "--api-key-env"), (404, "set --model"), (405, "it mostly ends in /v1"), (400, "--server-option KEY=VALUE")],
)
def test_a_server_that_refuses_everything_stops_the_run_with_its_words(stub, status, remedy):
    server = stub(lambda *_: (status, {"error": "no model m here; there is teacher-235b"}))
    ((error,), _) = chat(server, [request()])
    assert isinstance(error, EngineStopped) and remedy in str(error)
    assert f"HTTP {status}: no model m here; there is teacher-235b" in str(error)


def test_one_of_two_servers_that_refuses_everything_is_left_out_and_told(stub):
    wrong, right = stub(lambda *_: (404, {"error": "no model m here"})), stub(lambda *_: None)
    replies, (note,) = chat(wrong, [request()] * 5, right)
    assert all(isinstance(reply, ChatReply) for reply in replies)
    assert "left out from here on" in note and "HTTP 404: no model m here" in note
    assert len(wrong.seen) == 2 and len(right.seen) == 5


def test_a_limit_that_no_request_keeps_to_stops_the_run_and_that_of_one_request_does_not(stub):
    def rule(body, _):
        over = body.get("max_tokens", body.get("max_completion_tokens")) > 5000
        return (400, {"error": {"message": "max_tokens is too large: the window is 5000"}}) if over else None

    few, many = [request(max_tokens=9000)] * 3, [request(max_tokens=9000)] * 25
    found, notes = chat(stub(rule), [*few, request()])
    assert [type(one) for one in found] == [Refused] * 3 + [ChatReply] and not notes
    (stopped,) = (one for one in chat(stub(rule), many)[0] if isinstance(one, EngineStopped))
    assert "the window is 5000" in str(stopped)


def test_a_server_that_fails_for_all_is_not_blamed_on_one_request(stub):
    ((error,), _) = chat(stub(lambda *_: (500, {"error": "the engine died"})), [request()])
    assert isinstance(error, Unreachable) and "the engine died" in str(error)


def test_a_request_that_is_alone_in_failing_does_not_wait_for_the_server(stub):
    """The patience is for servers that start again, not for one picture."""
    rule = lambda body, _: (500, {"error": "broken picture"}) if "dog" in str(body["messages"]) else None  # noqa: E731
    ((error,), _) = chat(stub(rule), [request("a dog")], max_retries=0, patience=900)
    assert isinstance(error, Refused) and "broken picture; the server answers otherwise" in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_with_the_same_request(stub, status):
    def rule(body, path):
        return (status, {}, {"Location": "/api" + path}) if path.startswith("/v1") else None

    server = stub(rule)
    replies, (note,) = chat(server, [request("one"), request("two")])
    assert all(isinstance(reply, ChatReply) for reply in replies)
    assert f"{server.url.replace('/v1', '/api/v1')} (HTTP {status})" in note and "--base-url" in note
    assert [code for code, _ in server.seen] == [status, 200, 200]


@pytest.mark.parametrize("target", ["https://login.example/next", "http://other.example/v1/chat/completions", ""])
def test_a_redirect_to_somewhere_else_is_named_and_not_followed(stub, target):
    ((error,), _) = chat(stub(lambda *_: (302, {}, {"Location": target})), [request()])
    assert isinstance(error, EngineStopped) and f"moved to {target}" in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "server_overloaded", "message": "upstream is busy"}, ChatReply),
        ("upstream is busy", ChatReply),
        ({"code": 503, "message": "upstream is busy"}, ChatReply),
        ({"type": "invalid_request_error", "message": "upstream is busy"}, Refused),
        ({"code": 413, "message": "upstream is busy"}, Refused),
    ],
)
def test_an_error_with_status_200_is_asked_again_unless_it_blames_the_request(stub, error, kind):
    seen = []

    def rule(body, _):
        seen.append(body)
        return (200, {"error": error}) if len(seen) == 1 else None

    ((found,), _) = chat(stub(rule), [request()])
    assert type(found) is kind and (kind is ChatReply or "upstream is busy" in str(found))


def test_the_words_of_a_server_behind_a_gateway_and_long_ones_reach_the_user(stub):
    behind = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "seeds < 0 only"}}}
    ((error,), _) = chat(stub(lambda *_: (400, behind)), [request()])
    assert "Provider returned error" in str(error) and "seeds < 0 only" in str(error)
    picture = f"data:image/png;base64,{'A' * 100_000}"
    long = {"detail": f"cannot read {picture}: {'very ' * 2000} sorry"}
    ((error,), _) = chat(stub(lambda *_: (400, long)), [request()])
    assert "cannot read data:image/png;base64,...:" in str(error) and "very  sorry" in str(error)
    assert len(str(error)) < 5000


def test_own_fields_are_sent_and_null_leaves_one_out(stub):
    server = stub(lambda *_: None)
    own = ["top_k=20", "seed=null", 'chat_template_kwargs={"enable_thinking": false}', "reasoning_effort=low"]
    chat(server, [request()], server_options=own)
    ((_, body),) = server.seen
    assert (body["top_k"], body["reasoning_effort"]) == (20, "low") and "seed" not in body
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("option", ["top_k", "=3", "messages=[]", "model=x"])
def test_own_fields_that_cannot_be_set(option):
    with pytest.raises(SettingError, match="--server-option"):
        make_engine("openai", "m", base_urls=["http://x/v1"], server_options=[option])


def test_without_a_schema_there_is_nothing_to_negotiate_where_one_is_needed(stub):
    server = stub(refuses("response_format"))
    ((error,), _) = chat(server, [request()], needs_schema=True)
    assert isinstance(error, UnfitServer) and all("response_format" in body for _, body in server.seen)


@pytest.fixture
def private_server(stub, tmp_path):
    """A server whose certificate nobody has signed, and the file of that certificate."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
    signed = builder.not_valid_after(now + datetime.timedelta(1)).add_extension(host, critical=False)
    file = tmp_path / "certificate.pem"
    file.write_bytes(signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    server = stub(lambda *_: None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    return server, file


def test_a_private_certificate_is_named_and_taken_where_it_is_trusted(private_server, monkeypatch):
    server, file = private_server
    ((error,), _) = chat(server, [request()])
    assert isinstance(error, EngineStopped) and "its certificate is not trusted" in str(error)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error) and "SSL_CERT_FILE" in str(error)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    ((reply,), _) = chat(server, [request()])
    assert isinstance(reply, ChatReply)
