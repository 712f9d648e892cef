"""External models through a real worker process in an environment of its own, and the seven adapters' shape."""

import ast
import json
import shutil
import sys
import venv
from pathlib import Path

import pytest

from dyneval.files import images
from dyneval.generation import catalogue
from dyneval.generation.families import external
from dyneval.generation.model import BuildOptions, RunOptions
from dyneval.generation.runner import Config, generate

TABLE = """
[authors-model]
family = "external"
name = "Authors' model"
tier = 2
variants = { v1 = "their/weights" }
adapter = "stand_in_adapter.py"
code = "https://example.org/code"
presets.recommended.arguments = { size = 32 }
"""


@pytest.fixture(scope="module")
def envs(tmp_path_factory):
    """An environment made with venv, which sees the packages of this one, and a folder for the authors' code."""
    folder = tmp_path_factory.mktemp("envs") / "authors-model"
    venv.create(folder, with_pip=False)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    (next(folder.glob("lib/python*")) / "site-packages" / "shared.pth").write_text(site)
    (folder / "code").mkdir()
    return folder.parent


def run(folder, envs, texts, **build):
    shutil.copy(Path(__file__).with_name("stand_in_adapter.py"), folder)
    (folder / "mine.toml").write_text(TABLE)
    model = catalogue.load(folder / "mine.toml")["authors-model"]
    rows = [{"prompt_id": f"P{n}", "prompt": text, "tier": 2, "categories": []} for n, text in enumerate(texts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = RunOptions(external_env=envs)
    config = Config(
        prompts=folder / "prompts.jsonl",
        output=folder / "gendb",
        devices=("cpu",),
        run=options,
        build=BuildOptions(**build),
    )
    return generate([model], [model], config)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_images_come_out_of_the_worker_with_what_it_knows(envs, tmp_path):
    summary = run(tmp_path, envs, [f"cat {n}" for n in range(20)])
    assert (summary.total("made"), summary.exit_status) == (20, 0)
    for row in rows(tmp_path / "gendb" / "metadata.jsonl"):
        assert row["settings"]["prompt_sent"] == f"draw: {row['prompt']}"
        assert row["settings"]["weights"] == {str(envs / "authors-model" / "code"): "local"}
        assert row["settings"]["versions"]["python"]
        image = images.load_image(tmp_path / "gendb" / row["file_name"])
        assert image.getpixel((0, 0))[1] == row["seed"] % 256
    colours = [path.read_bytes() for path in sorted((tmp_path / "gendb").rglob("*.png"))]
    again = tmp_path / "again"
    again.mkdir()
    run(again, envs, [f"cat {n}" for n in range(20)])
    assert [path.read_bytes() for path in sorted((again / "gendb").rglob("*.png"))] == colours


def test_a_prompt_that_kills_the_worker_costs_one_image(envs, tmp_path):
    summary = run(tmp_path, envs, ["a cat", "boom", "die now", "a dog", "a fox"])
    assert (summary.total("made"), summary.total("missing")) == (3, 2)
    reasons = {row["pair_id"]: row["reason"] for row in rows(tmp_path / "gendb" / "metadata.rejects.jsonl")}
    assert reasons["P1-authors-model"] == "RuntimeError: boom"
    assert "the worker died (exit status 7)" in reasons["P2-authors-model"]


def test_a_silent_worker_is_ended(envs, tmp_path, monkeypatch):
    monkeypatch.setattr(external, "DRAW_TIMEOUT", 0.5)
    monkeypatch.setattr(external, "LONGEST_FAREWELL", 0.2)
    summary = run(tmp_path, envs, ["a cat", "hang"])
    assert (summary.total("made"), summary.total("missing")) == (1, 1)
    (row,) = rows(tmp_path / "gendb" / "metadata.rejects.jsonl")
    assert "said nothing" in row["reason"]


def test_what_is_missing_is_said_before_anything_is_drawn(envs, tmp_path):
    summary = run(tmp_path, tmp_path / "nothing", ["a cat"])
    assert "no bin/python in" in summary.models[0].error
    summary = run(tmp_path, None, ["a cat"])
    assert "pass --external-env PATH" in summary.models[0].error
    summary = run(tmp_path, envs, ["a cat"], repo="no/weights")
    assert "FileNotFoundError: weights are missing" in summary.models[0].error


EXTERNAL = [spec for spec in catalogue.load().values() if spec.family == "external"]


@pytest.mark.parametrize("spec", EXTERNAL, ids=lambda spec: spec.slug)
def test_every_external_model_has_an_adapter_that_uses_its_arguments(spec):
    path = external.ADAPTERS / spec.adapter
    tree = ast.parse(path.read_text())
    (adapter,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = {node.name: [arg.arg for arg in node.args.args] for node in adapter.body if hasattr(node, "args")}
    assert adapter.name == "Adapter"
    assert methods["__init__"] == ["self", "job"]
    assert methods["draw"] == ["self", "prompt", "seed"]
    used = path.read_text()
    assert all(f'job.parts["{part}"]' in used for part in spec.parts)
    assert len(EXTERNAL) == 7
