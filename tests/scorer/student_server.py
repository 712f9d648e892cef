"""A real OpenAI-compatible server with the tiny student behind it, as vLLM answers: template, special tokens, logprobs.

Requests come one at a time to the decoder. What is asked of it is kept in `seen`.
"""

from __future__ import annotations

import base64
import io
import threading
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI, Request
from PIL import Image

from dyneval.processing import IMAGE_TOKEN, Encoded
from dyneval.scorer.decoder import Decoder, ReplyRow
from dyneval.scorer.grammar import ReplyGrammar


class StudentServer:
    def __init__(self, model, processor):
        self.processor = processor
        self.grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self.decoder = Decoder(model, self.grammar)
        self.lock = threading.Lock()
        self.seen = []
        self.spoil = lambda reply: reply
        self.refusal = None
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request):
        asked = await request.json()
        self.seen.append(asked)
        if self.refusal is not None:
            return self.refusal
        with self.lock:
            return self.spoil(self.reply(asked))

    def reply(self, asked):
        content = asked["messages"][0]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        images = [opened(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
        turn = [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
        text = self.processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
        )
        ids = self.processor.tokenizer.encode(text, add_special_tokens=False)
        schema = asked["response_format"]["json_schema"]["schema"]
        assert asked["temperature"] == 0 and "x-guidance" in schema
        # The grammar sets the form of JSON itself, as vLLM's does from x-guidance.
        plain = {key: value for key, value in schema.items() if key != "x-guidance"}
        constraint = self.grammar.constraint(plain, verdicts="answers" in str(schema))
        row = self.row(ids, images, constraint, asked["max_tokens"])
        return completion(row, not row.constraint.done, asked.get("top_logprobs", 0))

    def row(self, ids, images, constraint, max_tokens):
        if not images:
            row = ReplyRow(ids, constraint, choices=[])
            return next(self.decoder.decode([row], max_tokens))
        pixels = self.processor.image_processor(images=images, return_tensors="pt")
        count = int(pixels["image_grid_thw"].prod()) // self.processor.image_processor.merge_size**2
        pad = self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        at = ids.index(pad)
        ids = ids[:at] + [pad] * count + ids[at + 1 :]
        types = [IMAGE_TOKEN if token == pad else 0 for token in ids]
        encoded = Encoded(ids, [], types, pixels["pixel_values"], pixels["image_grid_thw"])
        length = at + count + 1
        prefix = self.decoder.read_images([encoded], [length])
        row = ReplyRow(ids[length:], constraint, choices=[])
        return next(self.decoder.decode([row], max_tokens, prefix))


def opened(url):
    assert url.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def completion(row, cut, top):
    tokens = [
        {
            "token": choice.text,
            "logprob": choice.logprob,
            "bytes": None,
            "top_logprobs": [
                {"token": name, "logprob": value, "bytes": None} for name, value in choice.alternatives.items()
            ][:top],
        }
        for choice in row.choices
    ]
    choice = {
        "index": 0,
        "finish_reason": "length" if cut else "stop",
        "message": {"role": "assistant", "content": row.constraint.text},
        "logprobs": {"content": tokens} if top else None,
    }
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "student", "choices": [choice]}


@contextmanager
def serving(server):
    """Serve from a thread; yields the base URL."""
    running = uvicorn.Server(uvicorn.Config(server.app, port=0, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        running.should_exit = True
        thread.join()
