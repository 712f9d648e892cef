"""Image files decoded in processes of their own, with limits of time and memory: a hostile file costs its own answer.

    python -m dyneval.serve.decoding DESCRIPTOR MAX_PIXELS SECONDS

is such a process: it reads one file after the other from the socket with that descriptor and writes the pixels back.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.errors import ImageError

if TYPE_CHECKING:
    from dyneval.files.image_forms import ReadImage

SECONDS = 5
"""Of computing. The slowest honest files, AVIF and JPEG 2000 of 16 megapixels, take one or two."""
_WAIT = 60
"""Seconds for all of it, on a machine that is busy with other things."""
_MEMORY, _MEMORY_A_PIXEL = 1 << 28, 40
"""Bytes beyond what the process has from its start: 16 bits of four channels, and the copies on the way to RGB."""
_COUNT = max(2, min(4, os.cpu_count() or 1))


class Decoders:
    """Some decoding processes, made when they are needed, and a thread each that waits for it."""

    def __init__(self, max_pixels: int, seconds: float = SECONDS) -> None:
        """`max_pixels`: larger images are refused; `seconds`: of computing that one may take."""
        self._limits = max_pixels, seconds
        self._own = threading.local()
        self._all: list[_Decoder] = []
        self.threads = ThreadPoolExecutor(_COUNT, thread_name_prefix="decoder")

    def decode(self, content: bytes, name: str) -> ReadImage:
        """Read an image file, in one of `threads`; errors call it `name`. Raises ImageError."""
        decoder: _Decoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = _Decoder(*self._limits)
            self._all.append(decoder)
        try:
            return decoder.decode(content, name)
        except (EOFError, OSError, TimeoutError) as error:
            self._own.decoder = None
            self._all.remove(decoder)
            raise ImageError(f"{name}: {decoder.end() or error}") from None

    def close(self) -> None:
        """End the threads and the processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.end()


class _Decoder:
    def __init__(self, max_pixels: int, seconds: float) -> None:
        self._seconds = seconds
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: modules of the folder that the server was started in, perhaps one of data, are not imported.
            command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(max_pixels), str(seconds)]
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads would take address space
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
        self._link = Connection(ours.detach())

    def decode(self, content: bytes, name: str) -> ReadImage:
        from PIL import Image

        from dyneval.files.image_forms import ReadImage

        self._link.send_bytes(content)
        if not self._link.poll(_WAIT):
            raise TimeoutError(f"not decoded within {_WAIT} s")
        answer = json.loads(self._link.recv_bytes())
        if "error" in answer:
            raise ImageError(f"{name}: {answer['error']}")
        image = Image.frombytes("RGB", tuple(answer["size"]), self._link.recv_bytes())
        return ReadImage(image, content, answer["sha256"])

    def end(self) -> str | None:
        """End the process; returns what ended it, where it was not this."""
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # one that was ended by a limit is over in a moment
        self._process.kill()
        status = self._process.wait()
        if status == -signal.SIGPROF:
            return f"not decoded within {self._seconds:g} s of computing"
        return f"the decoder ended with status {status}" if status not in (0, -signal.SIGKILL) else None


def _serve(descriptor: int, max_pixels: int, seconds: float) -> None:
    from PIL import Image

    from dyneval.files.image_forms import read_image
    from dyneval.work.processes import end_with_parent

    end_with_parent(os.getppid())
    os.nice(10)  # who sends the largest pictures must not take the processor from the scorer
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY + _MEMORY_A_PIXEL * max_pixels
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    Image.init()  # all formats now, not out of the time of the first file
    link = Connection(descriptor)
    while True:
        try:
            content = link.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process that does not handle it
        try:
            read = read_image(content, "image", max_pixels=max_pixels)
            answer = {"size": read.image.size, "sha256": read.file_hash}
        except ImageError as error:
            answer = {"error": str(error).removeprefix("image: ")}
        except MemoryError:
            answer = {"error": "decoding it takes too much memory"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        link.send_bytes(json.dumps(answer).encode())
        if "error" not in answer:
            link.send_bytes(read.image.tobytes())


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
