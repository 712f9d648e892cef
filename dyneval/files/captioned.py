"""Images without a table: files, folders and archives, each image with its prompt beside it or in its name."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from dyneval.errors import DataFileError
from dyneval.files.pairs import PairRef, default_pair_id, ref_of_image
from dyneval.records import Reject

Captions = Literal["txt", "filename"]
"""txt: in a.txt beside a.png, or in `prompt`, `caption` or `text` of a.json; filename: the name, a_red_cat_2.png."""
How = str | dict[str, str]
"""One of `CAPTIONS`, or the prompts by the names of the images."""
CAPTIONS: tuple[Captions, ...] = get_args(Captions)
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
ARCHIVES = (".zip", ".tar")
_BESIDE = (".txt", ".json")
_CAPTION_KEYS = ("prompt", "caption", "text")
_MAX_CAPTION = 1 << 20


class GatheredPairs(NamedTuple):
    """Pairs to score: the folder that their names are relative to (None: the current one), and what has no prompt."""

    root: Path | None
    refs: list[PairRef]
    rejects: list[Reject]


def images_in(source: Path) -> list[Path]:
    """The image files of a folder and the folders in it, by name; a file stands for itself.

    Raises DataFileError: the folder holds no image.
    """
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGES and path.name[0] != ".")
    if not found:
        raise DataFileError(f"{source}: holds no images ({', '.join(IMAGES)})")
    return found


def caption_map(path: Path) -> dict[str, str] | None:
    """The prompts of a JSON file like {"a.png": "a red cat"} by the names of their images; None of any other file.

    Raises DataFileError: an image is named twice, so which prompt counts is not known.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    twice: list[str] = []

    def object_of(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name.replace("\\", "/").removeprefix("./") for name, _ in entries]
        twice.extend(name for name, times in Counter(names).items() if times > 1)
        return {name: value for name, (_, value) in zip(names, entries, strict=True)}

    try:
        found = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=object_of)
    except (ValueError, RecursionError):
        return None  # for the reader of tables to tell
    if not isinstance(found, dict) or any(isinstance(one, list) for one in found.values()):
        return None
    if twice:
        raise DataFileError(f"{path}: {twice[0]} stands there twice; which prompt counts is not known, remove one")
    return {name: _prompt_of(one) for name, one in found.items()}


def refs_of(images: Iterable[Path], prompt: How, is_caption: bool) -> tuple[list[PairRef], list[Reject]]:
    """The pairs of image files, and what is wrong with those that have no prompt.

    Args:
        images: in the order in which they are scored; one that is named twice counts once.
        prompt: the prompt of all of them, or where that of each is to be found.
        is_caption: it is the latter.
    """
    refs: list[PairRef] = []
    rejects = []
    unused = dict(prompt) if isinstance(prompt, dict) else {}
    for image in dict.fromkeys(map(str, images)):
        try:
            if isinstance(prompt, dict):
                name = _name_in(prompt, Path(image))
                unused.pop(name, None)
                text = _said(prompt[name], "--captions has no prompt for it")
            else:
                text = _caption(Path(image), prompt) if is_caption else prompt
            refs.append(ref_of_image(image, text))
        except DataFileError as error:
            rejects.append(Reject(key=image, kind="row", reason=str(error)))
    rejects += [Reject(key=name, kind="row", reason="has a prompt, and is not among the images") for name in unused]
    return refs, rejects


def _name_in(prompts: dict[str, str], image: Path) -> str:
    """What an image is called in a map: by its path, by the end of it, or without its ending."""
    parts = image.as_posix().split("/")
    ends = ["/".join(parts[first:]) for first in range(len(parts))]
    for name in (*ends, image.stem):
        if name in prompts:
            return name
    raise DataFileError("no prompt: --captions does not name it")


def unpack(archive: Path, folder: Path) -> None:
    """Write the images of a .zip or .tar, and the texts that may hold their prompts, below `folder`.

    Raises DataFileError: it is no such archive, or the disk is too small for it.
    """
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as packed:
                files = [one for one in packed.infolist() if _is_wanted(one.filename)]
                _check_room(archive, folder, sum(one.file_size for one in files))
                packed.extractall(folder, files)
        else:
            with tarfile.open(archive) as packed_tar:
                members = [one for one in packed_tar if one.isfile() and _is_wanted(one.name)]
                _check_room(archive, folder, sum(one.size for one in members))
                packed_tar.extractall(folder, members, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataFileError(f"{archive}: cannot be unpacked ({error})") from error


def _is_wanted(name: str) -> bool:
    return Path(name).suffix.lower() in (*IMAGES, *_BESIDE)


def _check_room(archive: Path, folder: Path, size: int) -> None:
    if size > shutil.disk_usage(folder).free:
        raise DataFileError(f"{archive}: takes {size / 1e9:.1f} GB unpacked, more than is free for {folder}")


def _caption(image: Path, how: str) -> str:
    """The prompt of an image. Raises DataFileError: there is none."""
    if how == "filename":
        # What generators put behind the words: a number, "(2)".
        text = re.sub(r"[_\s-]*(\(\d+\)|[_-]\d+)$", "", image.stem)
        return _said(" ".join(text.replace("_", " ").split()), "its name holds no words")
    for beside in (image.with_suffix(suffix) for suffix in _BESIDE):
        if beside.is_file():
            return _said(_text_in(beside), f"{beside.name} holds no prompt")
    if not image.exists():
        raise DataFileError("there is no such file or folder")
    raise DataFileError(f"no prompt: {image.with_suffix('.txt').name} is not beside it")


def _said(text: str, otherwise: str) -> str:
    if not text.strip():
        raise DataFileError(otherwise)
    return text.strip()


def _text_in(path: Path) -> str:
    if path.stat().st_size > _MAX_CAPTION:
        raise DataFileError(f"{path}: over {_MAX_CAPTION >> 20} MiB, expected a prompt")
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".txt":
            return text
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: cannot be read as {path.suffix[1:]} in UTF-8 ({error})") from None
    return _prompt_of(said)


def _prompt_of(said: object) -> str:
    """A text, or the text that an object has for a prompt; "" where there is none."""
    found = [said.get(key) for key in _CAPTION_KEYS] if isinstance(said, dict) else [said]
    return next((one for one in found if isinstance(one, str)), "")


def gather(paths: Sequence[Path], prompt: How, is_caption: bool, folder: Path) -> GatheredPairs:
    """The pairs of image files, of folders, or of archives.

    Args:
        paths: files and folders, or archives alone.
        prompt: see `refs_of`.
        is_caption: see `refs_of`.
        folder: empty; archives are unpacked there.

    Raises:
        DataFileError: a folder or archive holds no images or cannot be read, or archives stand among images.
    """
    archives = [path for path in paths if path.suffix.lower() in ARCHIVES and path.is_file()]
    if not archives:
        return GatheredPairs(None, *refs_of((image for path in paths for image in images_in(path)), prompt, is_caption))
    if len(archives) < len(paths):
        raise DataFileError(f"{archives[0]}: an archive cannot be scored together with images; score it alone")
    for archive in archives:
        inside = folder / archive.stem
        inside.mkdir(parents=True)
        unpack(archive, inside)
    refs, rejects = refs_of(images_in(folder), prompt, is_caption)
    return GatheredPairs(folder, [_inside(folder, one) for one in refs], rejects)


def _inside(folder: Path, ref: PairRef) -> PairRef:
    """Named as in its archive: the folder that it was unpacked into is another one each time."""
    name = Path(ref.file_name).relative_to(folder).as_posix()
    return ref._replace(file_name=name, pair_id=default_pair_id(ref.prompt, name))
