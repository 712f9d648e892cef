"""The engines of students by name, and the options of each; an engine is imported only when it is made.

The flags of `--engine` are made from the options here, so `--help` knows all engines without importing torch or vLLM. A
new engine for all users is an `EngineEntry` in STUDENTS; one of your own needs none (`--engine module:Class`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from dyneval.errors import CheckpointError
from dyneval.llm.registry import ServerOptions, VllmEngineOptions
from dyneval.registry import EngineEntry, Registry

if TYPE_CHECKING:
    from dyneval.processing import Processor
    from dyneval.scorer.students.base import AnyStudent


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The student that an engine is made of: where it is, and how it is to be loaded."""

    path: str | Path
    """Folder, or Hub repository id."""
    subfolder: str | None = None
    """Folder of the student inside it."""
    commit: str | None = None
    """Commit of the repository that everything is loaded from."""
    dtype: str | None = None
    """"bfloat16", "float16" or "float32"; None leaves it to the engine."""
    min_pixels: int | None = None
    """Smallest image area; None: the checkpoint's."""
    max_pixels: int | None = None
    """Largest image area; None: the checkpoint's."""

    @property
    def name(self) -> str:
        """Name of the student as it stands in score files."""
        from dyneval.scorer.loading import checkpoint_name

        return checkpoint_name(self.path, self.subfolder)

    def processor(self) -> Processor:
        """Load what scoring needs beside the weights. Raises CheckpointError: there is no DynEval student."""
        from dyneval.scorer.loading import load_processor

        return load_processor(self.path, self.subfolder, self.min_pixels, self.max_pixels, self.commit)

    def revision(self) -> str | None:
        """Identity of the weights, see `student_revision`; all bytes of a local checkpoint are read."""
        from dyneval.scorer.loading import student_revision

        return student_revision(self.path, self.subfolder, self.commit)

    def folder(self) -> str:
        """Return the student's folder on this machine, fetched where it is on the Hub.

        For programs that know no subfolders of repositories, such as vLLM.

        Raises:
            CheckpointError: it cannot be fetched.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        if Path(self.path).is_dir():
            return str(Path(self.path, self.subfolder or ""))
        # Of a repository of several students only the one that is wanted: each has gigabytes.
        taken, left = (f"{self.subfolder}/*", None) if self.subfolder else (None, "*/*")
        try:
            found = snapshot_download(str(self.path), revision=self.commit, allow_patterns=taken, ignore_patterns=left)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(f"{self.path}: cannot be fetched ({str(error).splitlines()[0]})") from error
        return str(Path(found, self.subfolder or ""))


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalOptions:
    """Options of engine transformers."""

    device: Annotated[str | None, Meta(description="torch device; default: the first GPU, else the CPU")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentServerOptions(ServerOptions):
    """Options of engine openai: servers that have the student, which do not give scores without its schemas."""

    base_urls: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="a server that has this checkpoint, http://host:8000/v1",
            extra={"flag": "base-url"},
        ),
    ]
    served_model: Annotated[str | None, Meta(description="the server's name for it; default: the checkpoint")] = None
    api_key_env: Annotated[
        str | None,
        Meta(description="environment variable that holds the server's key", extra={"metavar": "NAME"}),
    ] = None
    needs_schema: Annotated[bool, Meta(description="a reply that is not held to its schema is of no use")] = True


STUDENTS: Registry[AnyStudent] = Registry(
    "student engine",
    ("prepare", "read", "answer"),
    {
        "transformers": EngineEntry(target="dyneval.scorer.students.local:load", options=LocalOptions),
        "vllm": EngineEntry(target="dyneval.scorer.students.vllm:VllmStudent", options=VllmEngineOptions),
        "openai": EngineEntry(
            target="dyneval.scorer.students.openai:OpenAIStudent",
            options=StudentServerOptions,
            flags=("base_urls", "served_model", "api_key_env"),
        ),
    },
)
"""Each is made of a `Checkpoint`, and its options."""


def make_student(engine: str, checkpoint: Checkpoint, **options: Any) -> AnyStudent:
    """Make the engine of a student.

    Args:
        engine: name in STUDENTS, or "module:Class".
        checkpoint: the student.
        options: of the engine, the fields of its options here.

    Raises:
        CheckpointError: there is no DynEval student to load.
        SettingError: no such engine, or an option that it refuses.
    """
    return STUDENTS.make(engine, checkpoint, STUDENTS.options(engine, **options))
