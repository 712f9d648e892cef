"""`dyneval reliability`: the statistics by their definitions, runs from files, and the demo judge on altered images."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import demo_prompts
from dyneval.evaluation.alterations import ALTERATIONS, altered
from dyneval.evaluation.reliability import read_run, reliability
from dyneval.evaluation.unscored import UnscoredImage
from dyneval.files.jsonl import read_jsonl
from tests.processes import dyneval
from tests.rows import write_jsonl

from .scored_data import score_record

ROOT = Path(__file__).parents[2]


def door(*arguments):
    return dyneval("reliability", *arguments, cwd=ROOT)


def run_file(path, scores, prompts=None, **more):
    rows = []
    for n, (t2ia, iqa) in enumerate(scores):
        prompt = prompts[n] if prompts else f"prompt {n // 3}"
        rows.append(score_record(f"p{n}", prompt, f"{n}.png", [t2ia], [iqa]) | more)
    return write_jsonl(path, rows)


@pytest.fixture
def two_runs(tmp_path):
    random = np.random.default_rng(3)
    first = random.integers(1, 6, (60, 2))
    second = np.clip(first + random.integers(-1, 2, (60, 2)), 1, 5)
    return run_file(tmp_path / "a.jsonl", first), run_file(tmp_path / "b.jsonl", second), first, second


def krippendorff(a, b):
    """Alpha for interval data from its definition: over all pairs of values within units, and within all units."""
    values = np.concatenate([a, b])
    n = len(values)
    observed = sum(2 * (x - y) ** 2 for x, y in zip(a, b, strict=True)) / n
    expected = sum((x - y) ** 2 for x, y in itertools.permutations(values, 2)) / (n * (n - 1))
    return 1 - observed / expected


def test_the_statistics_are_what_their_definitions_say(two_runs):
    first, second, before, after = two_runs
    found = {one.score: one for one in reliability(read_run("a", first), read_run("b", second), resamples=200)}
    assert list(found) == ["overall", "t2ia", "iqa"]
    for score, (a, b) in {
        "t2ia": (before[:, 0], after[:, 0]),
        "overall": (before.mean(axis=1), after.mean(axis=1)),
    }.items():
        one = found[score]
        assert (one.pairs, one.prompts, one.couples) == (60, 20, 60)
        assert one.equal.value == pytest.approx(np.mean(a == b))
        assert one.difference.value == pytest.approx(np.mean(np.abs(a - b)))
        assert one.shift.value == pytest.approx(np.mean(b - a))
        assert one.srcc.value == pytest.approx(spearmanr(a, b).statistic)
        assert one.alpha.value == pytest.approx(krippendorff(a, b))
        couples = [(i, j) for i, j in itertools.combinations(range(60), 2) if i // 3 == j // 3]
        assert one.flips.value == pytest.approx(np.mean([(a[i] >= a[j]) != (b[i] >= b[j]) for i, j in couples]))
        for estimate in (one.equal, one.difference, one.shift, one.srcc, one.alpha, one.flips):
            assert estimate.low < estimate.value < estimate.high


def test_a_run_agrees_with_itself_and_a_constant_one_has_no_alpha(tmp_path):
    varied = run_file(tmp_path / "a.jsonl", [(1 + n % 5, 1 + n % 3) for n in range(12)])
    flat = run_file(tmp_path / "flat.jsonl", [(3, 3)] * 12, prompts=[f"{n}" for n in range(12)])
    a = read_run("a", varied)
    same = reliability(a, read_run("again", varied), resamples=20)[0]
    assert [e.value for e in (same.equal, same.difference, same.srcc, same.alpha, same.flips)] == [1, 0, 1, 1, 0]
    none = reliability(read_run("x", flat), read_run("y", flat), resamples=20)[0]
    assert none.alpha.value is None and none.srcc.value is None and none.equal.value == 1
    assert none.flips.reason == "no prompt has two images"


def test_two_pairs_have_no_correlation(tmp_path):
    runs = [
        run_file(tmp_path / f"{name}.jsonl", scores) for name, scores in (("a", [(1, 2), (3, 4)]), ("b", [(2, 2)] * 2))
    ]
    found = reliability(*(read_run(path.stem, path) for path in runs), resamples=0)[0]
    assert found.srcc.reason == "needs at least 3 pairs" and found.difference.value == 1


def test_the_door_compares_files_and_writes_tables_samples_and_a_page(two_runs, tmp_path, visit):
    first, second, before, after = two_runs
    rows = list(read_jsonl(second))
    for row in rows:
        row["settings"] = {"engine": "vllm", "batch_size": 8}
    alone = rows[59] | {"pair_id": "alone"}
    served = write_jsonl(tmp_path / "served.jsonl", [*rows[:50], alone])
    output = tmp_path / "out"
    done = door(first, f"a <b>.x=[1]={second}", f"served={served}", "--output", output, "--resamples", "100")
    assert done.returncode == 1 and "No such file" in done.stderr, "the first = ends the name"
    hostile = 'a <b>.x[0]"'
    done = door(
        first, f"{hostile}={second}", f"served={served}", "--output", output, "--resamples", "100", "--pictures", "svg"
    )
    assert done.returncode == 0, done.stderr
    assert "Largest differences of served" in done.stdout and "10 pairs of a are not in served" in done.stderr
    found = json.loads((output / "reliability.json").read_text())
    assert [(one["second"], one["score"], one["pairs"]) for one in found["runs"]][::3] == [
        (hostile, "overall", 60),
        ("served", "overall", 50),
    ]
    with (output / "samples.csv").open() as file:
        samples = list(csv.DictReader(file))
    assert len(samples) == 61 and samples[55]["overall served"] == ""
    assert samples[60]["pair_id"] == "alone" and samples[60]["overall a"] == "" != samples[60]["overall served"]
    assert float(samples[4][f"t2ia {hostile}"]) == after[4, 0] and float(samples[4]["t2ia a"]) == before[4, 0]
    largest = done.stdout.split(f"Largest differences of {hostile}")[1].strip().splitlines()[2].split()
    assert abs(float(largest[-1].replace("−", "-"))) == np.abs(before.mean(axis=1) - after.mean(axis=1)).max()
    assert len(list((output / "pictures").iterdir())) == 3
    for width, theme in ((1280, "dark"), (390, "light")):
        page = visit(output / "report.html", width, theme)
        assert page.locator("h1").inner_text() == "How reliable is the judge?"
        for chart in page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
            page.wait_for_function("chart => chart.dataset.ready === 'yes'", arg=chart.element_handle())
        assert page.locator("[data-chart]").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_runs_that_do_not_go_together_are_told(tmp_path):
    a = run_file(tmp_path / "a.jsonl", [(1, 2), (3, 4)])
    other = run_file(tmp_path / "other.jsonl", [(1, 2), (3, 4)], prompts=["prompt 0", "another"])
    strangers = write_jsonl(tmp_path / "s.jsonl", [score_record("q1", "p", "q.png", [1], [1])])
    twice = write_jsonl(tmp_path / "t.jsonl", [score_record("q1", "p", "q.png", [n], [1]) for n in (1, 2)])
    mixed = run_file(tmp_path / "m.jsonl", [(1, 2)], settings={"alpha": 0.5})
    mixed.write_text(
        mixed.read_text() + json.dumps(score_record("p9", "p", "9.png", [1], [1]) | {"settings": {"alpha": 0.7}})
    )
    for files, said in (
        ([a], "name two score files or more"),
        ([a, other], "p1 is scored for two prompts: 'prompt 0' in a, 'another' in other"),
        ([a, strangers], "a and s have no pair in common"),
        ([a, twice], "t.jsonl:2: q1 stands there before"),
        ([a, mixed], "mixes scores of alpha 0.5 and 0.7"),
        ([a, a], "two evaluators are called 'a'"),
    ):
        done = door(*files)
        assert done.returncode == 1 and said in done.stderr, done.stderr


def test_images_are_altered_as_told_and_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pairs = [UnscoredImage("p1", "x", "a.png"), UnscoredImage("p2", "x", "missing.png")]
    made = {}
    for name in ALTERATIONS:
        ((pair_id, _, file_name),) = altered(pairs, tmp_path, tmp_path / name, name)
        assert pair_id == "p1"
        made[name] = tmp_path / name / file_name
    assert Image.open(made["jpeg90"]).format == "JPEG" and Image.open(made["resize75"]).size == (45, 30)
    assert np.array_equal(np.asarray(Image.open(made["mirror"])), pixels[:, ::-1])
    before = made["mirror"].stat().st_mtime_ns
    list(altered(pairs, tmp_path, tmp_path / "mirror", "mirror"))
    assert made["mirror"].stat().st_mtime_ns == before
    Image.fromarray(pixels[::-1]).save(tmp_path / "a.png")
    ((_, _, file_name),) = altered(pairs, tmp_path, tmp_path / "mirror", "mirror")
    assert file_name != made["mirror"].name, "another image"


def test_the_demo_judge_on_altered_images(tmp_path):
    rows = []
    for slug in list(PAINTERS)[:2]:
        image, _ = draw(slug, demo_prompts(1, 5)[0], seed=0, size=224)
        image.save(tmp_path / f"{slug}.png")
        rows.append({"pair_id": slug, "prompt": demo_prompts(1, 5)[0], "file_name": f"{slug}.png"})
    metadata, output = write_jsonl(tmp_path / "metadata.jsonl", rows), tmp_path / "out"
    command = ["--checkpoint", "demo", "--mode", "fast", "--metadata", metadata, "--output", output, "--no-report"]
    command += ["--max-questions", "3"]
    done = door(*command, "--alter", "jpeg90", "mirror")
    assert done.returncode == 0, done.stderr
    found = json.loads((output / "reliability.json").read_text())
    overall = {one["second"]: one for one in found["runs"] if one["score"] == "overall"}
    assert {name: (one["pairs"], one["couples"]) for name, one in overall.items()} == {
        "jpeg90": (2, 1),
        "mirror": (2, 1),
    }
    assert overall["jpeg90"]["difference"]["value"] < 1, "of a scale of 4"
    assert {row["model"] for row in read_jsonl(output / "original.jsonl")} == {"demo"}, "no folder of this machine"

    with metadata.open("a") as file:
        file.write('{"pair_id": "bare", "file_name": "none.png"}\n')
    done = door(*command, "--alter", "jpeg90", "mirror")
    assert done.returncode == 1 and "1 images could not be scored, see the rejects files" in done.stderr
    assert [row["pair_id"] for row in read_jsonl(output / "pairs.rejects.jsonl")] == ["bare"]
