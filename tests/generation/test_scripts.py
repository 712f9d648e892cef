"""Every model's own script draws, from tiny weights in the form in which the real ones are published.

Each script runs as a user runs it: batches, then one image a call, then once more over what is there. What ran is a row
of image_gen_scripts/TRIED.md; a row that is no longer so fails, and `WRITE_TRIED=1` writes it anew. On the CPU weights
are float32; `NATIVE_DTYPE=1` (before a release, a minute) loads them in the model's own dtype.
"""

import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dyneval.generation import catalogue
from dyneval.generation.families import weights
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.families.transformers import TransformersSpec
from dyneval.generation.model import BuildOptions, RunOptions
from tests import processes

from . import tiny_pipelines as tiny
from . import tiny_token_models
from .conftest import read
from .tried import check_row

SCRIPTS = Path(__file__).parents[2] / "image_gen_scripts"
SPECS = catalogue.load()
NATIVE = os.environ.get("NATIVE_DTYPE") == "1"
PROMPTS = ["A cat on a mat ", 'two red dogs and the word "stop", seen from far above', "a photo of one bird"]
SQUARE = {"num_inference_steps": 2, "height": 32, "width": 32}
SMALL = {**SQUARE, "use_resolution_binning": False}
OWN_SMALL = {
    "emu3": {"image_area": (tiny_token_models.SIDE * 8) ** 2, "top_k": 8},
    "janus-pro": {},
    "ideogram-4": {**SQUARE, "max_sequence_length": 96, "guidance_schedule": [7.0, 3.0]},
    "if-xl": {f"stage_{number}.num_inference_steps": 2 for number in (1, 2, 3)},
}


NEED_TORCHVISION = [slug for slug, spec in SPECS.items() if "torchvision" in spec.packages]
"""Their classes, or those of their processors, cannot even be made without; they draw in an environment that has it."""
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


def cases():
    """Every local model that the libraries here have, and every variant whose published repo has another scheduler."""
    for slug, spec in SPECS.items():
        if "pip install -U diffusers" in spec.obstacles(RunOptions()):
            continue
        if slug in NEED_TORCHVISION and not HAS_TORCHVISION:
            continue
        if isinstance(spec, TransformersSpec):
            yield slug, None
        elif isinstance(spec, DiffusersSpec):
            others = [name.split("/")[1] for name in tiny.SCHEDULERS if name.startswith(f"{slug}/")]
            yield from ((slug, variant) for variant in others or [None])


@pytest.fixture(scope="session")
def repos(tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("repos")


@pytest.fixture(autouse=True)
def dtype(monkeypatch):
    if NATIVE:
        monkeypatch.setattr(weights, "on_cpu", lambda dtype: dtype)


def where(spec, variant, repos):
    """Flags that name tiny weights in the place of the published ones."""
    if spec.slug in ("janus-pro", "emu3"):
        return ["--repo", str(getattr(tiny_token_models, f"save_{spec.slug.split('-')[0]}")(repos))]
    name = spec.pipeline_name(BuildOptions())
    scheduler = f"{spec.slug}/{variant}" if variant else spec.slug if spec.slug in tiny.SCHEDULERS else None
    flags = ["--repo", str(tiny.save(name, repos, spec.load.get("variant"), scheduler))]
    parts = tiny.make_parts(spec, repos)
    return [*flags, *(word for part, repo in parts.items() for word in ("--part", f"{part}={repo}"))]


def small(spec):
    settings = OWN_SMALL.get(spec.slug)
    if settings is None:
        known = {*spec.arguments(BuildOptions()), *spec.reads(BuildOptions())}
        settings = {name: value for name, value in SMALL.items() if name in known}
    return [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]


def stand_ins(spec, folder):
    """Flags for packages that stand-ins do without, such as boltons for what writes FIBO's JSON."""
    if not spec.missing_packages():
        return []
    (folder / "own.toml").write_text(f"[{spec.slug}]\npackages = []\n")
    return ["--models", folder / "own.toml"]


def run(slug, *flags, monkeypatch):
    """Run a script as `python image_gen_scripts/<slug>.py` would, without a new process; returns its exit status."""
    path = SCRIPTS / f"{slug.replace('-', '_')}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, flags)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    return ended.value.code


def pixels(folder):
    rows = sorted(read(folder / "metadata.jsonl"), key=lambda row: row["pair_id"])
    return rows, [np.asarray(Image.open(folder / row["file_name"])).astype(int) for row in rows]


@pytest.mark.parametrize(("slug", "variant"), list(cases()), ids=lambda value: value or "-")
def test_a_script_draws_each_image_alike_in_any_batch_and_records_what_it_did(
    slug, variant, repos, tmp_path, monkeypatch
):
    spec = SPECS[slug]
    (tmp_path / f"tier-{spec.tier}-prompts.txt").write_text("\n".join(PROMPTS))
    flags = ["--prompts", tmp_path / f"tier-{spec.tier}-prompts.txt", "--allocation", "all", "--devices", "cpu"]
    flags += [*where(spec, variant, repos), *small(spec), *(["--variant", variant] if variant else [])]
    flags += stand_ins(spec, tmp_path)
    assert run(slug, *flags, "--output", tmp_path / "two", "--batch-size", 2, monkeypatch=monkeypatch) == 0
    assert run(slug, *flags, "--output", tmp_path / "one", "--batch-size", 1, monkeypatch=monkeypatch) == 0
    (rows, two), (_, one) = pixels(tmp_path / "two"), pixels(tmp_path / "one")
    assert len(rows) == 3
    assert max(np.abs(a - b).max() for a, b in zip(one, two, strict=True)) <= (16 if NATIVE else 2)
    assert all(image.std() > 1 for image in two)
    assert run(slug, *flags, "--output", tmp_path / "two", "--batch-size", 2, monkeypatch=monkeypatch) == 0
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["made"] == 0
    for row in rows:
        settings = row["settings"]
        assert settings["revision"] == "local"
        assert set(settings["weights"].values()) == {"local"}
        assert settings["dtype"] == (spec.weight_dtype(BuildOptions()) if NATIVE else "float32")
        assert (row["seed"], settings["prompt_sent"] != "") == (row["seed"], True)
    if not NATIVE:
        name = f"{slug} ({variant})" if variant else slug
        how = "2 and 1 a call, equal" if spec.batches else "1 a call"
        check_row(name, spec, what_ran(spec, where(spec, variant, repos)[1]), f"{how}; resumed")


@pytest.mark.skipif(HAS_TORCHVISION, reason="they draw here")
def test_the_models_that_need_torchvision_draw_where_it_is(environment):
    command = [environment("torchvision"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [
        f"{__file__}::{test_a_script_draws_each_image_alike_in_any_batch_and_records_what_it_did.__name__}[{slug}--]"
        for slug in NEED_TORCHVISION
    ]
    done = processes.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(NEED_TORCHVISION)} passed" in done.stdout


def what_ran(spec, repo):
    """Classes of the pipeline and its parts, as the repo names them."""
    index = Path(repo, "model_index.json")
    if not index.exists():
        return f"{spec.model_class}, {spec.processor_class}"
    parts = {name: value[1] for name, value in json.loads(index.read_text()).items() if isinstance(value, list)}
    named = ("scheduler", "text_processor", "processor", "safety_checker", "watermarker")
    told = [parts[name] for name in named if parts.get(name)]
    tokenizer = parts.get("tokenizer") or ""
    told += [tokenizer] if tokenizer.endswith("Processor") else []
    return ", ".join([spec.pipeline_name(BuildOptions()), *told])
