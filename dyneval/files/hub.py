"""Read files from the Hugging Face Hub where a path is expected, and upload results to a repository.

A path may be an address of the Hub, as other libraries write it: hf://datasets/USER/NAME@REVISION/folder/file.jsonl;
without `datasets/` it is a repository of models, and without a file it is the whole repository. A repository to upload
to is opened before the work begins: a missing token would otherwise show only after hours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote

from dyneval.errors import UserError
from dyneval.flags import arg, flags_of

logger = logging.getLogger(__name__)
Kind = Literal["model", "dataset"]
T = TypeVar("T")

# Flags that name what is written; an address of the Hub there would make a local folder called "hf:".
_WRITTEN = ("--output", "--csv", "--parquet")
_ADDRESS = re.compile(
    r"hf://(?P<kind>datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<inside>.+?)/?)?"
)


class HubError(UserError, RuntimeError):
    """The Hub refused, or could not be reached; the message says why, and which files are here all the same."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that this machine may write to."""

    name: str
    kind: Kind

    @classmethod
    def open(cls, name: str, kind: Kind, private: bool = False) -> Repository:
        """Make a repository, or find the one of that name.

        Args:
            name: USER/NAME, or NAME of the token's own user.
            kind: whether it holds a model or a data set.
            private: it must be private; a public one of that name is refused.

        Raises:
            HubError: the Hub cannot be reached, there is no token or one that may not write there, or the repository is
                public and should not be.
        """
        from huggingface_hub import HfApi

        try:
            made = HfApi().create_repo(name, repo_type=kind, private=private or None, exist_ok=True).repo_id
            is_open = private and not HfApi().repo_info(made, repo_type=kind).private
        except Exception as error:  # the client library, its transport and its check of names share no base class
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
        place: str | None = None,
    ) -> str:
        """Upload a folder as one commit; returns the address of the repository.

        Args:
            folder: what to upload, with a card, README.md.
            message: of the commit.
            patterns: names of files to upload, such as "*.parquet"; other files in the folder may be private. Files of
                the repository that fit the patterns and are not in the folder are deleted: shards of an earlier data
                set would be read together with these.
            without: files that are not uploaded.
            branch: of the repository; it is made where it is missing.
            place: folder of the repository to upload to; None: the repository itself.

        Raises:
            HubError: the upload failed; the folder on this machine is complete.
        """
        from huggingface_hub import HfApi

        taken = list(patterns) if patterns else None
        try:
            if branch:
                HfApi().create_branch(self.name, branch=branch, repo_type=self.kind, exist_ok=True)
            HfApi().upload_folder(
                repo_id=self.name,
                folder_path=folder,
                path_in_repo=place,
                repo_type=self.kind,
                commit_message=message,
                revision=branch,
                allow_patterns=taken,
                delete_patterns=taken,
                ignore_patterns=list(without),
            )
        except Exception as error:  # as in `open`
            raise _refused(f"{folder}: written, but not uploaded to {self.name}", error) from error
        return f"{HfApi().endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def add_results(self, benchmark: str, title: str, values: Mapping[str, tuple[str, float]]) -> None:
        """Write evaluation results into the front matter of the model's card; the Hub shows them beside the model.

        The rest of the card stays as it is. Results of the same benchmark are replaced.

        Args:
            benchmark: short name of the data, for programs.
            title: name of the data, for people.
            values: name and value of each metric, by its kind, such as spearmanr.

        Raises:
            HubError: the card cannot be read or written.
        """
        from huggingface_hub import EvalResult, metadata_update
        from huggingface_hub.repocard_data import eval_results_to_model_index

        results = [
            EvalResult(
                task_type="image-text-to-text",
                task_name="judging generated images",
                dataset_type=benchmark,
                dataset_name=title,
                metric_type=kind,
                metric_name=name,
                metric_value=value,
            )
            for kind, (name, value) in values.items()
        ]
        index = eval_results_to_model_index(self.name.rpartition("/")[2], results)
        try:
            metadata_update(self.name, {"model-index": index}, repo_type=self.kind, overwrite=True)
        except Exception as error:  # as in `open`
            raise _refused(f"the results cannot be noted in the card of {self.name}", error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOptions:
    """Flags of a verb that uploads what it has written."""

    push_to_hub: Annotated[
        str | None,
        arg("then upload it there; the token comes from HF_TOKEN", also="--push_to_hub", metavar="USER/NAME"),
    ] = None
    private: Annotated[bool, arg("make that repository private")] = False

    def open(self, kind: Kind) -> Repository | None:
        """Open the repository, before the work begins; None where nothing is to be uploaded. Raises HubError."""
        return Repository.open(self.push_to_hub, kind, self.private) if self.push_to_hub else None


def fetched(options: T) -> T:
    """Fetch all files of the Hub that the options of a verb name.

    Args:
        options: a dataclass; its fields, and those of dataclasses in it, may be addresses, alone or in tuples.

    Returns:
        The options with paths on this machine.

    Raises:
        HubError: a file cannot be fetched, or an output has an address of the Hub.
    """
    found: dict[str, Any] = {}
    kind: Any = type(options)
    for flag in flags_of(kind):
        value = getattr(options, flag.option)
        if (flag.name in _WRITTEN or "written" in flag.how) and is_address(value):
            raise HubError(f"{flag.name}: is written to this machine; --push-to-hub uploads, of verbs that have it")
        # A checkpoint stays an address: loading it knows its repository, whose commit goes into the scores.
        found[flag.option] = value if flag.option == "checkpoint" else _fetched(value)
    return replace(options, **found)  # type: ignore[type-var]


def is_address(path: object) -> bool:
    """True for a path, or a text, that is an address of the Hub."""
    return isinstance(path, str | Path) and str(path).startswith("hf:/")  # one slash: `Path` makes one of two


def _fetched(value: Any) -> Any:
    if is_address(value):
        return type(value)(fetch(Path(value)))
    if is_dataclass(value):
        return fetched(value)
    return tuple(map(_fetched, value)) if isinstance(value, tuple) else value


def fetch(address: Path) -> Path:
    """Bring a file or folder of the Hub into the local cache, and return its path there.

    What is in the cache is not fetched again; otherwise the size is logged first. Without network only the cache is
    used.

    Raises:
        HubError: `address` is not one of the Hub, there is no such file, or it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    text = address.as_posix().replace("hf:/", "hf://", 1)
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise HubError(f"{text}: expected hf://datasets/USER/NAME[@REVISION][/PATH], or hf://USER/NAME of models")
    kind = "dataset" if match["kind"] else "model"
    inside = match["inside"] or ""
    asked: dict[str, Any] = {"repo_type": kind, "revision": match["revision"] and unquote(match["revision"])}
    if inside:
        asked["allow_patterns"] = [inside, f"{inside}/*"]
    try:
        with suppress(DryRunError):  # the Hub cannot be reached; the cache may have the files
            files = [one for one in snapshot_download(match["name"], **asked, dry_run=True) if one.will_download]
            if size := sum(one.file_size for one in files):
                logger.info("%s: %d files, %.1f MB, are fetched from the Hub", text, len(files), size / 1e6)
        found = Path(snapshot_download(match["name"], **asked), inside)
    except Exception as error:  # as in `Repository.open`
        raise _refused(f"{text}: cannot be fetched", error, hint="") from error
    # A pattern that fits nothing is no error to the client library.
    if not found.exists():
        raise HubError(f"{text}: there is no such file in the repository")
    return found


def _refused(
    what: str,
    error: Exception,
    hint: str = "; the token comes from HF_TOKEN or `hf auth login`; the same command tries again",
) -> HubError:
    # On one line and cut: errors of the client library quote whole pages of HTML.
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return HubError(f"{what} ({reason}){hint}")
