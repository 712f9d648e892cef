"""GenDB folders with real images for the teacher tests."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dyneval.files.jsonl import read_jsonl
from dyneval.llm.registry import make_engine
from dyneval.records import WORKFLOWS, pair_id, prompt_id
from dyneval.teacher.runner import AnnotateConfig, annotate

ROOT = Path(__file__).parents[2]
ANNOTATE = [sys.executable, str(ROOT / "Distill Annotations" / "annotate.py")]
FILES = dict.fromkeys(WORKFLOWS, "pair_id") | {"t2ia_questions": "prompt_id"}


def content(folder):
    """What the annotation files say, without what differs from run to run."""
    found = {}
    for name, key in FILES.items():
        rows = list(read_jsonl(folder / f"{name}.jsonl"))
        found[name] = {
            row[key]: {k: v for k, v in row.items() if k not in ("provenance", "raw_response")} for row in rows
        }
        assert len(found[name]) == len(rows), f"{name}: a record stands there twice"
    return found


def write_gendb(folder, prompts=3, models=("one", "two"), texts=None):
    """A folder of `prompts` x `models` pairs; returns its metadata.jsonl."""
    root = folder / "gendb"
    root.mkdir(exist_ok=True)
    rows = []
    for number, prompt in enumerate(texts or [f"a red cat and {i} blue cups on a table" for i in range(prompts)]):
        for model in models:
            name = pair_id(prompt_id(prompt), model)
            noise = np.random.default_rng([number, len(model), ord(model[0])]).integers(0, 255, (32, 48, 3))
            Image.fromarray(noise.astype(np.uint8)).save(root / f"{name}.png")
            rows.append(
                {
                    "file_name": f"{name}.png",
                    "pair_id": name,
                    "prompt_id": prompt_id(prompt),
                    "prompt": prompt,
                    "tier": 1 + number % 3,
                    "categories": [],
                    "generation_model": model,
                    "seed": 0,
                    "width": 48,
                    "height": 32,
                    "settings": {},
                    "sha256": hashlib.sha256((root / f"{name}.png").read_bytes()).hexdigest(),
                }
            )
    path = root / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def gendb(tmp_path):
    """Make a folder of `prompts` x `models` pairs and return its metadata.jsonl."""
    return partial(write_gendb, tmp_path)


@pytest.fixture
def run():
    """Annotate the pairs of a metadata file through a chat server, in this process; returns the summary."""

    def annotate_all(
        metadata, output, server, workflows=WORKFLOWS, concurrency=8, max_retries=8, patience=0.0, **options
    ):
        config = AnnotateConfig(
            metadata=metadata, output=output, workflows=tuple(workflows), concurrency=concurrency, **options
        )
        settings = {"max_retries": max_retries, "patience": patience, "concurrency": concurrency}
        return annotate(config, partial(make_engine, "openai", "m", base_urls=[server.url], **settings))

    return annotate_all
