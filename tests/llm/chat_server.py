"""A real OpenAI-compatible HTTP server without a model: fixed latency, so many requests at once, faults on demand.

    python tests/llm/chat_server.py --port 0 --parallel 64 --latency 0.5 --faults empty,nan --fault-rate 0.2

It prints its port, answers every teacher request in a valid and repeatable way (same text, same reply), and counts:
GET /stats. Requests beyond `--parallel` wait, as in a continuously batching engine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
import re
import time
from typing import Any

from misbehaviour import Misbehaviour

NUMBERED = re.compile(r"^\d+\. \[(yes|no)\] (.+)$", re.MULTILINE)
PROMPT = re.compile(r'^Prompt: (".*")$', re.MULTILINE)
DECODER = json.JSONDecoder()


def number(text: str, modulus: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % modulus


def answer(text: str, image: str) -> dict[str, Any]:
    """A valid reply to one of the teacher's requests; scores depend on image and question alone."""
    asked = NUMBERED.findall(text)
    if asked:
        rows = []
        for target, question in asked:
            row: dict[str, Any] = {"question": question, "reasoning": f"Seen in {image}: {question.lower()}"}
            if '"answer":' in text.rsplit("Reply with", 1)[-1]:
                row["answer"] = target
            rows.append({**row, "score": 1 + number(image + question, 5)})
        return {"answers": rows}
    if image:
        nodes = [{"id": f"n{i}", "label": f"object {i}", "attributes": ["red"]} for i in range(3)]
        edges = [{"source": "n0", "target": "n1", "relationship": "on"}]
        questions = [{"question": f"Is object {i} of {image} whole?", "answer": "yes"} for i in range(5)]
        return {"scene_graph": {"nodes": nodes, "edges": edges}, "questions": questions}
    found = PROMPT.search(text)
    words = re.findall(r"\w+", json.loads(found[1]) if found else "nothing")
    kind = "a broken" if "free of distortion" in text else "a"
    return {
        "questions": [
            {"question": f"Is there {kind} '{word}' - no. {i}?", "answer": "yes"} for i, word in enumerate(words[:6])
        ]
    }


def spoil(fault: str, value: dict[str, Any]) -> tuple[str, str]:
    """Reply text and finish reason with a fault in it."""
    text = json.dumps(value)
    rows = value.get("answers") or value["questions"]
    if fault == "truncated":
        return text[: len(text) // 2], "length"
    if fault == "cut":
        return text[: len(text) * 2 // 3], "stop"
    if fault == "count":
        rows.pop()
        return (json.dumps(value) if rows and "answers" in value else '{"questions": []}'), "stop"
    texts = {
        "empty": "",
        "language": "Lo siento, no puedo ayudar con eso.",
        "duplicate": text.replace('"question":', '"question": "Other?", "question":', 1),
        "huge": text + " " * 10_000_000,
        "nan": re.sub(
            r'"score": \d|"answer": "yes"|"attributes": \[', lambda m: m[0].split(":")[0] + ": NaN", text, count=1
        )
        if "score" in text
        else '{"questions": [NaN]}',
        "score9": text.replace('"score": ', '"score": 9', 1) if "score" in text else "[]",
        "token": text.replace("?", "<|IQA|>?", 1),
        "surrogate": text.replace("?", "\\ud800?", 1),
    }
    return texts[fault], "stop"


class Server:
    def __init__(self, args: argparse.Namespace) -> None:
        self.slots = asyncio.Semaphore(args.parallel)
        self.latency = args.latency
        self.last = args.last
        self.detail = args.error_form == "detail"
        self.faults = [fault for fault in args.faults.split(",") if fault]
        self.rate = args.fault_rate
        self.formats = args.formats.split(",")
        self.random = random.Random(args.seed)
        self.schedule = None if args.schedule is None else Misbehaviour(args.schedule, number)
        self.stats: dict[str, Any] = {"requests": 0, "served": 0, "in_flight": 0, "most_in_flight": 0, "busy": 0.0}
        self.seen: list[str] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        path = head.split(" ", 2)[1]
        if path == "/stats":
            misbehaved = dict(self.schedule.counts) if self.schedule else {}
            return await self.send(writer, 200, {**self.stats, "seen": self.seen[-1:], "misbehaved": misbehaved})
        self.stats["requests"] += 1
        if self.stats["requests"] > self.last:
            os._exit(1)
        self.seen = [re.search(r"authorization: (.*?)\r", head, re.IGNORECASE).group(1)]  # type: ignore[union-attr]
        if self.schedule:
            return await self.misbehave(writer, self.schedule, path, body)
        fault = self.random.choice(self.faults) if self.faults and self.random.random() < self.rate else ""
        if fault == "disconnect":
            return False
        if fault in ("429", "500", "503"):
            return await self.send(
                writer, int(fault), {"error": {"message": f"fault {fault}"}}, "Retry-After: 0.05\r\n"
            )
        if fault == "long400":
            return await self.refuse(writer, "too long: " + "word " * 250 + "so there")
        if fault.startswith("error"):  # as gateways tell of the server behind them
            error = {"code": int(fault[5:]), "message": f"upstream says {self.seen[0]}"}
            return await self.send(writer, 200, {"error": error})
        if fault == "html":
            return await self.send(writer, 200, "<html>busy</html>", content="text/html")
        refused = next((f for f in ("json_schema", "json_object") if re.search(rf'"type": ?"{f}"'.encode(), body)), "")
        if refused and refused not in self.formats:
            return await self.refuse(writer, f"response_format {refused} is not supported")
        return await self.send(writer, 200, await self.complete(body, fault))

    async def misbehave(self, writer: asyncio.StreamWriter, schedule: Misbehaviour, path: str, body: bytes) -> bool:
        if path.startswith("/v1"):
            return await self.send(writer, 301, {}, f"Location: /moved{path}\r\n")
        text, image = self.asked(body)
        said = schedule.before(body, text, image) or schedule.reply(text, image, answer(text, image))
        return said.status > 0 and await self.send(writer, said.status, said.body, said.headers)

    async def refuse(self, writer: asyncio.StreamWriter, words: str) -> bool:
        return await self.send(writer, 400, {"detail": words} if self.detail else {"error": {"message": words}})

    async def complete(self, body: bytes, fault: str) -> dict[str, Any]:
        async with self.slots:
            begun = time.monotonic()
            self.stats["in_flight"] += 1
            self.stats["most_in_flight"] = max(self.stats["most_in_flight"], self.stats["in_flight"])
            reply = self.reply(body, fault)
            await asyncio.sleep(max(0.0, self.latency - (time.monotonic() - begun)))
            self.stats["in_flight"] -= 1
            self.stats["served"] += 1
            self.stats["busy"] += time.monotonic() - begun
        return reply

    def asked(self, body: bytes) -> tuple[str, str]:
        """The text of the first human turn and a name for its image, "" where it has none."""
        # The images are not parsed: the text of the first user turn is looked for behind them.
        begin = body.find(b'"data:')
        end = body.find(b'"', begin + 1) if begin >= 0 else body.index(b'"user"')
        # The first kilobytes and the length tell images apart as well as all of it would.
        image = f"image {number(body[begin : begin + 4096].decode() + str(end - begin), 10**6)}" if begin >= 0 else ""
        found = re.compile(rb'"text": ?(?=")' if image else rb'"content": ?(?=")').search(body, end)
        assert found
        return DECODER.raw_decode(body[found.end() :].decode())[0], image

    def reply(self, body: bytes, fault: str) -> dict[str, Any]:
        text, image = self.asked(body)
        content: str | None = json.dumps(answer(text, image))
        reason = "stop"
        said: dict[str, Any] = {}
        if fault == "refusal":
            content, said = None, {"refusal": "I cannot judge people."}
        elif fault == "filter":
            content, reason = "", "content_filter"
        elif fault == "reasoning":
            content, said = None, {"reasoning_content": content}
        elif fault:
            content, reason = spoil(fault, answer(text, image))
        usage = {"prompt_tokens": len(text) // 4, "completion_tokens": len(content or "") // 4, "total_tokens": 0}
        message = {"role": "assistant", "content": content, **said}
        choice = {"index": 0, "finish_reason": reason, "message": message}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}

    async def send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        value: Any,
        headers: str = "",
        content: str = "application/json",
    ) -> bool:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content}\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return True


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", default="")
    parser.add_argument("--fault-rate", type=float, default=1.0)
    parser.add_argument("--formats", default="json_schema,json_object", help="response formats that are taken")
    parser.add_argument("--error-form", choices=("error", "detail"), default="error")
    parser.add_argument("--last", type=float, default=math.inf, help="die at the request after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schedule", type=int, help="misbehave as `misbehaviour` says, with this seed")
    server = Server(parser.parse_args())
    listener = await asyncio.start_server(
        server.connected, "127.0.0.1", parser.parse_args().port, limit=1 << 26, backlog=2048
    )
    print(listener.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
