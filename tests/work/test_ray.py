"""Steps 2, 3 and scoring on a real local Ray cluster, workers killed in mid-run: the files are those of one process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dyneval.cli import main as dyneval
from dyneval.cli.annotate import main as annotate
from dyneval.demo.prompts import demo_prompts
from dyneval.errors import ClusterError
from dyneval.files.jsonl import read_jsonl
from dyneval.generation import catalogue
from dyneval.generation.runner import Config, generate
from dyneval.records import WORKFLOWS, prompt_id
from dyneval.work.executors import Done, Lost, Ray
from tests import processes

ray = pytest.importorskip("ray")
TWO = Ray(actors=2, batch=1)
ON_RAY = ["--ray", "--ray-actors", "2", "--ray-batch", "3", "--ray-gpus", "0"]
TIMES = ("created", "seconds")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster of two workers for all tests here; on a busy machine its start may need more than one try."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: beside other work its workers would starve
        for left in (2, 1, 0):
            try:
                ray.init(
                    address="local",
                    num_cpus=2,
                    object_store_memory=80_000_000,
                    include_dashboard=False,
                    log_to_driver=False,
                )
                break
            except Exception:  # Ray gives its raylet 30 seconds
                ray.shutdown()
                if not left:
                    raise
        yield
        ray.shutdown()


@pytest.fixture
def by_value() -> Iterator[None]:
    """The workers cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = list(dict.fromkeys(text for text in demo_prompts(60, seed=3) if len(text) >= 30))[:12]
    rows = [{"prompt_id": prompt_id(text), "prompt": text, "tier": 3, "categories": []} for text in texts]
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def gendb(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs, drawn in this process."""
    output = tmp_path_factory.mktemp("one") / "gendb"
    assert draw(prompts, output, devices=("cpu",)).exit_status == 0
    return output


def draw(prompts: Path, output: Path, **config: Any) -> Any:
    models = catalogue.choose(catalogue.load(), family="demo")
    chosen = [model for model in models if model.tier == 3]
    return generate(chosen, models, Config(prompts=prompts, output=output, **config))


def records(path: Path) -> dict[str, Any]:
    """Records by key without times; fails where a key stands twice."""
    found: dict[str, Any] = {}
    for row in read_jsonl(path):
        key = next(iter(row.values()))
        assert key not in found, key
        found[key] = _timeless(row)
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _workers() -> set[int]:
    """Processes of the actors of this cluster that are at work."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            if title.startswith(b"ray::MapWorker") and b"__init__" not in title and _is_below(folder, os.getpid()):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def _is_below(folder: Path, pid: int) -> bool:
    """Whether the process of a folder of /proc was started by `pid`, by a process that it started, and so on."""
    parent = int(re.search(r"^PPid:\s*(\d+)", (folder / "status").read_text(), re.MULTILINE)[1])
    return parent == pid or (parent > 1 and _is_below(Path("/proc", str(parent)), pid))


@contextmanager
def killing(begun: Callable[[], int], total: int, most: int = 9) -> Iterator[None]:
    """Kill `most` of the workers, once, as soon as the first of `total` records is there."""
    state: dict[str, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if (done := begun()) and (pids := sorted(_workers())[:most]):
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                state.update(done=done, killed=len(pids))
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert state["killed"] >= 1 and state["done"] < total, state


def lines(pattern: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in pattern.parent.glob(pattern.name))


def test_images_are_those_of_one_process(prompts: Path, gendb: Path, tmp_path: Path) -> None:
    output = tmp_path / "gendb"
    with killing(partial(lines, output / ".parts" / "metadata-*.jsonl"), 12):
        summary = draw(prompts, output, cluster=TWO)
    assert (summary.total("made"), summary.exit_status) == (12, 0)
    assert records(output / "metadata.jsonl") == records(gendb / "metadata.jsonl")
    for image in gendb.rglob("*.png"):
        assert (output / image.relative_to(gendb)).read_bytes() == image.read_bytes()
    assert draw(prompts, output, cluster=TWO).total("existing") == 12


def test_annotations_are_those_of_one_process(gendb: Path, chat_server: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    server = chat_server("--latency", "0.3")  # slow enough to be hit in mid-run
    flags = ["--metadata", str(gendb / "metadata.jsonl"), "--model", "m", "--base-url"]
    assert annotate([*flags, chat_server().url, "--output", str(one)]) == 0
    flags += [server.url, "--concurrency", "1"]
    assert annotate([*flags, "--output", str(two), "--limit", "2"]) == 0
    with killing(lambda: max(0, lines(two / "iqa_answers.jsonl") - 2), 10):
        assert annotate([*flags, "--output", str(two), *ON_RAY]) == 0
    asked = server.stats()["requests"]
    assert annotate([*flags, "--output", str(two), *ON_RAY]) == 0
    assert server.stats()["requests"] == asked  # finished pairs are not sent out again
    for name in WORKFLOWS:
        assert records(two / f"{name}.jsonl") == records(one / f"{name}.jsonl")
    summary = json.loads((two / "annotate.summary.json").read_text())
    assert (summary["pairs"], summary["pairs_annotated"]) == (12, 0)


def test_scores_are_those_of_one_process(gendb: Path, student: Path, tmp_path: Path) -> None:
    flags = ["score", "--metadata", str(gendb), "--checkpoint", str(student), "--max-questions", "2"]
    flags += ["--max-text", "8", "--device", "cpu"]
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert dyneval([*flags, "--output", str(one)]) == 0
    # One of the two is enough: a worker that begins again imports torch again.
    with killing(partial(lines, two), 12, most=1):
        assert dyneval([*flags, "--output", str(two), *ON_RAY]) == 0
    before = two.read_bytes()
    assert records(two) == records(one)
    image = next(gendb.rglob("*.png"))
    moved = shutil.move(image, tmp_path / "aside.png")
    try:
        assert dyneval([*flags, "--output", str(two), *ON_RAY]) == 1
    finally:
        shutil.move(moved, image)
    assert two.read_bytes() == before
    (reject,) = read_jsonl(tmp_path / "two.rejects.jsonl")
    assert reject["pair_id"] == image.stem


class Doubling:
    """A worker that cannot live through number 3, and does not know what to do with number 5."""

    def __init__(self, device: str) -> None:
        self.device = device

    def work(self, number: int) -> Iterator[int]:
        yield number
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 5:
            raise ValueError("five is right out")
        yield 2 * number

    def close(self) -> None:
        pass


def test_a_task_that_kills_its_workers_is_told_and_the_others_are_done(by_value: None) -> None:
    results = list(Ray(actors=2).run(Doubling, [1, 2, 3, 4]))
    done = {found.task: found.items for found in results if isinstance(found, Done)}
    assert done == {1: [1, 2], 2: [2, 4], 4: [4, 8]}
    (lost,) = (found for found in results if isinstance(found, Lost))
    assert lost.task == 3


def test_what_a_worker_raises_ends_the_run_in_one_line(by_value: None) -> None:
    found = []
    with pytest.raises(ClusterError, match=r"^ValueError: five is right out$"):
        found.extend(Ray().run(Doubling, [5]))
    assert [outcome.items for outcome in found] == [[5]], "what came before it is kept"


def test_without_ray_or_without_a_cluster_one_line_says_so(gendb: Path, tmp_path: Path) -> None:
    door = [sys.executable, "-m", "dyneval", "score", "--metadata", gendb, "--checkpoint", "none"]
    door += ["--output", tmp_path / "scores.jsonl", "--ray", "127.0.0.1:1"]
    missing = tmp_path / "ray.py"
    missing.write_text("raise ImportError('no ray here')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = processes.run(door, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "dyneval score: --ray needs Ray: pip install 'dyneval[ray]' (no ray here)"
