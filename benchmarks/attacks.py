"""What strangers do to a server, all at once and over and over.

    python benchmarks/attacks.py 127.0.0.1 8000

attacks until its standard input is closed, then writes how often each attack was made and what it was answered.
`benchmarks/serving.py --attacks` runs it beside honest clients, in a process of its own, as strangers have their own
machines.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from PIL import Image

HEAD = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SILENT, SLOW = 600, 100
"""Connections that never send a whole header, and a whole body."""
_PAUSE = 0.25
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _scans() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, "JPEG", progressive=True, quality=1)
    jpeg = buffer.getvalue()
    last = jpeg.rfind(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * 3000 + b"\xff\xd9"


def _slow_picture() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((4000, 4000), 90).save(buffer, "JPEG2000", quality_mode="rates", quality_layers=[8])
    return buffer.getvalue()


def _body(image: bytes, prompt: str) -> bytes:
    body = json.dumps({"image": base64.b64encode(image).decode(), "prompt": prompt}).encode()
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _small() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Attackers:
    """Attacks on the server at `host`:`port`; `seen` counts how they were answered."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.seen: Counter[str] = Counter()
        self._bodies = {
            "a prompt of 4 MB": _body(_small(), "letters" * 600_000),
            "3,000 scans": _body(_scans(), "a"),
            "comments of a PPM": _body(b"P6\n" + b"#\n" * 4_000_000 + b"1 1 255\nabc", "a"),
            "a text PPM": _body(b"P3 2000 2000 255\n" + b"1 " * 4_000_000, "a"),
            "16 megapixels of JPEG 2000": _body(_slow_picture(), "a"),
            "two million pairs": f"{HEAD.replace('score', 'score/batch')}Content-Length: 6000012\r\n\r\n".encode()
            + b'{"pairs": [' + b"{}," * 2_000_000 + b"]",
            "another site": _body(_small(), "a").replace(b"\r\n\r\n", b"\r\nOrigin: http://evil.example\r\n\r\n", 1),
            "another name": _body(_small(), "a").replace(b"localhost", b"evil.example"),
        }  # fmt: skip

    async def run(self) -> None:
        """Attack until cancelled."""
        tasks = [self._again(name, self._sends(name, body)) for name, body in self._bodies.items()]
        tasks += [self._again("half-open", self._holds(b"GET / HTTP/1.1\r\nHost: x\r\nX-")) for _ in range(SILENT)]
        slow = f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode()
        tasks += [self._again("slow body", self._holds(slow)) for _ in range(SLOW)]
        tasks += [self._again("leaves", self._leaves(_body(_small(), f"left {n}"))) for n in range(4)]
        crumbs = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1\r\n \r\n" * 100_000
        await asyncio.gather(*tasks, self._again("crumbs", self._sends("crumbs", crumbs)))

    async def _again(self, name: str, attack: Callable[[Link], Awaitable[None]]) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                link = await asyncio.open_connection(*self._address)
                try:
                    await attack(link)
                    self.seen[name] += 1
                finally:
                    link[1].transport.abort()
            await asyncio.sleep(_PAUSE)

    def _sends(self, name: str, content: bytes) -> Callable[[Link], Awaitable[None]]:
        async def attack(link: Link) -> None:
            link[1].write(content)
            async with asyncio.timeout(30):
                answer = await link[0].readline()
            self.seen[f"{name}: {answer[9:12].decode('ascii', 'replace') or 'closed'}"] += 1

        return attack

    def _holds(self, content: bytes) -> Callable[[Link], Awaitable[None]]:
        async def attack(link: Link) -> None:
            link[1].write(content)
            while await link[0].read(4096):
                pass

        return attack

    def _leaves(self, content: bytes) -> Callable[[Link], Awaitable[None]]:
        async def attack(link: Link) -> None:
            link[1].write(content)
            await link[1].drain()
            await asyncio.sleep(0.02)

        return attack


async def _main(host: str, port: int) -> Counter[str]:
    attackers = Attackers(host, port)
    print("ready", flush=True)
    attacking = asyncio.create_task(attackers.run())
    await asyncio.to_thread(sys.stdin.read)
    attacking.cancel()
    return attackers.seen


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    print(json.dumps(asyncio.run(_main(sys.argv[1], int(sys.argv[2])))))
