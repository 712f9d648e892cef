"""The Hugging Face Hub: its files where a path is taken, and repositories of ours, made before hours are spent.

A path may be an address of the Hub, as other libraries write it: hf://datasets/USER/NAME@REVISION/folder/file.jsonl,
without `datasets/` of a repository of models, without the rest for all of a repository.
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

_WRITTEN = ("--output", "--csv", "--parquet")
_ADDRESS = re.compile(
    r"hf://(?P<kind>datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<inside>.+?)/?)?"
)


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
        place: str | None = None,
    ) -> str:
        """Upload a folder as one commit; returns the address of the repository.

        Args:
            folder: with a card, README.md.
            message: of the commit.
            patterns: files to upload: whatever else lies there is not ours to publish. Files of the repository that fit
                them and are not in the folder are deleted: shards of another data set would be read with these.
            without: files that stay here.
            branch: of the repository, made where there is none.
            place: folder of the repository that it becomes; None: the repository itself.

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
                path_in_repo=place,
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

    def add_results(self, benchmark: str, title: str, values: Mapping[str, tuple[str, float]]) -> None:
        """Write evaluation results into the front matter of the model's card, which the Hub shows beside the model.

        The rest of the card stays; results of the same benchmark are replaced.

        Args:
            benchmark: short name of the data.
            title: their name for people.
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
        except Exception as error:  # see above
            raise _refused(f"the results cannot be noted in the card of {self.name}", error) from error


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


def fetched(options: T) -> T:
    """The options of a verb, a dataclass, with the files of the Hub that its paths name brought to this machine.

    Raises:
        HubError: one cannot be fetched, or what is to be written has an address of the Hub.
    """
    found: dict[str, Any] = {}
    kind: Any = type(options)
    for flag in flags_of(kind):
        value = getattr(options, flag.option)
        if (flag.name in _WRITTEN or "written" in flag.how) and is_address(value):
            raise HubError(f"{flag.name}: is written to this machine; --push-to-hub uploads, of verbs that have it")
        found[flag.option] = value if flag.option == "checkpoint" else _fetched(value)  # those know their repository
    return replace(options, **found)  # type: ignore[type-var]


def is_address(path: object) -> bool:
    """True of a path, or a text, that is an address of the Hub; `Path` makes one slash of two."""
    return isinstance(path, str | Path) and str(path).startswith("hf:/")


def _fetched(value: Any) -> Any:
    if is_address(value):
        return type(value)(fetch(Path(value)))
    if is_dataclass(value):
        return fetched(value)
    return tuple(map(_fetched, value)) if isinstance(value, tuple) else value


def fetch(address: Path) -> Path:
    """Bring a file or folder of the Hub into its cache, and return where it is there.

    What is in the cache is not fetched again; its size is told before. Without the Hub the cache is all there is.

    Raises:
        HubError: it is no address, there is no such file, or it cannot be fetched.
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
        with suppress(DryRunError):  # no Hub: the cache may have it
            _tell_size(text, match["name"], asked)
        found = Path(snapshot_download(match["name"], **asked), inside)
    except Exception as error:  # see below
        raise HubError(f"{text}: cannot be fetched ({_reason(error)})") from error
    if not found.exists():
        raise HubError(f"{text}: there is no such file in the repository")
    return found


def _tell_size(text: str, name: str, asked: Mapping[str, Any]) -> None:
    from huggingface_hub import snapshot_download

    files = [one for one in snapshot_download(name, **asked, dry_run=True) if one.will_download]
    if size := sum(one.file_size for one in files):
        logger.info("%s: %d files, %.1f MB, are fetched from the Hub", text, len(files), size / 1e6)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _refused(what: str, error: Exception) -> HubError:
    return HubError(
        f"{what} ({_reason(error)}); the token comes from HF_TOKEN or `hf auth login`; the same command tries again"
    )
