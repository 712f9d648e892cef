"""Models that need their authors' own code: each runs in its own environment, as a worker process behind a pipe.

`--external-env PATH` names a folder with `bin/python` (the environment) and `code/` (a checkout of the authors' code),
or one with such a folder for each model, called like its slug; `dyneval generate --setup SLUG` makes them. The messages
are described in `dyneval.generation.families.external_worker`, which is the other end.

A process of its own is needed since the authors' code wants other versions of torch and transformers than ours, may
crash, and is not ours: it gets no key, token or password of this machine.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dyneval.errors import GenerationError, ImageError
from dyneval.files import images
from dyneval.generation.families import external_worker
from dyneval.generation.model import (
    ENVIRONMENTS,
    BuildOptions,
    GeneratedImage,
    ImageRequest,
    ModelSpec,
    NoImage,
    Outcome,
    RequestedSize,
    RunOptions,
)

log = logging.getLogger(__name__)

Message = dict[str, Any]
ADAPTERS = Path(__file__).parents[1] / "adapters"
"""Files that say how a worker loads and draws, one a model; they run in the environments of their models."""
# Loading may download tens of GB; an image takes minutes at most.
LOAD_TIMEOUT = 3600.0
DRAW_TIMEOUT = 1800.0
"""Seconds without a word from the worker, after which it is ended."""
# Enough to free a device; a worker that hangs in the authors' code would wait for ever.
END_TIMEOUT = 10.0
"""Seconds that a worker has to end by itself."""


# By parts of names, since nobody can list all names. TOKEN(?!IZERS) spares TOKENIZERS_PARALLELISM, AUTH(?!OR) the
# GIT_AUTHOR_NAME. One that is taken away needlessly is noticed; one that is handed on is not.
_SECRET = re.compile(
    "KEY|SECRET|TOKEN(?!IZERS)|PASS|CREDENTIAL|AUTH(?!OR)|COOKIE|WEBHOOK|JWT|DSN|CONN(ECTION)?_?STR|DATABASE_URL"
    "|(^|_)(PAT|SAS)(_|$)|_PWD$"
)
_SECRET_VALUE = re.compile("://[^/@ ]+@|-----BEGIN")
"""An address with a user or a password in it, or a key."""
_FETCHING = re.compile("(HTTPS?|ALL|FTP)_PROXY|PIP_(EXTRA_)?INDEX_URL")
"""Without these nothing can be fetched, so they are handed on with the password that they may hold."""
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH")


def without_secrets(environ: Mapping[str, str], hub: bool = False) -> dict[str, str]:
    """Return the environment for code of others: without keys, tokens and passwords, by names and forms of variables.

    Args:
        environ: all variables.
        hub: keep the token of the Hugging Face Hub, with which weights behind a licence are fetched.
    """
    kept = {}
    for name, value in environ.items():
        is_secret = _SECRET.search(name.upper()) or _SECRET_VALUE.search(value)
        if not is_secret or _FETCHING.fullmatch(name.upper()) or (hub and name in _HUB_TOKENS):
            kept[name] = value
    return kept


class WorkerDied(RuntimeError):
    """The worker process ended or fell silent; the message holds its last words."""


class WorkerProcess:
    """A worker process and the messages to and from it.

    Attributes:
        messages: what it sent and nobody has received yet; None behind the last one.
        last_words: the last 20 lines that it wrote to stderr, for the message of its end.
    """

    def __init__(self, command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
        """Start the process and two threads that read what it says.

        Threads, since a pipe that nobody reads fills up: the worker would stop in the middle of its own log.
        """
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        self.messages: queue.Queue[Message | None] = queue.Queue()
        self.last_words: deque[str] = deque(maxlen=20)
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._read_messages, self._read_log)]
        for reader in self.readers:
            reader.start()

    def _read_messages(self) -> None:
        """Queue the messages; None behind the last says that the worker's stdout has ended."""
        for line in self.process.stdout or ():
            try:
                self.messages.put(json.loads(line))
            except ValueError:
                self.last_words.append(f"not a message: {line[:200]!r}")
        self.messages.put(None)

    def _read_log(self) -> None:
        """Keep the last lines of the worker's stderr; all of them are in our log at level debug."""
        for line in self.process.stderr or ():
            text = line.decode("utf-8", "replace").rstrip()
            self.last_words.append(text)
            log.debug("worker: %s", text)

    def send(self, message: Message) -> None:
        """Send a message. A dead worker is noticed by `receive`, which knows its last words."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(message).encode("utf-8") + b"\n")
            self.process.stdin.flush()
        except OSError:
            log.debug("the worker takes no message any more")

    def receive(self, timeout: float) -> Message:
        """Return the next message. Raises WorkerDied when none can come, or none comes in `timeout` seconds."""
        try:
            message = self.messages.get(timeout=timeout)
        except queue.Empty:
            self.end()
            what = f"said nothing for {timeout:.0f} s and was ended"
        else:
            if message is not None:
                return message
            what = f"died (exit status {self.process.wait()})"
            self.readers[1].join(5)  # the traceback may come after the end of stdout
        words = "its last words: " + " | ".join(self.last_words)[-600:] if self.last_words else "it left no message"
        raise WorkerDied(f"the worker {what}; {words}")

    def end(self) -> None:
        """Close the pipe, which ends a healthy worker, and end any other."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ExternalModel:
    """A worker that is started again when it dies, so that a prompt that kills it costs one image.

    Attributes:
        command: that starts the worker.
        folder: where the worker puts its images; gone when the model is closed.
        load: the first message to every worker.
        facts: what the worker found out while loading, recorded with each image.
    """

    batch_size = 8  # handed over at once; the worker draws them one by one

    def __init__(self, spec: ExternalSpec, options: BuildOptions, run: RunOptions, device: str) -> None:
        """Start the worker and load. Raises GenerationError when the environment or the weights are missing."""
        env = spec.environment(run.external_env)
        self.spec = spec
        self.command: list[str | Path] = [env / "bin" / "python", external_worker.__file__, ADAPTERS / spec.adapter]
        self.folder = tempfile.TemporaryDirectory(prefix=f"{spec.slug}-")
        self.load = {
            "do": "load",
            "repo": spec.repo(options),
            "commits": spec.commits(options),
            "parts": spec.chosen_parts(options),
            "arguments": spec.arguments(options),
            "device": device,
            "code": str(env / "code"),
        }
        self.asked_size = RequestedSize.of(spec.slug, spec.arguments(options))
        self.worker, self.facts = self._start()

    def _start(self) -> tuple[WorkerProcess, Mapping[str, Any]]:
        """Return a worker that has loaded the model, and what it found out. Raises GenerationError: it cannot."""
        worker = WorkerProcess(self.command, without_secrets(os.environ, hub=self.spec.gated))
        worker.send(self.load)
        try:
            answer = worker.receive(LOAD_TIMEOUT)
        except WorkerDied as error:
            raise GenerationError(f"{self.spec.slug}: {error}") from error
        if answer["is"] != "ready":
            worker.end()
            raise GenerationError(f"{self.spec.slug}: its worker cannot load the model: {answer.get('reason')}")
        return worker, {"dtype": None, **answer["facts"]}

    def generate(self, batch: Sequence[ImageRequest]) -> Iterator[Outcome]:
        """Hand the batch over and yield what comes back. Raises WorkerDied, after which the next call starts anew."""
        if self.worker.process.poll() is not None:
            self.worker, _ = self._start()
        root = Path(self.folder.name)
        left = {request.pair_id: request for request in batch}
        asked = [{"id": r.pair_id, "prompt": r.prompt, "seed": r.seed} for r in batch]
        self.worker.send({"do": "draw", "folder": self.folder.name, "requests": asked})
        while (answer := self.worker.receive(DRAW_TIMEOUT))["is"] != "done":
            # An answer to no request of this batch is passed over: the worker runs code that is not ours.
            request = left.pop(answer.get("id", ""), None)
            if request is None:
                continue
            if answer["is"] != "image":
                yield NoImage(request=request, reason=str(answer.get("reason")))
                continue
            # load_image refuses a file outside of the folder, and one that unpacks to gigabytes.
            try:
                image = images.load_image(answer["file"], root)
            except ImageError as error:
                yield NoImage(request=request, reason=f"the worker's image cannot be read: {error}")
                continue
            (root / answer["file"]).unlink()
            yield GeneratedImage(
                request=request,
                image=image,
                prompt_sent=answer["prompt_sent"],
                seconds=answer["seconds"],
                details=self.asked_size.note(image),
            )

    def close(self) -> None:
        """End the worker."""
        self.worker.end()
        self.folder.cleanup()


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentSetup:
    """What `dyneval generate --setup` makes an environment from.

    Attributes:
        python: version of Python, such as "3.10".
        commit: commit of the authors' code that the adapter was written for.
        requirements: files of requirements, below the code.
        packages: what else is to be installed, as pip takes it.
        afterwards: packages that are built against those, such as flash-attn; they need a CUDA compiler.
        basics: what the worker itself needs.
        note: what is to be done by hand.
    """

    python: str = "3.10"
    commit: str = ""
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    afterwards: tuple[str, ...] = ()
    basics: tuple[str, ...] = ("pillow", "huggingface_hub")
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ExternalSpec(ModelSpec):
    """A model that runs on its authors' code.

    Attributes:
        adapter: file with the class `Adapter`, run in the model's environment; a name is one of `ADAPTERS`.
        code: where the authors' code is.
        setup: how its environment is made.
    """

    family: ClassVar[str] = "external"
    adapter: str
    code: str
    setup: EnvironmentSetup = field(default_factory=EnvironmentSetup)

    def environment(self, path: Path) -> Path:
        """Return the folder of the model's environment, `path` or below it. Raises GenerationError: it is missing."""
        for folder in (path / self.slug, path):
            if (folder / "bin" / "python").exists():
                return folder.absolute()
        raise GenerationError(
            f"{self.slug} runs on its authors' code ({self.code}) in an environment of its own: there is no bin/python "
            f"in {path} or {path / self.slug}; make one with: {self.setup_command(path)}"
        )

    def setup_command(self, path: Path) -> str:
        """Return the command that makes the model's environment below `path`."""
        return f"dyneval generate --setup {self.slug}" + ("" if path == ENVIRONMENTS else f" --external-env {path}")

    def obstacles(self, run: RunOptions) -> list[str]:
        """Return the command that makes the environment, or what the environment lacks; and a licence to accept."""
        try:
            env = self.environment(run.external_env)
        except GenerationError:
            return [self.setup_command(run.external_env), *self.gates()]
        return ([] if (env / "code").is_dir() else [f"no code/ in {env}"]) + self.gates()

    def build(self, options: BuildOptions, run: RunOptions, device: str) -> ExternalModel:
        """Start the worker. Raises GenerationError when the environment or the weights are missing."""
        return ExternalModel(self, options, run, device)
