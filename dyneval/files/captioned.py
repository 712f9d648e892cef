"""Images without a table: files, folders and archives, where each prompt is in a file beside the image or in its name.

`dyneval score IMAGES --prompt TEXT` and `--captions` come here. An image whose prompt is not found becomes a reject
with the reason, and so does a prompt whose image is not found: a pair that was matched wrongly would get a score that
looks like any other.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from dyneval.errors import DataFileError
from dyneval.files.pairs import PairRef, default_pair_id, ref_of_image
from dyneval.records import Reject

Captions = Literal["txt", "filename"]
"""txt: in a.txt beside a.png, or in `prompt`, `caption` or `text` of a.json; filename: the name, a_red_cat_2.png."""
How = str | dict[str, str]
"""One prompt, one of `CAPTIONS`, or the prompts by the names of the images."""
CAPTIONS: tuple[Captions, ...] = get_args(Captions)
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
ARCHIVES = (".zip", ".tar")
_BESIDE = (".txt", ".json")
_CAPTION_KEYS = ("prompt", "caption", "text")
# Bytes. A larger file beside an image is something else than its prompt, and is not read into memory.
_MAX_CAPTION = 1 << 20


class GatheredPairs(NamedTuple):
    """Pairs to score, the folder that their names are relative to (None: the current one), and unusable images."""

    root: Path | None
    refs: list[PairRef]
    rejects: list[Reject]


def images_in(source: Path) -> list[Path]:
    """The image files of a folder and the folders in it, sorted by name; a file stands for itself.

    Raises:
        DataFileError: the folder holds no image.
    """
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGES and path.name[0] != ".")
    if not found:
        raise DataFileError(f"{source}: holds no images ({', '.join(IMAGES)})")
    return found


def caption_map(path: Path) -> dict[str, str] | None:
    """The prompts of a JSON file like {"a.png": "a red cat"} by the names of their images; None for any other file.

    Raises:
        DataFileError: an image is named twice, so that nobody knows which prompt counts.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    twice: list[str] = []

    def object_of(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        # A hook, since a dict would silently keep the last of two prompts for one name.
        names = [name.replace("\\", "/").removeprefix("./") for name, _ in entries]
        twice.extend(name for name, times in Counter(names).items() if times > 1)
        return {name: value for name, (_, value) in zip(names, entries, strict=True)}

    try:
        found = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=object_of)
    except (ValueError, RecursionError):
        return None  # the reader of tables then says what is wrong with the file
    if not isinstance(found, dict) or any(isinstance(one, list) for one in found.values()):
        return None
    if twice:
        raise DataFileError(f"{path}: {twice[0]} stands there twice; which prompt counts is not known, remove one")
    return {name: _prompt_of(one) for name, one in found.items()}


def refs_of(images: Iterable[Path], prompt: How, is_caption: bool) -> tuple[list[PairRef], list[Reject]]:
    """Make pairs of image files and their prompts.

    Args:
        images: in the order in which they are scored; one that is named twice counts once.
        prompt: the prompt of all of them, or where the prompt of each is found.
        is_caption: True where `prompt` says where prompts are found.

    Returns:
        The pairs, and a reject for each image without a prompt and each prompt without an image.

    Raises:
        SettingError: a prompt is not UTF-8, see `dyneval.files.pairs.ref_of_image`.
    """
    refs: list[PairRef] = []
    rejects = []
    unused = dict(prompt) if isinstance(prompt, dict) else {}
    for image in dict.fromkeys(map(str, images)):
        try:
            if isinstance(prompt, dict):
                # The map may name an image by its path, by the end of its path, or without the ending of its file.
                parts = Path(image).as_posix().split("/")
                spellings = (*("/".join(parts[first:]) for first in range(len(parts))), Path(image).stem)
                name = next((one for one in spellings if one in prompt), None)
                if name is None:
                    raise DataFileError("no prompt: --captions does not name it")
                unused.pop(name, None)
                text = _not_blank(prompt[name], "--captions has no prompt for it")
            else:
                text = _caption(Path(image), prompt) if is_caption else prompt
            refs.append(ref_of_image(image, text))
        except DataFileError as error:
            rejects.append(Reject(key=image, kind="row", reason=str(error)))
    rejects += [Reject(key=name, kind="row", reason="has a prompt, and is not among the images") for name in unused]
    return refs, rejects


def unpack(archive: Path, folder: Path) -> None:
    """Write the images of a .zip or .tar, and the texts that may hold their prompts, below `folder`.

    Raises:
        DataFileError: the file is not such an archive, or the disk has too little space for it.
    """
    wanted = (*IMAGES, *_BESIDE)
    try:
        with ExitStack() as stack:
            if archive.suffix.lower() == ".zip":
                zipped = stack.enter_context(zipfile.ZipFile(archive))
                files = [one for one in zipped.infolist() if Path(one.filename).suffix.lower() in wanted]
                size = sum(one.file_size for one in files)
                extract = partial(zipped.extractall, folder, files)
            else:
                tar = stack.enter_context(tarfile.open(archive))
                members = [one for one in tar if one.isfile() and Path(one.name).suffix.lower() in wanted]
                size = sum(one.size for one in members)
                # The filter refuses names and links that lead out of the folder; zipfile does that by itself.
                extract = partial(tar.extractall, folder, members, filter="data")
            if size > shutil.disk_usage(folder).free:
                raise DataFileError(f"{archive}: takes {size / 1e9:.1f} GB unpacked, more than is free for {folder}")
            extract()
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataFileError(f"{archive}: cannot be unpacked ({error})") from error


def _caption(image: Path, how: str) -> str:
    """The prompt of an image, from its name or from a file beside it. Raises DataFileError: there is none."""
    if how == "filename":
        # Generators put a number behind the words, such as _2 or (2).
        text = re.sub(r"[_\s-]*(\(\d+\)|[_-]\d+)$", "", image.stem)
        return _not_blank(" ".join(text.replace("_", " ").split()), "its name holds no words")
    beside = next((path for suffix in _BESIDE if (path := image.with_suffix(suffix)).is_file()), None)
    if beside is None:
        if not image.exists():
            raise DataFileError("there is no such file or folder")
        raise DataFileError(f"no prompt: {image.with_suffix('.txt').name} is not beside it")
    if beside.stat().st_size > _MAX_CAPTION:
        raise DataFileError(f"{beside}: over {_MAX_CAPTION >> 20} MiB, expected a prompt")
    try:
        text = beside.read_text("utf-8-sig")
        if beside.suffix.lower() == ".json":
            text = _prompt_of(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{beside}: cannot be read as {beside.suffix[1:]} in UTF-8 ({error})") from None
    return _not_blank(text, f"{beside.name} holds no prompt")


def _not_blank(text: str, otherwise: str) -> str:
    if not text.strip():
        raise DataFileError(otherwise)
    return text.strip()


def _prompt_of(value: object) -> str:
    """A JSON text, or the text that an object has for a prompt; "" where there is none."""
    found = [value.get(key) for key in _CAPTION_KEYS] if isinstance(value, dict) else [value]
    return next((one for one in found if isinstance(one, str)), "")


def gather(paths: Sequence[Path], prompt: How, is_caption: bool, folder: Path) -> GatheredPairs:
    """Make pairs of all images in files and folders, or in archives.

    Args:
        paths: files and folders, or archives alone.
        prompt: see `refs_of`.
        is_caption: see `refs_of`.
        folder: an empty folder into which archives are unpacked.

    Raises:
        DataFileError: a folder or archive holds no images or cannot be read, or `paths` mixes archives and images.
        SettingError: see `refs_of`.
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
    # Named as in the archive: its folder here is another one in each run, and with it the pair_id would change.
    names = [Path(ref.file_name).relative_to(folder).as_posix() for ref in refs]
    renamed = [
        ref._replace(file_name=name, pair_id=default_pair_id(ref.prompt, name))
        for ref, name in zip(refs, names, strict=True)
    ]
    return GatheredPairs(folder, renamed, rejects)
