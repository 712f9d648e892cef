"""Code of a model as a user would write it, with faults on demand; tests copy it beside a table that names it.

Prompts steer it: "boom" raises, "black" and "flagged" return such images, "refuse" is refused for good, "die" ends the
process, "silent" gets no answer. `fits` is the largest batch that "memory" allows.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from dyneval.generation.model import BatchTooLarge, GeneratedImage, ModelBroken, ModelSpec, NoImage


@dataclass(frozen=True, kw_only=True)
class StandInSpec(ModelSpec):
    family: ClassVar[str] = "stand-in"
    fits: int = 64
    revision: str = "r1"
    calls: str = ""

    def build(self, options, run, device):
        return StandIn(self, self.arguments(options), device)


class StandIn:
    def __init__(self, spec, arguments, device):
        self.spec, self.arguments, self.device = spec, arguments, device
        self.batch_size = spec.batch_size
        self.facts = {"revision": spec.revision, "device": device}

    def generate(self, batch):
        if self.spec.calls:
            with Path(self.spec.calls).open("a") as file:
                file.write(f"{os.getpid()} {len(batch)} {' '.join(r.prompt_id for r in batch)}\n")
        if len(batch) > self.spec.fits:
            raise BatchTooLarge(f"{len(batch)} images do not fit")
        for request in batch:
            yield self.draw(request)

    def draw(self, request):
        if "boom" in request.prompt:
            raise RuntimeError("boom")
        if "dead device" in request.prompt:
            raise ModelBroken("the device is gone")
        if "die" in request.prompt.split():
            os._exit(9)
        if "slow" in request.prompt:
            time.sleep(0.05)
        if "refuse" in request.prompt:
            return NoImage(request=request, reason="refused by policy", permanent=True)
        size = self.arguments["size"]
        red, green, *_ = hashlib.sha256(f"{request.seed}".encode()).digest()
        colour = "black" if "black" in request.prompt else (red, green, 200)
        return GeneratedImage(
            request=request,
            image=Image.new("RGB", (size, size), colour),
            prompt_sent=request.prompt,
            seconds=0.01,
            safety="flagged" in request.prompt,
            sidecars={".truth.json": request.prompt.encode()},
        )

    def close(self):
        pass
