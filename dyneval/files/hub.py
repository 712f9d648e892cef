"""Data sets of ours on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyneval.errors import UserError


class HubError(UserError, RuntimeError):
    """An upload failed; the message says what is there all the same, and why."""


def push_dataset(folder: Path, repository: str, patterns: Sequence[str], message: str, private: bool = False) -> str:
    """Upload a dataset folder; returns its address.

    Args:
        folder: with a card, README.md.
        repository: USER/NAME; made where it is not there.
        patterns: files to upload: whatever else lies there is not ours to publish.
        message: of the commit.
        private: make the dataset private.

    Raises:
        HubError: the Hub cannot be reached, knows no token, or does not let it write there.
    """
    from huggingface_hub import HfApi

    try:
        made = HfApi().create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        HfApi().upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            repo_type="dataset",
            commit_message=message,
            allow_patterns=list(patterns),
        )
    except Exception as error:  # of the client library, of its transport, of the name: each has kinds of its own
        reason = " ".join(str(error).split())[:400]
        raise HubError(
            f"{folder}: written, but not uploaded to {repository} ({type(error).__name__}: {reason}); the token comes "
            "from HF_TOKEN or `hf auth login`"
        ) from error
    return made.url
