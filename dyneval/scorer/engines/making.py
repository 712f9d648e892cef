"""The one place that knows the engines of students by name; each is imported only when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyneval.errors import CheckpointError, SettingError
from dyneval.scorer.engines.base import Engine
from dyneval.scorer.loading import checkpoint_name, load_processor, load_student
from dyneval.scorer.revision import hub_commit, student_revision


def make_student(
    engine: str,
    checkpoint: str | Path,
    subfolder: str | None,
    *,
    device: str | None,
    dtype: str | None,
    min_pixels: int | None,
    max_pixels: int | None,
    options: dict[str, Any],
) -> tuple[Engine, str | None]:
    """Build the engine `engine`, as described at `Scorer.from_pretrained`; returns it and the student's revision.

    Raises:
        CheckpointError: there is no DynEval student to load.
        SettingError: no such engine, or an option that it refuses.
    """
    commit = hub_commit(checkpoint, subfolder)
    pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
    if engine == "transformers":
        from dyneval.scorer.engines.local import TransformersStudent

        model, processor = load_student(
            checkpoint, subfolder, device=device, dtype=dtype, commit=commit, **pixels, **options
        )
        return TransformersStudent(model, processor), student_revision(checkpoint, subfolder, commit)
    if device is not None:
        raise SettingError(f"--device goes with --engine transformers, not with {engine}")
    processor = load_processor(checkpoint, subfolder, **pixels, commit=commit)
    if engine == "vllm":
        from dyneval.scorer.engines.vllm import VllmStudent

        folder = _local(checkpoint, subfolder, commit)
        return VllmStudent(processor, folder, dtype=dtype, **options), student_revision(checkpoint, subfolder, commit)
    if engine == "openai":
        from dyneval.scorer.engines.openai import OpenAIStudent

        if dtype is not None:
            raise SettingError("--dtype is the server's to choose with --engine openai")
        model_name = options.pop("served_model", None) or checkpoint_name(checkpoint, subfolder)
        return OpenAIStudent(processor, model_name, **options), None  # which weights a server has it does not say
    raise SettingError(f"engine {engine!r}: expected transformers, vllm or openai")


def _local(checkpoint: str | Path, subfolder: str | None, commit: str | None) -> str:
    """The student's folder on this machine; vLLM knows no subfolders of repositories."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if Path(checkpoint).is_dir():
        return str(Path(checkpoint, subfolder or ""))
    taken, left = (f"{subfolder}/*", None) if subfolder else (None, "*/*")
    try:
        found = snapshot_download(str(checkpoint), revision=commit, allow_patterns=taken, ignore_patterns=left)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"{checkpoint}: cannot be fetched ({str(error).splitlines()[0]})") from error
    return str(Path(found, subfolder or ""))
