"""The demo judge behind the servers of llama.cpp and transformers, as they are."""

import subprocess
import sys

import pytest

from dyneval.files.jsonl import read_jsonl

from .conftest import ANNOTATE, SCORE, by_pair, free_port, run, same, serving

pytestmark = pytest.mark.timeout(1200)
# llama-server --model STUDENT --mmproj TOWER --port PORT --ctx-size 16384 --parallel 2
LLAMA_SERVER = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path, params.port = sys.argv[1], sys.argv[2], int(sys.argv[3])
params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 16384, 2, 1
server = xllamacpp.Server(params)
time.sleep(1e9)
"""


@pytest.fixture(scope="module")
def llama(environment, judge, tmp_path_factory):
    """Command of a llama.cpp server that has the judge, without its port."""
    python, folder = environment("llama.cpp"), tmp_path_factory.mktemp("gguf")
    (converter,) = python.parents[1].glob("sources/*/llama.cpp/convert_hf_to_gguf.py")
    for name, flags in (("judge", []), ("tower", ["--mmproj"])):
        command = [python, converter, judge, "--outtype", "f32", "--outfile", folder / f"{name}.gguf", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return [python, "-c", LLAMA_SERVER, folder / "judge.gguf", folder / "tower.gguf"]


def test_llama_cpp_scores_as_transformers_does(llama, judge, pairs, expected, tmp_path):
    output, port = tmp_path / "scores.jsonl", free_port()
    with serving([*llama, str(port)], port, tmp_path / "server.log"):
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
