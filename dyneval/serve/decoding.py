"""Image files decoded in processes of their own, with limits of time and memory: a hostile file costs its own answer.

Decoders of image formats are C libraries, and a file can make one crash, compute for minutes or ask for all memory. In
the server's own process that would be the end of every request. Here it ends one small process, which is started again.

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

# The slowest honest files, AVIF and JPEG 2000 of 16 megapixels, take one or two.
SECONDS = 5
"""Seconds of computing that a file may take."""
_WAIT = 60
"""Seconds for all of it, on a machine that is busy with other things."""
# A pixel takes 8 bytes with four channels of 16 bits, and is copied several times on the way to RGB.
_MEMORY, _MEMORY_A_PIXEL = 1 << 28, 40
"""Bytes beyond what the process has from its start, and bytes more for each pixel that an image may have."""
_COUNT = max(2, min(4, os.cpu_count() or 1))
"""Decoders at a time."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
"""Signals by which a library with a fault ends."""
_DATA_URL = re.compile(rb"\s*data:[^,]{0,200};base64,")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# The package's own folder stands last: where it is a checkout, nothing in it takes the place of a module of Python.
_START = "import sys; sys.path.append(sys.argv[1]); from dyneval.serve.decoding import main; main(*sys.argv[2:])"
"""What a decoder runs; its first argument is the package's own folder."""


class DecoderError(Exception):
    """No decoder could look at an image. This machine is at fault, not the image, so the client may come back."""


class Decoders:
    """Some decoding processes, made when they are needed, and a thread each that waits for it.

    Attributes:
        threads: run `decode` and `picture` in these: each waits, for up to a minute.
    """

    def __init__(self, max_pixels: int, seconds: float = SECONDS) -> None:
        """Set limits; no process is started yet.

        Args:
            max_pixels: larger images are refused.
            seconds: of computing that one image may take.
        """
        self._limits = max_pixels, seconds
        self._own = threading.local()
        self._all: set[_Decoder] = set()
        self.threads = ThreadPoolExecutor(_COUNT, thread_name_prefix="decoder")

    def decode(self, file: bytes | str, name: str) -> ReadImage:
        """Read an image file.

        Args:
            file: its bytes, or the same in base64.
            name: what errors call it.

        Returns:
            The image, upright and RGB, and the SHA-256 of the file's bytes.

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
        """Make a picture for a page.

        Args:
            name: of an image file, below `root`.
            root: folder.
            side: pixels that the picture is wide or high at most.

        Returns:
            A PNG with the image's colour profile and no other metadata, which may name the model that made it.

        Raises:
            ImageError: as `decode`; also where `name` leads out of `root`.
            DecoderError: as `decode`.
        """
        return self._answer({"name": name, "root": str(root), "side": side}, b"", name)[1]

    def close(self) -> None:
        """End the threads and the processes."""
        self.threads.shutdown(cancel_futures=True)
        for decoder in self._all:
            decoder.end()

    def _answer(self, task: dict[str, Any], content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
        """Have a task done by this thread's decoder. Raises as `decode`.

        One that ended at the task, or was dead before, is replaced, and asked once more.
        """
        for _ in range(2):
            decoder: _Decoder | None = getattr(self._own, "decoder", None)
            try:
                if decoder is None:
                    decoder = self._own.decoder = _Decoder(*self._limits)
                    self._all.add(decoder)
                return decoder.answer(task, content, name)
            except (EOFError, OSError) as error:
                if decoder is None:  # no process can be started
                    trouble = str(error)
                    break
                self._own.decoder = None
                self._all.remove(decoder)
                status = decoder.end()
                if status == -signal.SIGPROF:
                    raise ImageError(f"{name}: not decoded within {self._limits[1]:g} s of computing") from None
                if isinstance(error, BlockingIOError):
                    trouble = f"a decoder was silent for {_WAIT} s"
                    break
                trouble = f"the decoder ended with status {status}"
        else:
            # Two decoders in a row do not crash by chance: the file did it. Other ends, such as SIGKILL where the
            # machine is out of memory, say nothing of the file.
            if -status in _CRASHES:
                raise ImageError(f"{name}: {trouble}")
        logger.error("an image could not be decoded: %s", trouble)
        raise DecoderError("no image can be decoded now")


class _Decoder:
    """One decoding process, as the server sees it."""

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
        """Have a task done. Raises ImageError; BlockingIOError after `_WAIT` s; EOFError or OSError: it has ended."""
        self._link.send_bytes(json.dumps(task).encode())
        self._link.send_bytes(content)
        told: dict[str, Any] = json.loads(self._link.recv_bytes())
        if "error" in told:
            raise ImageError(f"{name}: {told['error']}")
        return told, self._link.recv_bytes()

    def end(self) -> int:
        """End the process; returns its status."""
        self._link.close()
        # One that a limit has ended is over in a moment. Killed before that, its status would say nothing of the limit.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.kill()
        return self._process.wait()


def main(descriptor: str, max_pixels: str, seconds: str) -> None:
    """Be a decoding process: do the tasks from a socket until that is closed.

    Args:
        descriptor: number of the socket, inherited.
        max_pixels: larger images are refused.
        seconds: of computing that one image may take.
    """
    from PIL import Image

    from dyneval.files.image_forms import read_image
    from dyneval.work.processes import end_with_parent

    end_with_parent(os.getppid())
    os.nice(10)  # whoever sends the largest pictures must not take the processor from the scorer
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
        # Its signal ends the process, since nobody handles it. A limit in Python would wait for the C library.
        signal.setitimer(signal.ITIMER_PROF, float(seconds))
        try:
            if "root" in task:
                told, data = _picture(task, most_pixels)
            else:
                file = _from_base64(content) if task["base64"] else content
                read = read_image(file, "image", max_pixels=most_pixels)
                told, data = {"size": read.image.size, "sha256": read.file_hash}, read.image.tobytes()
                # Kept, they would take memory from the next image, which the limit does not count with.
                del file, read
        except ImageError as error:
            told, data = {"error": str(error).removeprefix("image: ")}, b""
        except MemoryError:
            told, data = {"error": "decoding it takes too much memory"}, b""
        signal.setitimer(signal.ITIMER_PROF, 0)
        link.send_bytes(json.dumps(told).encode())
        if "error" not in told:
            link.send_bytes(data)


def _from_base64(text: bytes) -> bytes:
    """Decode base64 as people send it: as a data URL, in lines, URL-safe, without padding. Raises ImageError.

    It is done here, since 10 MB of it in the server would hold up all its threads.
    """
    if found := _DATA_URL.match(text):
        text = text[found.end() :]
    plain = text.translate(_URL_SAFE, delete=b" \t\r\n\v\f").rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ImageError(f"image: not base64 ({error})") from None


def _picture(task: dict[str, Any], max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """Make a picture for a page, see `Decoders.picture`."""
    from PIL import Image

    from dyneval.files.images import decode_image, png_bytes, resolve_below

    image = decode_image(resolve_below(Path(task["root"]), task["name"]), "image", max_pixels)
    image.thumbnail((task["side"], task["side"]), Image.Resampling.LANCZOS)
    image.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return {}, png_bytes(image)
