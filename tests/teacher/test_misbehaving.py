"""A run against a server that misbehaves by a seeded schedule: nothing is lost, nothing invented, all is told.

python -m tests.teacher.test_misbehaving --pairs 2000 --seed 0      # the same at length
"""

import argparse
import json
import re
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from dyneval.cli.annotate import exit_status
from dyneval.files.jsonl import read_jsonl
from dyneval.llm.registry import make_engine
from dyneval.records import WORKFLOWS
from dyneval.teacher.runner import AnnotateConfig, annotate

from ..conftest import running_chat_server
from .conftest import FILES, content, write_gendb

WORDS = {
    "refused": r"mark-\d+|no answer \(Server disconnected\)",
    "reply": r"refuses to answer: I do not judge|_filter|reason length|reasoning_content|lone surrogate|no JSON",
    "dependency": r"there are no (t2ia|iqa)_questions",
}
"""What the reasons of each kind of reject say."""


def run(metadata: Path, output: Path, server, **options) -> dict:
    config = AnnotateConfig(metadata=metadata, output=output, workflows=WORKFLOWS, concurrency=48)
    settings = {"base_urls": [server.url], "concurrency": 32, "max_retries": 2, "patience": 0, **options}
    return annotate(config, partial(make_engine, "openai", "m", **settings))


def check(folder: Path, pairs: int, seed: int) -> dict:
    """Annotate pairs with and without misbehaviour and compare. Returns counts."""
    metadata = write_gendb(folder, pairs // 2)
    with running_chat_server() as server:
        run(metadata, folder / "clean", server)
    with running_chat_server("--schedule", str(seed)) as server:
        summary = run(metadata, folder / "out", server)
        misbehaved = server.stats()["misbehaved"]
    clean, found = content(folder / "clean"), content(folder / "out")
    kinds = Counter()
    for name in WORKFLOWS:
        path = folder / "out" / f"{name}.rejects.jsonl"
        rejects = list(read_jsonl(path)) if path.exists() else []
        keys = [row[FILES[name]] for row in rejects]
        assert len(set(keys)) == len(keys), f"{name}: rejected twice"
        assert not set(keys) & found[name].keys(), f"{name}: both annotated and rejected"
        assert set(keys) | found[name].keys() == clean[name].keys(), f"{name}: lost or invented"
        for key, row in found[name].items():
            assert row == clean[name][key], f"{name}, {key}: another annotation than without misbehaviour"
        for row in rejects:
            assert re.search(WORDS[row["kind"]], row["reason"]), f"{name}: {row['kind']}: {row['reason']}"
            kinds[row["kind"]] += 1
    moved, note = summary["notes"]
    assert "/moved/v1 (HTTP 301)" in moved
    assert "max_completion_tokens in place of max_tokens, no seed" in note and "Extra inputs are not permitted" in note
    assert exit_status(summary) == 1, "replies that could not be used are lost answers"
    rows = {name: len(rows) for name, rows in found.items()}
    return {"pairs": pairs, "seed": seed, "annotated": rows, "rejected": dict(kinds), "misbehaved": misbehaved,
            "seconds": summary["seconds"], "requests": summary["requests"]}  # fmt: skip


def test_nothing_is_lost_or_invented_and_every_reject_has_the_words_of_the_server(tmp_path):
    done = check(tmp_path, pairs=300, seed=1)
    assert len(done["misbehaved"]) > 25, "the schedule holds nearly all that it can"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(check(Path(scratch), arguments.pairs, arguments.seed), indent=2))  # noqa: T201
