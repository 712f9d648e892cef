"""Data sets of ours on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyneval.errors import UserError


class HubError(UserError, RuntimeError):
    """The Hub does not take a data set; the message says what is there all the same, and why."""


def open_dataset(repository: str, private: bool = False) -> str:
    """Make a dataset repository, or find it, before hours are spent; returns its id.

    Args:
        repository: USER/NAME.
        private: it must be private: a public one of that name is refused.

    Raises:
        HubError: the Hub cannot be reached, knows no token, does not let it write there, or shows it to everyone.
    """
    from huggingface_hub import HfApi

    try:
        made = HfApi().create_repo(repository, repo_type="dataset", private=private or None, exist_ok=True)
        is_open = private and not HfApi().dataset_info(made.repo_id).private
    except Exception as error:  # of the client library, of its transport, of the name: each has kinds of its own
        raise _refused(f"{repository}: cannot be made on the Hub", error) from error
    if is_open:
        raise HubError(
            f"{repository}: is there already, and public; make it private in its settings on the Hub, name another "
            "one, or leave out --private"
        )
    return made.repo_id


def push_dataset(folder: Path, repository: str, patterns: Sequence[str], message: str) -> str:
    """Upload a dataset folder in the place of what an earlier upload left there; returns its address.

    Args:
        folder: with a card, README.md.
        repository: as `open_dataset` returns it.
        patterns: files to upload: whatever else lies there is not ours to publish. Files of the repository that fit
            them and are not in the folder are deleted: shards of another data set would be read with these.
        message: of the commit.

    Raises:
        HubError: the upload failed.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="dataset",
            commit_message=message,
            allow_patterns=list(patterns),
            delete_patterns=list(patterns),
        )
    except Exception as error:  # see above
        raise _refused(f"{folder}: written, but not uploaded to {repository}", error) from error
    return f"{HfApi().endpoint}/datasets/{repository}"


def _refused(what: str, error: Exception) -> HubError:
    reason = " ".join(str(error).split())[:400]
    return HubError(
        f"{what} ({type(error).__name__}: {reason}); the token comes from HF_TOKEN or `hf auth login`; the same "
        "command tries again"
    )
