"""Annotated GenDB folders for the builder's tests."""

import json

import pytest

from dyneval.records import pair_id, prompt_id

PROVENANCE = {"model": "m", "engine": "e", "prompt_version": "v", "attempts": 1, "created": "2026-01-01T00:00:00+00:00"}


def rows_of(prompt, model, tier, t2ia, iqa):
    """Metadata row and annotation rows of a pair whose answers have these scores."""
    pid = prompt_id(prompt)
    name = pair_id(pid, model)
    asked = [{"question": f"Is part {i} there?", "answer": "yes", "kind": "alignment"} for i in range(len(t2ia))]
    quality = [{"question": f"Is part {i} whole?", "answer": "no"} for i in range(len(iqa))]
    scored = [
        {"question": q["question"], "target_answer": "yes", "reasoning": "Seen.", "score": s}
        for q, s in zip(asked, t2ia, strict=True)
    ]
    judged = [
        {
            "question": q["question"],
            "target_answer": "no",
            "answer": "no",
            "correct": True,
            "reasoning": "Seen.",
            "score": s,
        }
        for q, s in zip(quality, iqa, strict=True)
    ]
    graph = {
        "nodes": [{"id": "n", "label": "cat", "attributes": ["red"]}],
        "edges": [{"source": "n", "target": "n", "relationship": "on"}],
    }
    common = {"pair_id": name, "prompt": prompt, "provenance": PROVENANCE}
    return {
        "metadata": {
            "file_name": f"{name}.png",
            "pair_id": name,
            "prompt_id": pid,
            "prompt": prompt,
            "tier": tier,
            "categories": [],
            "generation_model": model,
            "width": 64,
            "height": 64,
            "settings": {},
            "sha256": "0" * 64,
        },
        "t2ia_questions": {"prompt_id": pid, "prompt": prompt, "questions": asked, "provenance": PROVENANCE},
        "t2ia_answers": {**common, "answers": scored},
        "iqa_questions": {**common, "scene_graph": graph, "questions": quality},
        "iqa_answers": {**common, "answers": judged, "score": sum(iqa) / len(iqa)},
    }


@pytest.fixture(scope="session")
def teacher_rows():
    """Schema name -> a row of one pair, with all that it may hold."""
    usage = {"prompt_tokens": 3, "completion_tokens": 0}
    rows = rows_of("a cat", "m", 1, (5, 1), (2, 4))
    del rows["metadata"]
    return {name: {**row, "provenance": {**PROVENANCE, "usage": usage}} for name, row in rows.items()}


@pytest.fixture
def annotated(tmp_path):
    """Write pairs, given as (prompt, model, tier, t2ia scores, iqa scores), and return metadata and folder."""

    def make(*pairs, change=None):
        files = {}
        for pair in pairs:
            for name, row in rows_of(*pair).items():
                files.setdefault(name, {})[row.get("pair_id") or row["prompt_id"]] = row
        if change:
            change(files)
        for name, rows in files.items():
            text = "".join(json.dumps(row) + "\n" for row in rows.values())
            (tmp_path / f"{name}.jsonl").write_text(text)
        for row in files["metadata"].values():
            (tmp_path / row["file_name"]).touch()
        return tmp_path / "metadata.jsonl", tmp_path

    return make
