"""A disk of its own for one run: full when asked, read-only when asked.

As root it is a small tmpfs, whose errors are those of a real disk. Elsewhere a limit on the size of files stands in for
a full disk, and permissions for a read-only one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SIZE = 256 << 20
_BALLAST = "ballast"


class Disk:
    """The disk below `folder`."""

    def __init__(self, folder: Path, is_mounted: bool) -> None:
        self.folder = folder
        self.is_mounted = is_mounted
        self.output = folder / "out"
        self.prefix: list[str] = []
        """What a command must begin with to meet the fault."""

    def leave(self, room: int, largest: int) -> None:
        """Fill it up, but for `room` bytes; without a mount no file may exceed that share of `largest`."""
        if self.is_mounted:
            ballast = self.folder / _BALLAST
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _free(self.folder) - room)
        else:
            blocks = min(room, largest * 9 // 10) // 1024
            self.prefix = ["bash", "-c", f'ulimit -f {max(blocks, 1)}; exec "$@"', "-"]

    def free(self) -> None:
        """Make room again."""
        (self.folder / _BALLAST).unlink(missing_ok=True)
        self.prefix = []

    def protect(self, read_only: bool) -> None:
        """Make it read-only, or writable again."""
        if self.is_mounted:
            mode = "ro" if read_only else "rw"
            subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True, capture_output=True)
        else:
            for path in [self.folder, *self.folder.rglob("*")]:
                path.chmod((0o555 if read_only else 0o755) if path.is_dir() else (0o444 if read_only else 0o644))

    @property
    def can_protect(self) -> bool:
        """Permissions stop everybody but root."""
        return self.is_mounted or os.geteuid() != 0


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk at `folder`, which is made; it is gone at the end, with what is on it, where it could be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)
