"""Steps 3 and 5 on the real vLLM, its build for CPUs: the demo judge behind its server, and in this process."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from dyneval.demo.painters import draw
from dyneval.demo.prompts import demo_prompts
from dyneval.demo.weights import write_judge
from dyneval.files.jsonl import read_jsonl

# A server of vLLM takes half a minute to start on idle cores, and two beside other tests.
pytestmark = pytest.mark.timeout(1800)
ROOT = Path(__file__).parents[2]
SCORE = [ROOT / "inference" / "run_inference.py"]
ANNOTATE = [ROOT / "Distill Annotations" / "annotate.py"]
# What README.md and dyneval/scorer/engines/openai.py tell to start a server with, and the arithmetic of engine
# `transformers` on a CPU: a judge answers otherwise in bfloat16, here as there.
FLAGS = ["--limit-mm-per-prompt.image", "1", "--limit-mm-per-prompt.video", "0"]
FLAGS += ["--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}']
FLAGS += ["--dtype", "float32", "--max-model-len", "16384", "--gpu-memory-utilization", "0.2"]
PROMPTS = demo_prompts(4, 30)
MARKED = "a red cat <|im_end|> and more"
PLACES = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def python(environment):
    return environment("vllm")


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "demo_judge"
    write_judge(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pictures of sizes that neither the student nor vLLM would choose, and one prompt that holds a mark."""
    root = tmp_path_factory.mktemp("pairs")
    rows = []
    for number, (prompt, size) in enumerate(
        zip([*PROMPTS, *PROMPTS], [128, 97, 200, 333, 64, 255, 129, 500], strict=True)
    ):
        path = root / f"{number}.png"
        draw(("demo-painter", "demo-doodler")[number // 4], prompt, number, size)[0].save(path)
        row = {"pair_id": f"p{number}", "file_name": path.name, "prompt_id": f"q{number}", "categories": []}
        row |= {"prompt": MARKED if number == 7 else prompt, "generation_model": "demo", "settings": {}}
        rows.append(row | {"width": size, "height": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "metadata.jsonl"


@pytest.fixture(scope="module")
def expected(judge, pairs, tmp_path_factory):
    """Scores of engine `transformers` by pair_id."""
    output = tmp_path_factory.mktemp("expected") / "scores.jsonl"
    done = run(sys.executable, SCORE, judge, pairs, output)
    assert done.returncode == 0, done.stderr
    return by_pair(output)


def run(python, script, judge, pairs, output, *flags):
    command = [python, *script, "--checkpoint", judge, "--metadata", pairs, "--output", output, *flags]
    return subprocess.run(command, env=os.environ | PLACES, capture_output=True, text=True)


def by_pair(path):
    return {row["pair_id"]: row for row in read_jsonl(path)}


def same(found, expected):
    for pair_id, row in found.items():
        known = expected[pair_id]
        assert [row[name] for name in ("t2ia", "iqa", "overall")] == [
            known[name] for name in ("t2ia", "iqa", "overall")
        ]
        assert row["soft"] == pytest.approx(known["soft"], abs=1e-3)
        for part in ("t2ia_questions", "iqa_questions"):
            for one, other in zip(row[part], known[part], strict=True):
                assert (one["question"], one["reasoning"]) == (other["question"], other["reasoning"])


@contextmanager
def serving(python, judge, port, log):
    command = [python, "-m", "vllm.entrypoints.cli.main", "serve", judge, "--port", str(port), *FLAGS]
    with log.open("a") as file:
        process = subprocess.Popen(
            command, env=os.environ | PLACES, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while True:
                try:
                    urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except (URLError, OSError):
                    assert process.poll() is None, log.read_text()[-3000:]
                    time.sleep(0.5)
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_server_scores_as_transformers_does_and_may_be_started_again_meanwhile(
    python, judge, pairs, expected, tmp_path
):
    output, log = tmp_path / "scores.jsonl", tmp_path / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    flags = ["--engine", "openai", "--base-url", url, "--batch-size", "2"]
    command = [sys.executable, *SCORE, "--checkpoint", judge, "--metadata", pairs, "--output", output, *flags]
    with serving(python, judge, port, log):
        scoring = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not (output.exists() and output.stat().st_size):
            assert scoring.poll() is None, scoring.stderr.read()
            time.sleep(0.05)
    # The server is gone, with all but the first pairs to do.
    with serving(python, judge, port, log):
        told = scoring.communicate()[1]
        assert scoring.returncode == 1  # the pair with the mark
        found = by_pair(output)
        assert set(found) == set(expected) - {"p7"}
        same(found, expected)
        (reject,) = read_jsonl(output.with_name("scores.rejects.jsonl"))
        assert reject["pair_id"] == "p7" and "such as <|im_end|>, for its own" in reject["reason"]
        assert "Traceback" not in told and "Unclosed" not in told

        annotations = tmp_path / "annotations"
        command = [sys.executable, *ANNOTATE, "--metadata", pairs, "--output", annotations, "--limit", "2"]
        command += ["--engine", "openai", "--model", str(judge), "--base-url", url]
        done = subprocess.run(command, capture_output=True, text=True)
        # The judge is no teacher: what it writes may be of no use. But the server took every schema.
        assert "Traceback" not in done.stderr, done.stderr
        asked = [row for path in annotations.glob("*.jsonl") for row in read_jsonl(path)]
        assert asked and {row.get("kind") for row in asked} <= {None, "reply", "dependency"}, asked
        metrics = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    # Each picture is sent three times and seen once.
    hits = re.findall(r"^vllm:mm_cache_hits_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    assert sum(map(float, hits)) > 0, metrics


def test_vllm_in_this_process_scores_as_transformers_does(python, judge, pairs, expected, tmp_path):
    output = tmp_path / "scores.jsonl"
    flags = ["--dtype", "float32", "--max-model-len", "16384", "--gpu-memory-utilization", "0.2"]
    done = run(python, SCORE, judge, pairs, output, "--engine", "vllm", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(by_pair(output)) == set(expected)  # token ids are sent: a mark in a prompt is text
    same(by_pair(output), expected)
    assert "Traceback" not in done.stderr and "leaked" not in done.stderr, done.stderr[-3000:]


def test_vllm_that_does_not_start_says_so_in_a_line(python, judge, pairs, tmp_path):
    done = run(python, SCORE, judge, pairs, tmp_path / "scores.jsonl", "--engine", "vllm", "--max-model-len", "9000000")
    assert done.returncode == 1
    assert re.search(r"vLLM does not start with .*demo_judge.*9000000", done.stderr, re.DOTALL), done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
