"""A folder with one stand-in model script, and prompts for it."""

import json
from pathlib import Path

import pytest

from dyneval.generation.catalogue import Entry
from dyneval.generation.runner import Config, generate

STAND_IN = Path(__file__).with_name("stand_in.py").read_text()


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

    def entry(self, slug="stand-in", tier=1, **changes):
        """A model script in the folder: the stand-in with other fields."""
        changes = {"slug": slug, "tier": tier, "calls": str(self.calls), **changes}
        script = self.folder / f"{slug.replace('-', '_')}.py"
        script.write_text(f"{STAND_IN}\nfrom dataclasses import replace\nMODEL = replace(MODEL, **{changes!r})\n")
        return Entry(slug=slug, tier=tier, family="stand-in", script=script)

    def run(self, *entries, roster=(), **config):
        entries = entries or (self.entry(),)
        config = {"prompts": self.prompts, "output": self.output, "devices": ("cpu",), **config}
        return generate(entries, roster or entries, Config(**config))

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
