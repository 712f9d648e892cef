"""Look whether this machine can score, one line a check.

    dyneval doctor
    dyneval doctor --checkpoint output/dyneval_4b_stage2_iqa    # also loads the student and scores one image with it

`ok` is good, `note` works but slower or without an extra, `FAIL` must be mended; the exit status is 1 where one failed.
The last line says what this machine can do, and what to do next.
A check that raises has failed with what it raised, and the others are made all the same: a broken installation is what
the verb is for.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval.cli.running import run
from dyneval.cli.student import StudentOptions
from dyneval.extras import EXTRAS, install
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.scorer import Scorer

# Bytes that the published 4B student takes in the cache of the Hub, rounded up.
NEEDED_DISK = 12 * 10**9
# Packages whose versions decide what a student in this process writes.
_LOCAL = ("torch", "transformers", "llguidance")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: a line of the report."""

    name: str
    verdict: Literal["ok", "note", "FAIL"]
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorOptions:
    """Which student is tried."""

    student: Annotated[StudentOptions, arg("student; without --checkpoint none is loaded")] = field(
        default_factory=StudentOptions
    )


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(DoctorOptions, argv)
    return run(parser, _report, options.student)


def _report(options: StudentOptions) -> int:
    found = []
    for check in _checks(options):
        sys.stdout.write(f"{check.verdict:5} {check.name:12} {check.detail}\n")
        sys.stdout.flush()
        found.append(check)
    sys.stdout.write(f"{_verdict(found, options.checkpoint)}\n")
    return int(any(check.verdict == "FAIL" for check in found))


def _verdict(found: Sequence[Finding], checkpoint: str | None) -> str:
    """What this machine can do, and what to do next, in one line."""
    if failed := [check.name for check in found if check.verdict == "FAIL"]:
        return f"this machine cannot score yet; mend {', '.join(failed)}, and run dyneval doctor again"
    slowly = any(check.name == "device" and check.verdict == "note" for check in found)
    where = "this machine can score, on its CPU" if slowly else "this machine can score"
    if checkpoint:
        return f"{where}; next: dyneval score IMAGE --prompt TEXT --checkpoint {shlex.quote(checkpoint)}"
    return f"{where}; next: dyneval score IMAGE --prompt TEXT; --checkpoint demo is a small judge to try it with"


def _checks(options: StudentOptions) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    is_local = all(find_spec(name) for name in EXTRAS["local"])
    for name in _LOCAL if is_local else ():
        yield Finding(name, "ok", version(name))
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            yield Finding(f"[{extra}]", "note", f"without {', '.join(missing)}; {install(extra)} adds them")
        else:
            yield Finding(f"[{extra}]", "ok", "installed")
    if not is_local:
        yield Finding("student", "FAIL", f"none runs in this process: {install('local')}; or score --server URL")
        return
    yield _guarded("device", _device)
    yield _guarded("attention", _attention)
    yield _guarded("disk", _disk)
    if options.checkpoint:
        # Before the student is loaded: where memory is short, the system may kill the process without a word.
        yield _guarded("memory", lambda: _memory(options))
        yield from _student(options)
    else:
        yield Finding("checkpoint", "note", "not looked at; name one with --checkpoint")


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """A check that breaks has failed; the next one is still made."""
    try:
        return check()
    except Exception as error:  # whatever a broken installation raises is the finding
        return Finding(name, "FAIL", (str(error).strip() or type(error).__name__).splitlines()[0])


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("device", "note", f"no GPU seen by torch {torch.__version__}; scoring on the CPU works, slowly")
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
    name = torch.cuda.get_device_name()
    return Finding("device", "ok", f"{name}, {free:.0f} of {total:.0f} GiB free, CUDA {torch.version.cuda}")


def _attention() -> Finding:
    import torch
    from transformers.utils.import_utils import is_flash_attn_2_available

    if is_flash_attn_2_available():
        return Finding("attention", "ok", "flash-attention 2 for images, SDPA for text")
    detail = "SDPA for images and text; on a GPU flash-attention 2 reads images faster"
    return Finding("attention", "note" if torch.cuda.is_available() else "ok", detail)


def _disk() -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    # The cache may not be made yet: the disk is that of the folder above which is there.
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    verdict: Literal["ok", "note"] = "ok" if free > NEEDED_DISK else "note"
    return Finding(
        "disk", verdict, f"{free / 1e9:.0f} GB free for {folder} (the 4B student takes {NEEDED_DISK / 1e9:.0f})"
    )


def _memory(options: StudentOptions) -> Finding:
    """Whether the weights fit into the free memory; batches are then made as large as fits."""
    import torch

    from dyneval.checkpoints import is_adapter
    from dyneval.work.memory import free_memory

    folder = Path(options.checkpoint or "", options.subfolder or "")
    # An adapter's weights are a small part of what is loaded, and an engine in a server has its memory elsewhere.
    files = list(folder.glob("*.safetensors"))
    if not files or is_adapter(folder) or options.engine.name != "transformers":
        return Finding("memory", "note", "not estimated: the weights are not on this machine, or not for this process")
    device = torch.device(options.engine.options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = options.dtype or ("float32" if device.type == "cpu" else "bfloat16")
    needed = sum(_loaded_size(path, 4 if dtype == "float32" else 2) for path in files) / 2**30
    free = free_memory(device) / 2**30
    detail = f"the weights take {needed:.1f} GiB in {dtype}, {free:.1f} GiB are free"
    if needed < free:
        return Finding("memory", "ok", detail)
    return Finding("memory", "FAIL", detail + ("; try --dtype bfloat16" if dtype == "float32" else ""))


def _loaded_size(path: Path, width: int) -> int:
    """Bytes of the weights in a file once they are loaded, `width` bytes each; quantised ones stay as they are."""
    from safetensors import safe_open

    with safe_open(path, "pt") as weights:
        slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118 (no mapping)
        widths = {"F32": width, "F16": width, "BF16": width}
        return sum(math.prod(one.get_shape()) * widths.get(one.get_dtype(), 1) for one in slices)


def _student(options: StudentOptions) -> Iterator[Finding]:
    """Load the student and score one image with it."""
    from PIL import Image

    loaded: list[Scorer] = []
    started = time.perf_counter()

    def load() -> Finding:
        loaded.append(options.loader()())
        return Finding("checkpoint", "ok", f"{loaded[0].name}: loaded in {time.perf_counter() - started:.1f} s")

    def score() -> Finding:
        began = time.perf_counter()
        (record,) = loaded[0].score([Image.new("RGB", (256, 256), (200, 60, 40))], ["a red square"])
        questions = len(record.t2ia_questions or ()) + len(record.iqa_questions or ())
        return Finding("scoring", "ok", f"one image in {time.perf_counter() - began:.1f} s, {questions} questions")

    yield _guarded("checkpoint", load)
    for scorer in loaded:
        # "either": the probe could not tell the two reply forms apart.
        verdict: Literal["ok", "note"] = "note" if scorer.settings.reply_form == "either" else "ok"
        yield Finding("conventions", verdict, scorer.settled_by)
        if scorer.is_demo:
            yield Finding(
                "demo", "note", "a demo judge: it knows the demo's drawn scenes alone, and nothing of photographs"
            )
        yield _guarded("scoring", score)
