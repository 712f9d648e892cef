"""An adapter as dyneval/generation/adapters/ has them, for a model that needs nothing but Pillow."""

import json
import os
import random
import time

import diffusers
import transformers
from PIL import Image


class Adapter:
    def __init__(self, job):
        print("authors' code prints to stdout while it loads")  # noqa: T201
        if job.repo == "no/weights":
            raise FileNotFoundError("weights are missing")
        job.weights(str(job.code))
        if job.repo != "their/weights":
            job.weights(job.repo, only=["*.json", "*.safetensors"], without=["all_in_one.safetensors"])
        secrets = [name for name, value in os.environ.items() if "a-secret" in value]
        libraries = [transformers.__file__, diffusers.__file__]
        seen = {"libraries": libraries, "secrets": secrets, "names": list(os.environ)}
        (job.code / "seen.json").write_text(json.dumps(seen))
        self.size = job.arguments["size"]

    def wording(self, prompt):
        return f"draw: {prompt}"

    def draw(self, prompt, seed):
        print("and while it draws")  # noqa: T201
        if "boom" in prompt:
            raise RuntimeError("boom")
        if "die" in prompt.split():
            os._exit(7)
        if "hang" in prompt:
            time.sleep(60)
        return Image.new("RGB", (self.size, self.size), (random.randrange(256), seed % 256, 200))
