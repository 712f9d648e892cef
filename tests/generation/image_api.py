"""A server on this machine that speaks the OpenAI images API and the Gemini API, with trouble on demand.

What a prompt says decides the answer: see `ImageAPI.answer`. Every request is counted.
"""

import base64
import io
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def picture(size=1024, form="PNG"):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert("RGB").save(buffer, form)
    return buffer.getvalue()


class ImageAPI:
    """Counts and scripted answers shared by the handlers."""

    def __init__(self):
        self.asked = Counter()
        self.bodies = []
        self.times = []
        self.open = self.most_open = 0
        self.lock = threading.Lock()

    def answer(self, prompt, google):
        """(status, headers, body) for a prompt: that of the first word of ANSWERS in it, else an image."""
        with self.lock:
            self.asked[prompt] += 1
            first = self.asked[prompt] == 1
            self.times.append((time.monotonic(), prompt))
        for word, answer in (*(FIRST.items() if first else ()), *ANSWERS.items()):
            if word in prompt:
                return answer(google)
        time.sleep(0.05)
        return 200, {}, success(picture(64 if "small" in prompt else 1024, "JPEG" if google else "PNG"), google)


def failing(status, code, message, google_code="", google_status=None, headers=None, param=None):
    """An answer that is an error; with a code of its own, and a status, at Google."""

    def answer(google):
        number = google_status if google and google_status else status
        body = error(number, google_code if google and google_code else code, message, google, param=param)
        return number, headers or {}, body

    return answer


def refusal(google):
    if google:
        candidate = {"finishReason": "IMAGE_SAFETY", "content": {"parts": []}}
        return 200, {}, {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 7}}
    return 400, {}, error(400, "moderation_blocked", "not allowed", google)


def blocked(google):
    """A prompt that is not even tried; OpenAI has one answer for both."""
    return (200, {}, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}) if google else refusal(google)


def nothing(google):
    """An answer without an image: of Google's model, which would have rather talked; an address in OpenAI's."""
    if google:
        part = {"text": "Which cat do you mean?"}
        return 200, {}, {"candidates": [{"content": {"parts": [part]}, "finishReason": "NO_IMAGE"}]}
    return 200, {}, {**success(b"", google), "data": [{"url": "https://example.org/image.png"}]}


def wrong_key(google):
    """As documented: Google answers a key that it does not know like a request that it does not understand."""
    if not google:
        return 401, {}, error(401, "invalid_api_key", "Incorrect API key provided: a-secret-key.", google)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    return 400, {}, error(400, "INVALID_ARGUMENT", "API key not valid.", google, details=[info])


def thoughtful(google):
    """A reply of a model that thinks: a small image on the way, then the one that is meant."""
    if not google:
        return 200, {}, success(picture(64), google)
    way, end = ({"inlineData": {"mimeType": "image/png", "data": encoded(picture(size))}} for size in (32, 64))
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 1000, "thoughtsTokenCount": 77}
    parts = [{"text": "let me see", "thought": True}, {**way, "thought": True}, end]
    return 200, {}, {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage}


FIRST = {
    "slow down": failing(429, "rate_limit", "rate limit", "RESOURCE_EXHAUSTED", headers={"Retry-After": "0.6"}),
    "stumble": failing(503, "server_error", "try again", "UNAVAILABLE", headers={"Retry-After": "0"}),
}
"""Answers to the first request alone."""
ANSWERS = {
    "never up": failing(503, "server_error", "try again", "UNAVAILABLE", headers={"Retry-After": "0"}),
    "tomorrow": failing(429, "rate_limit", "come back", "RESOURCE_EXHAUSTED", headers={"Retry-After": "86400"}),
    "wrong key": wrong_key,
    "echo": failing(403, "PERMISSION_DENIED", "Consumer 'api_key:a-secret-key' has been suspended."),
    "barred": failing(
        403, "unsupported_country_region_territory", "location not supported", "FAILED_PRECONDITION", google_status=400
    ),
    "bill": failing(400, "billing_hard_limit_reached", "Enable billing to go on", "FAILED_PRECONDITION"),
    "no money": failing(429, "insufficient_quota", "pay first", "FAILED_PRECONDITION", google_status=400),
    "argument": failing(400, "invalid_value", "Invalid value: '17x17'", "INVALID_ARGUMENT", param="size"),
    "retired": failing(404, "model_not_found", "no such model", "NOT_FOUND"),
    "too long": failing(400, "string_above_max_length", "the prompt is too long", param="prompt"),
    "forbidden": refusal,
    "blocked": blocked,
    "page": lambda _: (200, {"Content-Type": "text/html"}, "<html>Welcome to the hotel's network</html>"),
    "garbled": lambda google: (200, {}, success(b"", google, data="!!! no base64 !!!")),
    "babble": lambda google: (200, *talk(google)),
    "torn": lambda google: (200, {}, success(picture()[:60], google)),
    "nothing": nothing,
    "think": thoughtful,
}
"""Documented answers, by the word in a prompt that asks for them."""


def talk(google):
    """A long text that ends in the key, so that a cut would leave a part of it."""
    text = "x" * 192 + " a-secret-key"
    if not google:
        return {"Content-Type": "text/html"}, text
    return {}, {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "NO_IMAGE"}]}


def error(status, code, message, google, param=None, details=()):
    if google:
        return {"error": {"code": status, "status": code, "message": message, "details": list(details)}}
    return {"error": {"message": message, "type": "x", "param": param, "code": code}}


def encoded(content):
    return base64.b64encode(content).decode()


def success(content, google, data=None):
    data = data or encoded(content)
    if google:
        part = {"inlineData": {"mimeType": "image/jpeg", "data": data}}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 1000}
        return {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": usage}
    details = {"image_tokens": 0, "text_tokens": 10}
    usage = {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010, "input_tokens_details": details}
    return {"created": 1, "data": [{"b64_json": data}], "usage": usage}


def handler(api):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            google = "generateContent" in self.path
            prompt = body["contents"][0]["parts"][0]["text"] if google else body["prompt"]
            with api.lock:
                api.bodies.append({"path": self.path, **body})
                api.open += 1
                api.most_open = max(api.most_open, api.open)
            status, headers, reply = api.answer(prompt, google)
            with api.lock:
                api.open -= 1
            content = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Quiet."""

    return Handler


@contextmanager
def running():
    api = ImageAPI()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(api))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
