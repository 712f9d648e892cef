"""The demo judge behind the servers of llama.cpp and transformers, as they are."""

import sys

import pytest

from .conftest import ask_as_teacher, by_pair, free_port, llama_server, same, score, serving

pytestmark = pytest.mark.timeout(1200)


def test_llama_cpp_scores_as_transformers_does(environment, judge, pairs, expected, tmp_path):
    environment("llama.cpp")  # or this test is skipped
    output, port = tmp_path / "scores.jsonl", free_port()
    with serving([*llama_server(judge, tmp_path), "--port", str(port)], port, tmp_path / "server.log"):
        url = f"http://127.0.0.1:{port}/v1"
        done = score(sys.executable, judge, pairs, output, "--engine", "openai", "--base-url", url, "--limit", "3")
        assert done.returncode == 0, done.stderr
        assert len(by_pair(output)) == 3
        same(by_pair(output), expected)

        told = ask_as_teacher("judge", pairs, url, tmp_path / "annotations", 1)
        assert "HTTP" not in told, told


def test_the_server_of_transformers_gives_no_scores_and_the_first_request_says_so(environment, judge, pairs, tmp_path):
    """It takes `response_format` and `logprobs` and reads neither."""
    output, port = tmp_path / "scores.jsonl", free_port()
    command = [environment("torchvision"), "-m", "transformers.cli.transformers", "serve", judge]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with serving(command, port, tmp_path / "server.log"):
        url = f"http://127.0.0.1:{port}/v1"
        done = score(sys.executable, judge, pairs, output, "--engine", "openai", "--base-url", url)
        assert done.returncode == 1 and not by_pair(output)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "takes our JSON schema (response_format) but does not hold its replies to it" in done.stderr
        assert not output.with_name("scores.rejects.jsonl").exists()
