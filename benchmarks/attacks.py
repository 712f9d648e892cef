"""What strangers may do to a server, all at once and over and over.

    python benchmarks/attacks.py 127.0.0.1 8000

attacks until its standard input is closed, then writes as JSON how often each attack was made and how it was answered.
`benchmarks/serving.py --attacks` runs it beside honest clients. It is a program of its own, since strangers have their
own machines: in the clients' process, its work would count as waiting time of theirs.
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
from functools import partial

from PIL import Image

HEAD = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# Connections that never send a whole header, and those that never send a whole body.
HALF_OPEN, SLOW_BODIES = 600, 100
# Seconds between two attacks of one kind. Without a pause one core would only attack.
PAUSE = 0.25
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(image: bytes, prompt: str) -> bytes:
    """A whole request to score an image."""
    body = json.dumps({"image": base64.b64encode(image).decode(), "prompt": prompt}).encode()
    return f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file of an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Attackers:
    """Attacks on the server at `host`:`port`; `answers` counts attacks and how they were answered, by name."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.answers: Counter[str] = Counter()
        self._small = encoded(Image.new("RGB", (64, 64), "red"), "PNG")
        jpeg = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True, quality=1)
        # A decoder goes over the whole image for every scan, however few bytes the scan has.
        scans = jpeg[:-2] + jpeg[jpeg.rfind(b"\xff\xda") : -2] * 3000 + b"\xff\xd9"
        noise = Image.effect_noise((4000, 4000), 90)
        slow = encoded(noise, "JPEG2000", quality_mode="rates", quality_layers=[8])
        pairs = b'{"pairs": [' + b"{}," * 2_000_000 + b"]"
        foreign = request(self._small, "a")
        self._bodies = {
            "a prompt of 4 MB": request(self._small, "letters" * 600_000),
            "3,000 scans": request(scans, "a"),
            "comments of a PPM": request(b"P6\n" + b"#\n" * 4_000_000 + b"1 1 255\nabc", "a"),
            "a text PPM": request(b"P3 2000 2000 255\n" + b"1 " * 4_000_000, "a"),
            "16 megapixels of JPEG 2000": request(slow, "a"),
            "two million pairs": f"{HEAD.replace('score', 'score/batch')}Content-Length: {len(pairs)}\r\n\r\n".encode()
            + pairs,
            "another site": foreign.replace(b"\r\n\r\n", b"\r\nOrigin: http://evil.example\r\n\r\n", 1),
            "another name": foreign.replace(b"localhost", b"evil.example"),
        }

    async def run(self) -> None:
        """Attack until cancelled."""
        tasks = [self._repeat(name, partial(self._send, name, body)) for name, body in self._bodies.items()]
        half = partial(self._hold, b"GET / HTTP/1.1\r\nHost: x\r\nX-")
        tasks += [self._repeat("half-open", half) for _ in range(HALF_OPEN)]
        slow = partial(self._hold, f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        tasks += [self._repeat("slow body", slow) for _ in range(SLOW_BODIES)]
        leaving = [partial(self._leave, request(self._small, f"left {number}")) for number in range(4)]
        tasks += [self._repeat("leaves", leave) for leave in leaving]
        crumbs = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1\r\n \r\n" * 100_000
        await asyncio.gather(*tasks, self._repeat("crumbs", partial(self._send, "crumbs", crumbs)))

    async def _repeat(self, name: str, attack: Callable[[Link], Awaitable[None]]) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                link = await asyncio.open_connection(*self._address)
                try:
                    await attack(link)
                    self.answers[name] += 1
                finally:
                    # abort, not close: close would wait until the server has read what was sent.
                    link[1].transport.abort()
            await asyncio.sleep(PAUSE)

    async def _send(self, name: str, content: bytes, link: Link) -> None:
        """Send a request and count the status of its answer."""
        link[1].write(content)
        async with asyncio.timeout(30):
            answer = await link[0].readline()
        self.answers[f"{name}: {answer[9:12].decode('ascii', 'replace') or 'closed'}"] += 1

    async def _hold(self, content: bytes, link: Link) -> None:
        """Send the beginning of a request, and keep the connection for as long as the server does."""
        link[1].write(content)
        while await link[0].read(4096):
            pass

    async def _leave(self, content: bytes, link: Link) -> None:
        """Send a whole request, and go before it is answered."""
        link[1].write(content)
        await link[1].drain()
        await asyncio.sleep(0.02)


async def attack_until_closed(host: str, port: int) -> Counter[str]:
    """Attack until standard input ends; returns the answers by attack."""
    attackers = Attackers(host, port)
    # The caller starts its clock at this line: to make the pictures takes seconds.
    print("ready", flush=True)
    attacking = asyncio.create_task(attackers.run())
    await asyncio.to_thread(sys.stdin.read)
    attacking.cancel()
    return attackers.answers


if __name__ == "__main__":
    # Some systems allow 1,024 open files, fewer than the connections held here beside those of the clients.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    print(json.dumps(asyncio.run(attack_until_closed(sys.argv[1], int(sys.argv[2])))))
