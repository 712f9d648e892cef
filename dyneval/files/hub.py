"""Repositories of ours on the Hugging Face Hub: made before hours are spent, filled when the work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dyneval.errors import UserError
from dyneval.flags import arg

Kind = Literal["model", "dataset"]


class HubError(UserError, RuntimeError):
    """The Hub does not take or give what it was asked for; the message says what is there all the same, and why."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that this machine may write to."""

    name: str
    kind: Kind

    @classmethod
    def open(cls, name: str, kind: Kind, private: bool = False) -> Repository:
        """Make a repository, or find it.

        Args:
            name: USER/NAME, or NAME of one's own.
            kind: what it holds.
            private: it must be private: a public one of that name is refused.

        Raises:
            HubError: the Hub cannot be reached, knows no token, does not let it write there, or shows it to everyone.
        """
        from huggingface_hub import HfApi

        try:
            made = HfApi().create_repo(name, repo_type=kind, private=private or None, exist_ok=True).repo_id
            is_open = private and not HfApi().repo_info(made, repo_type=kind).private
        except Exception as error:  # of the client library, of its transport, of the name: each has kinds of its own
            raise _refused(f"{name}: cannot be made on the Hub", error) from error
        if is_open:
            raise HubError(
                f"{made}: is there already, and public; make it private in its settings on the Hub, name another one, "
                "or do not ask for a private one"
            )
        return cls(made, kind)

    def upload(
        self,
        folder: Path,
        message: str,
        patterns: Sequence[str] | None = None,
        without: Sequence[str] = (),
        branch: str | None = None,
    ) -> str:
        """Upload a folder as one commit; returns the address of the repository.

        Args:
            folder: with a card, README.md.
            message: of the commit.
            patterns: files to upload: whatever else lies there is not ours to publish. Files of the repository that fit
                them and are not in the folder are deleted: shards of another data set would be read with these.
            without: files that stay here.
            branch: of the repository, made where there is none.

        Raises:
            HubError: the upload failed; the folder is whole all the same.
        """
        from huggingface_hub import HfApi

        taken = list(patterns) if patterns else None
        try:
            if branch:
                HfApi().create_branch(self.name, branch=branch, repo_type=self.kind, exist_ok=True)
            HfApi().upload_folder(
                repo_id=self.name,
                folder_path=folder,
                repo_type=self.kind,
                commit_message=message,
                revision=branch,
                allow_patterns=taken,
                delete_patterns=taken,
                ignore_patterns=list(without),
            )
        except Exception as error:  # see above
            raise _refused(f"{folder}: written, but not uploaded to {self.name}", error) from error
        return f"{HfApi().endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOptions:
    """Flags of a verb that uploads what it wrote."""

    push_to_hub: Annotated[
        str | None,
        arg("then upload it there; the token comes from HF_TOKEN", also="--push_to_hub", metavar="USER/NAME"),
    ] = None
    private: Annotated[bool, arg("make that repository private")] = False

    def open(self, kind: Kind) -> Repository | None:
        """The repository, made before the work begins; None where nothing is uploaded. Raises HubError."""
        return Repository.open(self.push_to_hub, kind, self.private) if self.push_to_hub else None


def _refused(what: str, error: Exception) -> HubError:
    reason = " ".join(str(error).split())[:400]
    return HubError(
        f"{what} ({type(error).__name__}: {reason}); the token comes from HF_TOKEN or `hf auth login`; the same "
        "command tries again"
    )
