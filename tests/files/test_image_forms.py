"""The same picture in every form gives the same pixels; what is no picture is refused with what was expected."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dyneval.errors import ImageError
from dyneval.files.image_forms import each_image, in_list, read_image
from dyneval.files.images import MAX_PIXELS


def saved(kind, image, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


COLOUR = Image.merge("RGB", [Image.linear_gradient("L").resize((40, 24)).rotate(turn) for turn in (0, 90, 180)])
INK = COLOUR.copy()
INK.putalpha(Image.radial_gradient("L").resize((40, 24)))
DEEP = Image.fromarray(np.asarray(COLOUR.convert("L")).astype(np.uint16) * 257)
PICTURES = {
    "rgb.png": saved("PNG", COLOUR),
    "turned.jpg": saved("JPEG", COLOUR, exif=turned(6)),
    "turned.tif": saved("TIFF", COLOUR, exif=turned(3)),
    "turned.webp": saved("WEBP", INK, exif=turned(8)),
    "alpha.png": saved("PNG", INK),
    "grey-alpha.png": saved("PNG", INK.convert("LA")),
    "palette.png": saved("PNG", INK.quantize(16)),
    "moving.gif": saved("GIF", INK, save_all=True, append_images=[COLOUR.rotate(180)]),
    "moving.png": saved("PNG", INK, save_all=True, append_images=[INK.rotate(180)]),
    "moving.webp": saved("WEBP", INK, save_all=True, append_images=[INK.rotate(180)]),
    "print.jpg": saved("JPEG", COLOUR.convert("CMYK")),
    "bits.png": saved("PNG", COLOUR.convert("1")),
    "deep.png": saved("PNG", DEEP),
    "deep.tif": saved("TIFF", DEEP),
    "float.tif": saved("TIFF", Image.fromarray(np.asarray(DEEP).astype(np.float32) / 65535)),
    "whole.tif": saved("TIFF", Image.fromarray(np.asarray(DEEP).astype(np.int32) // 257)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_all_forms_of_a_file_are_one_picture(tmp_path, name):
    content, path = PICTURES[name], tmp_path / name
    path.write_bytes(content)
    loaded = Image.open(path)
    loaded.load()
    spent = io.BytesIO(content)
    spent.seek(0, io.SEEK_END)
    first = read_image(path, "first")
    with path.open("rb") as file:
        forms = {
            "text": str(path),
            "bytes": content,
            "bytearray": bytearray(content),
            "memoryview": memoryview(content),
            "BytesIO at its end": spent,
            "open file": file,
            "bytes of datasets": {"bytes": content, "path": "elsewhere.png"},
            "path of datasets": {"bytes": None, "path": str(path)},
            "lazily opened": Image.open(path),
            "opened from memory": Image.open(io.BytesIO(content)),
            "loaded": loaded,
        }
        for form, image in forms.items():
            found = read_image(image, form)
            assert found.image.mode == "RGB", form
            assert (found.image.size, found.image.tobytes()) == (first.image.size, first.image.tobytes()), form
            of_file = not isinstance(image, Image.Image)
            assert found.file_hash == (hashlib.sha256(content).hexdigest() if of_file else None), form


@pytest.mark.parametrize("name", ["rgb.png", "alpha.png", "grey-alpha.png", "bits.png", "deep.png", "float.tif"])
def test_the_array_of_a_file_is_the_same_picture(name):
    expected = read_image(PICTURES[name], name).image.tobytes()
    pixels = np.asarray(Image.open(io.BytesIO(PICTURES[name])))
    forms = [pixels, np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]]
    if pixels.dtype == np.uint8:
        forms += [pixels / 255, (pixels / 255).astype(np.float32), pixels.astype(np.int64), pixels.astype(">u2") * 257]
    if pixels.shape[2:] in ((), (3,)):
        forms += [torch.from_numpy(form.copy()).reshape(24, 40, -1).permute(2, 0, 1) for form in forms[:3]]
    for form in forms:
        assert read_image(form, "array").image.tobytes() == expected


def test_a_range_that_is_said_holds_for_arrays_and_leaves_files_alone():
    picture = PICTURES["rgb.png"]
    expected = read_image(picture, "file", value_range=(-1, 1)).image.tobytes()
    tensor = torch.from_numpy(np.asarray(COLOUR).copy()).permute(2, 0, 1).float() / 127.5 - 1
    assert read_image(tensor, "tensor", value_range=(-1, 1)).image.tobytes() == expected


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "found NoneType, expected a path"),
        (3, "found int"),
        ([COLOUR], "found list"),
        (b"no picture", "not an image file"),
        (b"", "not an image file"),
        ({}, "a dict without `bytes` and `path`"),
        ({"bytes": None, "path": None}, "a dict without"),
        ({"path": 3}, "a dict without"),
        ("gone.png", "no such image file"),
        ("nul\0byte.png", "no such image file|no file can have this name"),
        (io.StringIO("text"), "a file that is read as str, expected bytes"),
        (np.zeros((3, 9, 9)), "shape"),
        (torch.zeros(9, 9, 3), "shape"),
        (torch.full((3, 9, 9), torch.nan), "NaN"),
        (np.float32(0.5), "shape"),
        (Image.new("RGB", (0, 9)), "0x9 pixels"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_picture_is_refused(image, found):
    with pytest.raises(ImageError, match=rf"^(which|gone\.png|nul.*): .*({found})"):
        read_image(image, image if isinstance(image, str) else "which")


def test_a_stream_that_can_only_be_read_is_read():
    class Stream:
        def __init__(self, content):
            self.read = io.BytesIO(content).read

    expected = read_image(PICTURES["rgb.png"], "bytes")
    found = read_image(Stream(PICTURES["rgb.png"]), "stream")
    assert found.image.tobytes() == expected.image.tobytes() and found.file_hash == expected.file_hash


def test_a_closed_file_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PICTURES["rgb.png"])
    with path.open("rb") as file:
        pass
    with pytest.raises(ImageError, match="which: cannot be read"):
        read_image(file, "which")


def test_the_limit_of_pixels_holds_for_every_form():
    for image in (PICTURES["rgb.png"], COLOUR, np.asarray(COLOUR), torch.zeros(3, 24, 40)):
        assert read_image(image, "which", max_pixels=40 * 24).image.size == (40, 24)
        with pytest.raises(ImageError, match=r"which: 40x24 pixels, at most .* are read"):
            read_image(image, "which", max_pixels=40 * 24 - 1)
    with pytest.raises(ImageError, match="64 megapixels"):
        read_image(np.broadcast_to(np.uint8(0), (2, MAX_PIXELS // 2 + 1)), "which")


def test_a_batch_comes_apart_whatever_holds_it():
    pixels = np.zeros((2, 24, 40, 3), np.uint8)
    column = np.empty(2, object)
    column[:] = [COLOUR, "a.png"]
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for batch in (pixels, tensor, [*pixels], tuple(tensor), iter([*pixels]), column):
        assert len(each_image(batch)) == 2
    assert each_image([]) == [] == each_image(pixels[:0])


@pytest.mark.parametrize(
    "batch", [np.zeros((9, 9, 3)), np.zeros((9, 9)), torch.zeros(3, 9, 9), np.zeros((1, 2, 9, 9, 3)), np.zeros(())]
)
def test_one_array_is_no_batch(batch):
    with pytest.raises(ValueError, match=r"has the shape .*put one image into a list"):
        each_image(batch)


@pytest.mark.parametrize(
    "batch",
    ["a.png", b"bytes", COLOUR, io.BytesIO(b"bytes"), {"bytes": b"", "path": None}, {"a.png"}, None, 3],
    ids=lambda value: type(value).__name__,
)
def test_one_value_is_no_list(batch):
    with pytest.raises(ValueError, match=r"images: found .*, expected a list with one entry for each pair"):
        each_image(batch)
    with pytest.raises(ValueError, match="prompts: found"):
        in_list(batch, "prompts")
