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


def picture(form="PNG"):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, form)
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
        """(status, headers, body) for a prompt."""
        with self.lock:
            self.asked[prompt] += 1
            first = self.asked[prompt] == 1
            self.times.append((time.monotonic(), prompt))
        if "slow down" in prompt and first:
            return 429, {"Retry-After": "0.6"}, error(429, "RESOURCE_EXHAUSTED", "rate limit", google)
        if "stumble" in prompt and first:
            return 503, {"Retry-After": "0"}, error(503, "UNAVAILABLE", "try again", google)
        if "never up" in prompt:
            return 503, {"Retry-After": "0"}, error(503, "UNAVAILABLE", "try again", google)
        if "wrong key" in prompt:
            return 401, {}, error(401, "invalid_api_key", "no such key", google)
        if "no money" in prompt:
            return 429, {}, error(429, "insufficient_quota", "pay first", google)
        if "forbidden" in prompt:
            return self.refusal(google)
        if "torn" in prompt:
            return 200, {}, success(picture()[:60], google)
        time.sleep(0.05)
        return 200, {}, success(picture("JPEG" if google else "PNG"), google)

    def refusal(self, google):
        if google:
            candidate = {"finishReason": "IMAGE_SAFETY", "content": {"parts": []}}
            return 200, {}, {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 7}}
        return 400, {}, error(400, "moderation_blocked", "not allowed", google)


def error(status, code, message, google):
    if google:
        return {"error": {"code": status, "status": code, "message": message}}
    return {"error": {"message": message, "type": "x", "param": None, "code": code}}


def success(content, google):
    data = base64.b64encode(content).decode()
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
            content = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
