"""The planner: arithmetic that scales as it must, and measured figures in the place of assumed ones."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dyneval.cli import main
from dyneval.generation.runner import ModelSummary
from dyneval.records import RunSummary
from dyneval.work.executors import Ray
from qwenvl.train import memory


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*flags: str) -> dict[str, Any]:
        assert main(["plan", "--json", *flags]) == 0
        found = json.loads(capsys.readouterr().out)
        found["by_name"] = {figure["name"]: figure for figure in found["assumptions"]}
        return found

    return run


def write(path: Path, value: dict[str, Any]) -> str:
    path.write_text(json.dumps(value), "utf-8")
    return str(path)


def annotated(**changes: Any) -> dict[str, Any]:
    run = {"pairs_annotated": 100, "prompt_tokens": 400_000, "completion_tokens": 200_000, "gpu_hours": 0.5}
    return {**run, "workflows": dict.fromkeys(("a", "b", "c", "d")), **changes}


def test_the_work_grows_with_the_pairs_and_the_wait_shrinks_with_the_gpus(plan: Any) -> None:
    one, twice, wide = plan(), plan("--pairs", "500000"), plan("--gpus", "16xH100")
    assert [step["name"][0] for step in one["steps"]] == ["2", "3", "4", "4", "5"]
    for small, large, fast in zip(one["steps"][:-1], twice["steps"], wide["steps"], strict=False):
        assert math.isclose(large["gpu_hours"], 2 * small["gpu_hours"])
        assert math.isclose(fast["gpu_hours"], small["gpu_hours"])
        assert math.isclose(fast["wall_hours"], small["wall_hours"] / 2)
    assert one["steps"][-1] == twice["steps"][-1]  # scoring does not depend on how much was trained on


def test_every_figure_says_where_it_comes_from_and_none_claims_to_be_measured(plan: Any) -> None:
    for figure in plan()["assumptions"]:
        assert figure["source"] and figure["unit"], figure
        assert figure["kind"] in ("published", "counted", "derived", "assumed", "computed")


def scored(device: str) -> dict[str, Any]:
    run = RunSummary(made=50, seconds=25.0, devices=(device,))
    return {"run": msgspec.to_builtins(run), "scored": 50}


def test_what_runs_have_measured_replaces_what_was_assumed(plan: Any, tmp_path: Path) -> None:
    fast = ModelSummary(slug="a", made=100, seconds=50, devices=["cuda:0", "cuda:1"])
    hosted = ModelSummary(slug="b", made=100, seconds=500, devices=["cpu"])
    images = write(tmp_path / "summary.json", {"made": 200, "models": [asdict(fast), asdict(hosted)]})
    teacher = write(tmp_path / "annotate.summary.json", annotated())
    rates = [{"tokens_per_second": rate} for rate in (100.0, 800.0, 800.0)] + [{"train_runtime": 5}]
    training = write(tmp_path / "training_log.json", {"gpus": 4, "log_history": rates})
    scores = write(tmp_path / "scores.summary.json", scored("cuda:0"))
    summaries = (images, teacher, training, scores)
    found = plan("--pairs", "1000", *(flag for path in summaries for flag in ("--measured", path)))
    measured = {name: figure["value"] for name, figure in found["by_name"].items() if figure["kind"] == "measured"}
    assert measured == {
        "image_gpu_seconds": 1.0,
        "teacher_tokens_in": 4000,
        "teacher_tokens_out": 2000,
        "teacher_tokens_per_gpu_second": 600_000 / 1800,
        "train_tokens_per_gpu_second": 200,
        "score_gpu_seconds": 0.5,
    }
    assert math.isclose(found["steps"][0]["gpu_hours"], 2000 / 3600)
    assert math.isclose(found["steps"][1]["gpu_hours"], 5.0)
    assert found["by_name"]["score_gpu_seconds"]["source"] == scores
    assert "image_tflop" not in found["by_name"]  # what no longer matters is not shown


@pytest.mark.parametrize(("actors", "gpus", "seconds"), [(1, 1, 0.5), (4, 1, 2.0), (2, 4, 4.0), (4, 0.5, 1.0)])
def test_the_gpus_of_ray_actors_are_counted(
    plan: Any, tmp_path: Path, actors: int, gpus: float, seconds: float
) -> None:
    run = RunSummary(made=50, seconds=25.0, devices=tuple(Ray(actors=actors, gpus=gpus).devices))
    path = write(tmp_path / "scores.summary.json", {"run": msgspec.to_builtins(run), "scored": 50})
    assert plan("--measured", path)["by_name"]["score_gpu_seconds"]["value"] == seconds


def test_a_run_that_does_not_know_its_gpus_tells_tokens_only(plan: Any, tmp_path: Path) -> None:
    found = plan("--measured", write(tmp_path / "annotate.summary.json", annotated(gpu_hours=0)))["by_name"]
    assert found["teacher_tokens_in"]["kind"] == "measured"
    assert found["teacher_tokens_per_gpu_second"]["kind"] == "derived"


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        (scored("cpu"), "not on a GPU"),
        (annotated(completion_tokens=0, prompt_tokens=0), "counts no tokens"),
        (annotated(workflows={"iqa_answers": {}}), "part of the four"),
        ({"made": 3, "models": [{"made": 3}]}, "not a whole summary (KeyError: 'seconds')"),
        ({"prompts": 3}, "no summary of Step 2 or 3"),
    ],
)
def test_a_summary_that_tells_nothing_is_refused(
    summary: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "s.json", summary)
    assert main(["plan", "--measured", path]) == 1
    error = capsys.readouterr().err
    assert reason in error and path in error


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--gpus", "8xL40S"], "no published throughput of this teacher"),
        (["--gpus", "8 H100"], "COUNTxTYPE"),
        (["--teacher", "GPT"], "known: Qwen3-VL-235B-FP8"),
        (["--assume", "epoch=1"], "'epoch' is unknown"),
        (["--assume", "train_utilisation=0"], "a throughput is 0"),
    ],
)
def test_what_cannot_be_planned_says_what_to_do(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *flags]) == 1
    assert reason in capsys.readouterr().err


def test_the_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gpus", "8xL40S", "--assume", "teacher_tokens_per_gpu_second=500"]
    assert main(["plan", *flags]) == 0
    shown = capsys.readouterr().out
    assert "GPU hours" in shown and "command line" in shown and "given" in shown


def test_a_plan_that_does_not_fit_into_the_memory_of_its_gpus_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--gpus", "2xH100", "--json"]) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "step 3 annotate needs 131 GB on each GPU" in line and "more GPUs" in line
    assert len(json.loads(said.out)["steps"]) == 5
    assert main(["plan", "--gpus", "4xH100", "--student", "4b"]) == 0
    assert "GB a GPU" in capsys.readouterr().out


@pytest.mark.parametrize(("student", "gpus"), [("4b", 8), ("4b", 2), ("2b", 8), ("2b", 1)])
def test_the_memory_of_training_is_that_of_preflight(plan: Any, student: str, gpus: int) -> None:
    shape = {  # as counted from the configurations of Qwen3-VL
        "4b": {"layers": 36, "hidden": 2560, "intermediate": 9728, "everything": 4_437_815_808},
        "2b": {"layers": 28, "hidden": 2048, "intermediate": 6144, "everything": 2_127_532_032},
    }[student]
    sizes = memory.Sizes(trained=shape["everything"] - 306_242_560, trains_table=True, vocabulary=151_936, **shape)
    load = memory.Load(tokens=2800, patches=784, chunks=8, ranks=gpus, local=gpus, cpu=False)
    phases, _ = memory.needed(sizes, load, memory.Zero(stage=3))
    # Memory may not be enough for Step 3 here, which is not what is asked.
    found = plan("--student", student, "--gpus", f"{gpus}xH100", "--assume", "teacher_weights_gb=1")
    assert found["steps"][2]["memory_gb"] == pytest.approx(phases["step"] / 1e9, rel=0.15)
