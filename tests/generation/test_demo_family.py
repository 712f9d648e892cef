"""The embedded models run through the same runner as the real ones."""

import json
import sys
from pathlib import Path

import pytest

from dyneval.demo.prompts import demo_prompts
from dyneval.demo.truth import Truth, truth_path
from dyneval.generation import catalogue
from dyneval.generation.runner import Config, generate
from dyneval.records import PairRecord, prompt_id
from tests import processes

GENERATE = Path(__file__).parents[2] / "image_gen_scripts" / "generate.py"


@pytest.fixture
def prompts(tmp_path):
    texts = list(dict.fromkeys(text for text in demo_prompts(60, seed=3) if len(text) >= 30))[:48]
    rows = [
        {"prompt_id": prompt_id(text), "prompt": text, "tier": 1 + number % 3, "categories": []}
        for number, text in enumerate(texts)
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(prompts, output, **config):
    models = catalogue.choose(catalogue.load(), family="demo")
    return generate(models, models, Config(prompts=prompts, output=output, **config))


def test_each_tier_goes_to_its_model_with_the_truth_beside_it(prompts, tmp_path):
    summary = run(prompts, tmp_path / "gendb", limit=4)
    assert (summary.total("made"), summary.exit_status) == (12, 0)
    tiers = {spec.slug: spec.tier for spec in catalogue.load().values()}
    for line in (tmp_path / "gendb" / "metadata.jsonl").read_text().splitlines():
        record = PairRecord.from_dict(json.loads(line))
        assert tiers[record.generation_model] == record.tier
        truth = Truth.load(truth_path(tmp_path / "gendb" / record.file_name))
        assert 1 <= truth.truth_t2ia <= 5


def test_any_number_of_workers_draws_the_same_bytes(prompts, tmp_path):
    run(prompts, tmp_path / "one", devices=("cpu",))
    run(prompts, tmp_path / "two", devices=("cpu", "cpu"))
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("one", "two")
    )
    assert len(one) == 48
    assert one == two


def test_the_door_runs_and_reports_by_exit_status(prompts, tmp_path):
    command = [sys.executable, GENERATE, "--all", "--family", "demo", "--output", tmp_path / "gendb", "--limit", "1"]
    done = processes.run([*command, "--prompts", prompts], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "demo-doodler" in done.stderr
    done = processes.run([*command, "--prompts", tmp_path / "none.parquet"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr
