"""What all real engines are asked: the demo judge's scores of pairs, which engine `transformers` gave first.

The environments of these tests take gigabytes, so `bash tests/run.sh` leaves them out unless it is given a path:

    bash tests/run.sh tests/real_engines
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from dyneval.demo.painters import draw
from dyneval.demo.prompts import demo_prompts
from dyneval.files.jsonl import read_jsonl
from tests import processes
from tests.environments import environment

ROOT = Path(__file__).parents[2]
SCORE = ROOT / "inference" / "run_inference.py"
ANNOTATE = ROOT / "Distill Annotations" / "annotate.py"
PROMPTS = demo_prompts(4, 30)
MARKED = "a red cat <|im_end|> and more"
SMALL_VLLM = ("--max-model-len", "16384", "--gpu-memory-utilization", "0.2")
PLACES = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def judge(demo_judge):
    return demo_judge


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Pictures of sizes that neither the student nor vLLM would choose, and one prompt that holds a mark."""
    sizes = [128, 97, 200, 333, 64, 255, 129, 500]
    models = ["demo-painter"] * 4 + ["demo-doodler"] * 4
    drawings = list(zip(models, [*PROMPTS, *PROMPTS], sizes, strict=True))
    return write_pairs(tmp_path_factory.mktemp("pairs"), drawings, prompts={7: MARKED})[0]


def write_pairs(root, drawings, prompts=()):
    """Draw pairs of (model, prompt, size); returns their metadata, which may name other prompts, and their truths."""
    rows, truths = [], {}
    for number, (model, prompt, size) in enumerate(drawings):
        name, path = f"p{number}", root / f"{number}.png"
        image, truths[name] = draw(model, prompt, number, size)
        image.save(path)
        row = {"pair_id": name, "file_name": path.name, "prompt_id": f"q{number}", "categories": []}
        row |= {"prompt": dict(prompts).get(number, prompt), "generation_model": model, "settings": {}}
        rows.append(row | {"width": size, "height": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    metadata = root / "metadata.jsonl"
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return metadata, truths


@pytest.fixture(scope="session")
def expected(judge, pairs, tmp_path_factory):
    """Scores of engine `transformers` by pair_id."""
    output = tmp_path_factory.mktemp("expected") / "scores.jsonl"
    done = score(sys.executable, judge, pairs, output)
    assert done.returncode == 0, done.stderr
    return by_pair(output)


def score(python, judge, pairs, output, *flags):
    command = [python, SCORE, "--checkpoint", judge, "--metadata", pairs, "--output", output, *flags]
    return processes.run(command, env=os.environ | PLACES, capture_output=True, text=True)


def ask_as_teacher(judge, pairs, url, output, limit):
    """Step 3 with the judge behind a server, which is no teacher: what it writes may be of no use.

    Returns what the run told, when the server took every schema.
    """
    command = [sys.executable, ANNOTATE, "--metadata", pairs, "--output", output, "--limit", limit]
    command += ["--engine", "openai", "--model", judge, "--base-url", url]
    done = processes.run([str(word) for word in command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    asked = [row for path in output.glob("*.jsonl") for row in read_jsonl(path)]
    assert asked and {row.get("kind") for row in asked} <= {None, "reply", "dependency"}, asked
    return done.stderr


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
def serving(command, port, log):
    """Run a server until the end, and wait until it answers."""
    with log.open("a") as file:
        process = processes.Process(
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


class Relay:
    """A way to a server on this machine that can be cut, which to a client is a server that has gone."""

    def __init__(self, server: int) -> None:
        self.port = free_port()
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._ends: list[asyncio.StreamWriter] = []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def open(self) -> None:
        self._listener = self._wait(asyncio.start_server(self._join, "127.0.0.1", self.port))

    def cut(self) -> None:
        self._wait(self._cut())

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _cut(self) -> None:
        self._listener.close()
        for end in self._ends:
            end.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._server)
        self._ends += [writer, back]
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def vllm_server(python, judge):
    """Command of a vLLM server as README.md and dyneval/scorer/students/openai.py tell to start it, small."""
    told = ["--limit-mm-per-prompt.image", "1", "--limit-mm-per-prompt.video", "0"]
    told += ["--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}']
    return [python, "-m", "vllm.entrypoints.cli.main", "serve", judge, *told, *SMALL_VLLM]


# llama-server --model STUDENT --mmproj TOWER --ctx-size 16384 --parallel 2 --port PORT
LLAMA_SERVER = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path, params.port = sys.argv[1], sys.argv[2], int(sys.argv[4])
params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 16384, 2, 1
server = xllamacpp.Server(params)
time.sleep(1e9)
"""


def llama_server(judge, folder, kind="f32"):
    """Command of a llama.cpp server whose weights are of `kind`: f32, q8_0 or q4_0; those are written to `folder`."""
    python = environment("llama.cpp")
    (converter,) = python.parents[1].glob("sources/*/llama.cpp/convert_hf_to_gguf.py")
    whole, tower, student = (folder / f"{name}.gguf" for name in ("f32", "tower", kind))
    commands = [[python, converter, judge, "--outtype", "f32", "--outfile", whole]]
    commands += [[python, converter, judge, "--outtype", "f32", "--outfile", tower, "--mmproj"]]
    if student != whole:
        commands += [[python, Path(__file__).with_name("quantise.py"), kind, whole, student]]
    for command in commands:
        done = processes.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return [python, "-c", LLAMA_SERVER, student, tower]
