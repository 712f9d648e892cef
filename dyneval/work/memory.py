"""Find out how much memory a device has free, within the limit of the container that the process runs in.

Before training starts, its memory is estimated and compared with this figure. In a container the machine's free memory
says nothing: the kernel kills the process at the container's limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def free_memory(device: torch.device) -> int:
    """Free bytes of a GPU, or of this machine within the limit of its container.

    Raises:
        OSError: of a device other than a GPU, on a system without /proc.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        parts = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    # The page cache of files that were read counts as used, although the kernel frees it when memory is needed.
    files = int(parts.get("inactive_file", 0)) + int(parts.get("active_file", 0))
    return min(free, max(0, limit - used + files))
