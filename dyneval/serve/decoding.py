"""Image files decoded in processes of their own, with limits of time and memory: a hostile file costs its own answer.

Such a process reads one task after the other from a socket, a line of JSON and the file's bytes, and writes back a line
of JSON and the pixels, or a picture for a page.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dyneval
from dyneval.errors import ImageError

if TYPE_CHECKING:
    from dyneval.files.image_forms import ReadImage

logger = logging.getLogger(__name__)

SECONDS = 5
"""Of computing. The slowest honest files, AVIF and JPEG 2000 of 16 megapixels, take one or two."""
_WAIT = 60
"""Seconds for all of it, on a machine that is busy with other things."""
_MEMORY, _MEMORY_A_PIXEL = 1 << 28, 40
"""Bytes beyond what the process has from its start: 16 bits of four channels, and the copies on the way to RGB."""
_COUNT = max(2, min(4, os.cpu_count() or 1))
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
"""What a file does to a library with a fault; two decoders in a row do not end so by chance."""
_DATA_URL = re.compile(rb"\s*data:[^,]{0,200};base64,")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_START = "import sys; sys.path.append(sys.argv[1]); from dyneval.serve.decoding import main; main(*sys.argv[2:])"
"""The package's own folder stands last: where it is a checkout, nothing in it takes the place of a module of Python."""


class DecoderError(Exception):
    """No decoder could look at an image: this machine is at fault, not the image."""


class _DecoderEnded(Exception):
    """A decoder ended in the middle of its task; the message says how."""

    def __init__(self, message: str, is_crash: bool) -> None:
        super().__init__(message)
        self.is_crash = is_crash


class Decoders:
    """Some decoding processes, made when they are needed, and a thread each that waits for it."""

    def __init__(self, max_pixels: int, seconds: float = SECONDS) -> None:
        """`max_pixels`: larger images are refused; `seconds`: of computing that one may take."""
        self._limits = max_pixels, seconds
        self._own = threading.local()
        self._all: set[_Decoder] = set()
        self.threads = ThreadPoolExecutor(_COUNT, thread_name_prefix="decoder")

    def decode(self, file: bytes | str, name: str) -> ReadImage:
        """Read an image file, its bytes or the same in base64, in one of `threads`; errors call it `name`.

        Raises:
            ImageError: it cannot be used, or takes too much time or memory.
            DecoderError: nothing can be said of it.
        """
        from PIL import Image

        from dyneval.files.image_forms import ReadImage

        content = file if isinstance(file, bytes) else file.encode("utf-8", "replace")
        told, pixels = self._answer({"base64": isinstance(file, str)}, content, name)
        return ReadImage(Image.frombytes("RGB", tuple(told["size"]), pixels), None, told["sha256"])

    def picture(self, name: str, root: Path, side: int) -> bytes:
        """An image file below `root` as PNG, in one of `threads`: at most `side` pixels wide and high, nothing beside.

        Raises:
            ImageError, DecoderError: as `decode`; also where `name` leads out of `root`.
        """
        return self._answer({"name": name, "root": str(root), "side": side}, b"", name)[1]

    def close(self) -> None:
        """End the threads and the processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.end()

    def _answer(self, task: dict[str, Any], content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
        """What a decoder says to a task. One that ended at it, or was dead before, is replaced, and asked once more."""
        try:
            try:
                return self._asked(task, content, name)
            except _DecoderEnded:
                return self._asked(task, content, name)
        except _DecoderEnded as error:
            if error.is_crash:
                raise ImageError(f"{name}: {error}") from None
            reason: Exception = error
        except OSError as error:
            reason = error
        logger.error("an image could not be decoded: %s", reason)
        raise DecoderError("no image can be decoded now") from reason

    def _asked(self, task: dict[str, Any], content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
        """Raises _DecoderEnded, ImageError, TimeoutError, and OSError where there can be no decoder."""
        decoder: _Decoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            decoder = self._own.decoder = _Decoder(*self._limits)
            self._all.add(decoder)
        try:
            return decoder.answer(task, content, name)
        except (EOFError, OSError) as error:
            self._own.decoder = None
            self._all.remove(decoder)
            status = decoder.end()
            if status == -signal.SIGPROF:
                raise ImageError(f"{name}: not decoded within {self._limits[1]:g} s of computing") from None
            if isinstance(error, BlockingIOError):
                raise TimeoutError(f"a decoder was silent for {_WAIT} s") from None
            raise _DecoderEnded(f"the decoder ended with status {status}", -status in _CRASHES) from None


class _Decoder:
    def __init__(self, max_pixels: int, seconds: float) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _WAIT, 0))
            # -P: modules of the folder that the server was started in, perhaps one of data, are not imported.
            command = [sys.executable, "-P", "-c", _START, str(Path(dyneval.__file__).parents[1])]
            command += [str(theirs.fileno()), str(max_pixels), str(seconds)]
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # its threads would take address space
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
            self._link = Connection(ours.detach())

    def answer(self, task: dict[str, Any], content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
        """Raises ImageError; BlockingIOError after `_WAIT` s; EOFError or OSError where the process has ended."""
        self._link.send_bytes(json.dumps(task).encode())
        self._link.send_bytes(content)
        told: dict[str, Any] = json.loads(self._link.recv_bytes())
        if "error" in told:
            raise ImageError(f"{name}: {told['error']}")
        return told, self._link.recv_bytes()

    def end(self) -> int:
        """End the process; returns its status."""
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # one that was ended by a limit is over in a moment
        self._process.kill()
        return self._process.wait()


def main(descriptor: str, max_pixels: str, seconds: str) -> None:
    """Such a process: works at the tasks from the socket `descriptor` until that is closed."""
    from PIL import Image

    from dyneval.work.processes import end_with_parent

    end_with_parent(os.getppid())
    os.nice(10)  # who sends the largest pictures must not take the processor from the scorer
    most_pixels = int(max_pixels)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY + _MEMORY_A_PIXEL * most_pixels
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    Image.init()  # all formats now, not out of the time of the first file
    link = Connection(int(descriptor))
    while True:
        try:
            task, content = json.loads(link.recv_bytes()), link.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # its signal ends a process that does not handle it
        try:
            if "root" in task:
                told, data = _picture(task, most_pixels)
            else:
                told, data = _pixels(_from_base64(content) if task["base64"] else content, most_pixels)
        except ImageError as error:
            told, data = {"error": str(error).removeprefix("image: ")}, b""
        except MemoryError:
            told, data = {"error": "decoding it takes too much memory"}, b""
        signal.setitimer(signal.ITIMER_PROF, 0)
        link.send_bytes(json.dumps(told).encode())
        if "error" not in told:
            link.send_bytes(data)


def _from_base64(text: bytes) -> bytes:
    """Bytes from base64 as people send it. Here, since 10 MB of it would hold up every thread of the server."""
    if found := _DATA_URL.match(text):
        text = text[found.end() :]
    plain = text.translate(_URL_SAFE, delete=b" \t\r\n\v\f").rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ImageError(f"image: not base64 ({error})") from None


def _pixels(content: bytes, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    from dyneval.files.image_forms import read_image

    read = read_image(content, "image", max_pixels=max_pixels)
    return {"size": read.image.size, "sha256": read.file_hash}, read.image.tobytes()


def _picture(task: dict[str, Any], max_pixels: int) -> tuple[dict[str, Any], bytes]:
    from PIL import Image

    from dyneval.files.images import decode_image, png_bytes, resolve_below

    image = decode_image(resolve_below(Path(task["root"]), task["name"]), "image", max_pixels)
    image.thumbnail((task["side"], task["side"]), Image.Resampling.LANCZOS)
    image.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return {}, png_bytes(image)
