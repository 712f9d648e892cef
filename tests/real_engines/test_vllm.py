"""Steps 3 and 5 on the real vLLM, its build for CPUs: the demo judge behind its server, and in this process."""

import re
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from dyneval.files.jsonl import read_jsonl
from tests import processes

from .conftest import SCORE, SMALL_VLLM, Relay, ask_as_teacher, by_pair, free_port, same, score, serving, vllm_server

# A server of vLLM takes half a minute to start on idle cores, and two beside other tests.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def python(environment):
    return environment("vllm")


def test_a_server_scores_as_transformers_does_and_may_be_gone_meanwhile(python, judge, pairs, expected, tmp_path):
    output, log = tmp_path / "scores.jsonl", tmp_path / "server.log"
    port = free_port()
    relay = Relay(port)
    # The arithmetic of engine `transformers` on a CPU: a judge answers otherwise in bfloat16, here as there.
    server = [*vllm_server(python, judge), "--dtype", "float32", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/v1"
    relayed = f"http://127.0.0.1:{relay.port}/v1"
    flags = ["--engine", "openai", "--base-url", relayed, "--batch-size", "2"]
    command = [sys.executable, SCORE, "--checkpoint", judge, "--metadata", pairs, "--output", output, *flags]
    with serving(server, port, log):
        relay.open()
        scoring = processes.Process(command, stderr=subprocess.PIPE, text=True)
        while not (output.exists() and output.stat().st_size):
            assert scoring.poll() is None, scoring.stderr.read()
            time.sleep(0.05)
        # The server is gone, with all but the first pairs to do.
        relay.cut()
        assert scoring.poll() is None
        time.sleep(1)
        assert scoring.poll() is None
        relay.open()
        told = scoring.communicate()[1]
        assert scoring.returncode == 1  # the pair with the mark
        found = by_pair(output)
        assert set(found) == set(expected) - {"p7"}
        same(found, expected)
        (reject,) = read_jsonl(output.with_name("scores.rejects.jsonl"))
        assert reject["pair_id"] == "p7" and "such as <|im_end|>, for its own" in reject["reason"]
        assert "Traceback" not in told and "Unclosed" not in told

        ask_as_teacher(judge, pairs, url, tmp_path / "annotations", 2)
        metrics = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    # Each picture is sent three times and seen once.
    hits = re.findall(r"^vllm:mm_cache_hits_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    assert sum(map(float, hits)) > 0, metrics


def test_vllm_in_this_process_scores_as_transformers_does(python, judge, pairs, expected, tmp_path):
    output = tmp_path / "scores.jsonl"
    done = score(python, judge, pairs, output, "--engine", "vllm", "--dtype", "float32", *SMALL_VLLM)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(by_pair(output)) == set(expected)  # token ids are sent: a mark in a prompt is text
    same(by_pair(output), expected)
    # On a busy machine vLLM ends its worker before that has given its shared memory back, and Python says so.
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


def test_vllm_that_does_not_start_says_so_in_a_line(python, judge, pairs, tmp_path):
    done = score(python, judge, pairs, tmp_path / "scores.jsonl", "--engine", "vllm", "--max-model-len", "9000000")
    assert done.returncode == 1
    assert re.search(r"vLLM does not start with .*demo_judge.*9000000", done.stderr, re.DOTALL), done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
