"""The demo judge behind the servers of llama.cpp and transformers, as they are."""

import subprocess
import sys

import pytest

from dyneval.files.jsonl import read_jsonl

from .conftest import ANNOTATE, SCORE, by_pair, free_port, llama_server, run, same, serving

pytestmark = pytest.mark.timeout(1200)


def test_llama_cpp_scores_as_transformers_does(environment, judge, pairs, expected, tmp_path):
    environment("llama.cpp")  # or this test is skipped
    output, port = tmp_path / "scores.jsonl", free_port()
    with serving([*llama_server(judge, tmp_path), "--port", str(port)], port, tmp_path / "server.log"):
        url = f"http://127.0.0.1:{port}/v1"
        done = run(sys.executable, SCORE, judge, pairs, output, "--engine", "openai", "--base-url", url, "--limit", "3")
        assert done.returncode == 0, done.stderr
        assert len(by_pair(output)) == 3
        same(by_pair(output), expected)

        annotations = tmp_path / "annotations"
        command = [sys.executable, *ANNOTATE, "--metadata", pairs, "--output", annotations, "--limit", "1"]
        done = subprocess.run(
            [*command, "--engine", "openai", "--model", "judge", "--base-url", url], capture_output=True, text=True
        )
        # The judge is no teacher: what it writes may be of no use. But the server took every schema.
        assert "Traceback" not in done.stderr and "HTTP" not in done.stderr, done.stderr
        asked = [row for path in annotations.glob("*.jsonl") for row in read_jsonl(path)]
        assert asked and {row.get("kind") for row in asked} <= {None, "reply", "dependency"}, asked


def test_the_server_of_transformers_gives_no_scores_and_the_first_request_says_so(environment, judge, pairs, tmp_path):
    """It takes `response_format` and `logprobs` and reads neither."""
    output, port = tmp_path / "scores.jsonl", free_port()
    command = [environment("torchvision"), "-m", "transformers.cli.transformers", "serve", judge]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with serving(command, port, tmp_path / "server.log"):
        url = f"http://127.0.0.1:{port}/v1"
        done = run(sys.executable, SCORE, judge, pairs, output, "--engine", "openai", "--base-url", url)
        assert done.returncode == 1 and not by_pair(output)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "takes our JSON schema (response_format) but does not hold its replies to it" in done.stderr
        assert not output.with_name("scores.rejects.jsonl").exists()
