"""A folder with tables of stand-in models, and prompts for them."""

import json
from pathlib import Path

import pytest

from dyneval.generation import catalogue
from dyneval.generation.runner import Config, generate

STAND_IN = Path(__file__).with_name("stand_in.py").read_text()
TABLE = """\
class = "stand_in:StandInSpec"
name = "Stand-in"
variants = { only = "nowhere/stand-in" }
[SLUG.presets.recommended]
arguments = { size = 32 }
[SLUG.presets.paper]
arguments = { size = 64 }
"""


class Studio:
    """Runs stand-in models the way a door does, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "gendb"
        self.prompts = folder / "prompts.jsonl"
        self.calls = folder / "calls.txt"

    def write_prompts(self, texts, tier=1, categories=()):
        rows = [
            {"prompt_id": f"P{number:04d}", "prompt": text, "tier": tier, "categories": list(categories)}
            for number, text in enumerate(texts)
        ]
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def model(self, slug="stand-in", tier=1, **changes):
        """A table of a model as users write one, with code beside it: the stand-in with other values."""
        values = {"tier": tier, "calls": str(self.calls), "batch_size": 4, **changes}
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        (self.folder / "stand_in.py").write_text(STAND_IN)
        table = self.folder / f"{slug}.toml"
        table.write_text("\n".join([f"[{slug}]", *lines, TABLE.replace("SLUG", slug)]))
        return catalogue.load(table)[slug]

    def run(self, *models, roster=(), **config):
        models = models or (self.model(),)
        config = {"prompts": self.prompts, "output": self.output, "devices": ("cpu",), **config}
        return generate(models, roster or models, Config(**config))

    def records(self):
        path = self.output / "metadata.jsonl"
        return read(path) if path.exists() else []

    def rejects(self):
        path = self.output / "metadata.rejects.jsonl"
        return {row["pair_id"]: row["reason"] for row in read(path)} if path.exists() else {}

    def batches(self):
        """Size of each call of the model so far."""
        return [int(line.split()[1]) for line in self.calls.read_text().splitlines()]


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def studio(tmp_path):
    return Studio(tmp_path)
