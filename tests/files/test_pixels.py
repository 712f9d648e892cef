"""Pixels of any number type and mode become 8-bit RGB on a scale that is sure, or are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from dyneval.files.pixels import PixelError, from_array, from_image, from_tensor, levels

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def shades(image):
    assert image.mode == "RGB"
    return np.asarray(image)[:, :, 0]


@pytest.mark.parametrize(
    "pixels",
    [
        RAMP,
        RAMP.astype(np.int32),
        RAMP.astype(np.int64),
        RAMP.astype(np.uint16) * 257,
        (RAMP.astype(np.uint16) * 256).astype(">u2"),
        RAMP / 255,
        (RAMP / 255).astype(np.float32),
        RAMP[:, :, None],
        RAMP.T.copy().T,
    ],
)
def test_each_number_type_has_its_range(pixels):
    assert (shades(from_array(pixels)) == RAMP).all()


def test_half_precision_is_off_by_one_level_at_most():
    for kind in (torch.float16, torch.bfloat16):
        found = shades(from_tensor((torch.from_numpy(RAMP) / 255).to(kind)[None])).astype(int)
        assert np.abs(found - RAMP).max() <= 1


def test_truth_values_are_black_and_white():
    assert (shades(from_array(RAMP > 99)) == np.where(RAMP > 99, 255, 0)).all()


@pytest.mark.parametrize(
    ("pixels", "value_range"),
    [
        (RAMP / 127.5 - 1, (-1, 1)),
        (RAMP.astype(np.float32), (0, 255)),
        (RAMP.astype(np.uint16), (0, 255)),
        (RAMP.astype(np.uint16) * 4, (0, 1020)),
        (RAMP.astype(np.uint16), (0, 65535)),
    ],
)
def test_a_range_that_is_said_is_taken(pixels, value_range):
    expected = RAMP * 0 if value_range[1] == 65535 else RAMP
    assert (shades(from_array(pixels, value_range)) == expected).all()


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (RAMP / 127.5 - 1, "values from -1 to 1 of type float64, expected 0 to 1; say with value_range"),
        (RAMP.astype(np.float16), "values from 0 to 255"),
        (np.array([[0.5, 1.003]]), "1.003"),
        (np.array([[-0.003, 0.5]]), "-0.003"),
        (np.array([[0.5, np.nan]]), "NaN"),
        (np.array([[0.5, np.inf]]), "NaN or infinite"),
        (np.array([[-1, 255]]), "values from -1 to 255"),
        (np.array([[0, 256]]), "values from 0 to 256"),
        (RAMP.astype(np.int8), "values from -128 to 127"),
        (RAMP.astype(np.uint16), "none over 255"),
        (RAMP.astype(complex), "complex128"),
        (RAMP.astype(object), "object"),
        (RAMP.astype(str), "expected numbers"),
        (np.zeros((0, 4)), "no pixels"),
        (np.zeros(9), "shape"),
        (np.zeros((2, 9, 9, 3)), "shape"),
        (np.zeros((3, 9, 9)), r"expected \(H, W\) or \(H, W, 1 to 4\)"),
    ],
)
def test_what_has_no_sure_scale_is_refused(pixels, found):
    with pytest.raises(PixelError, match=found):
        from_array(pixels)


def test_what_is_next_to_the_range_by_rounding_is_its_end():
    assert levels(np.array([-0.0019, 1.0019], np.float32)).tolist() == [0, 255]


def test_values_on_the_edge_never_wrap():
    near = np.nextafter(np.full(2000, 1 + 0.5 / 255, np.float32), 0)
    near = near - np.arange(2000, dtype=np.float32) * np.float32(1e-9)
    assert levels(near).min() == 255


def test_black_in_16_bits_is_black():
    assert not shades(from_array(np.zeros((4, 4), np.uint16))).any()


def test_latents_and_channels_last_are_no_tensors_of_an_image():
    for shape in ((4, 64, 64), (64, 64, 3), (64, 64), (1, 3, 64, 64)):
        with pytest.raises(PixelError, match=r"expected \(3, H, W\)"):
            from_tensor(torch.zeros(shape))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_alpha_of_arrays_is_laid_on_white(kind):
    full = 1 if kind is np.float32 else np.iinfo(kind).max
    ink = np.zeros((4, 4, 4), kind)
    ink[0, :, 3] = full
    expected = [[0] * 4, *([[255] * 4] * 3)]
    assert shades(from_array(ink)).tolist() == expected
    assert shades(from_array(ink[:, :, 2:])).tolist() == expected


def converted(mode):
    """Red ink of two densities in this mode, and the pixels that it should be."""
    ink = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    ink.paste((255, 0, 0, 0), (0, 0, 4, 8))
    return ink.convert({"La": "LA"}.get(mode, mode)).convert(mode) if mode != "PA" else ink.convert("P").convert("PA")


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La"])
def test_what_is_transparent_is_white_in_every_mode_with_alpha(mode):
    found = np.asarray(from_image(converted(mode)))
    assert (found[:, :4] == 255).all() and (found[:, 4:, 1] < 99).all()


def test_a_palette_with_alpha_is_laid_on_white():
    ink = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    ink.paste((9, 99, 9, 255), (4, 0, 8, 8))
    for image in (ink.quantize(4), ink.convert("PA")):
        found = np.asarray(from_image(image))
        assert (found[:, :4] == 255).all() and (found[:, 4:] == (9, 99, 9)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16L", "I;16B"])
def test_every_mode_becomes_rgb(mode):
    assert from_image(Image.new(mode, (3, 2))).mode == "RGB"


def png(colour, depth, width, rows, key):
    """A PNG with a transparent colour, as Pillow cannot write it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", key), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts)))


def test_the_transparent_grey_of_a_png_has_the_depth_of_its_pixels():
    deep = png(0, 16, 2, [struct.pack(">HH", 1000, 1001)], struct.pack(">H", 1000))
    assert shades(from_image(deep)).tolist() == [[255, 3]]
    pale = png(0, 4, 2, [b"\x39"], struct.pack(">H", 3))
    for _ in range(2):  # the image may be used again
        assert shades(from_image(pale)).tolist() == [[255, 153]]


def test_a_transparent_colour_of_16_bits_is_refused():
    with pytest.raises(PixelError, match="save it with an alpha channel"):
        from_image(png(2, 16, 1, [struct.pack(">HHH", 1, 2, 3)], struct.pack(">HHH", 0, 0, 0)))


def tiff(pixels, **tags):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", tiffinfo={int(tag[1:]): value for tag, value in tags.items()})
    return Image.open(file)


def test_float_and_integer_files_are_seen_on_their_own_scale():
    for pixels in (RAMP.astype(np.float32), RAMP.astype(np.int32), (RAMP / 255).astype(np.float32)):
        assert (shades(from_image(tiff(pixels))) == RAMP).all()
    for pixels, found in (
        (RAMP.astype(np.float32) + 0.5, "values from 0.5 to 255.5"),
        (RAMP.astype(np.float32) * 257, "values from 0 to 65535"),
        (RAMP.astype(np.int32) * 257, "values from 0 to 65535"),
        (RAMP.astype(np.float32) * np.nan, "NaN"),
    ):
        with pytest.raises(PixelError, match=rf"{found}.*save it with 8 bits"):
            from_image(tiff(pixels))


def test_white_that_is_stored_as_zero_is_white():
    assert (shades(from_image(tiff(RAMP.astype(np.uint16) * 257, t262=0))) == 255 - RAMP).all()
    assert (shades(from_image(tiff((RAMP / 255).astype(np.float32), t262=0))) == 255 - RAMP).all()


def test_grey_maps_of_more_than_8_bits_are_scaled():
    for most in (1023, 4095, 65535):
        values = np.round(RAMP / 255 * most).astype(">u2")
        image = Image.open(io.BytesIO(b"P5 16 16 %d\n" % most + values.tobytes()))
        assert np.abs(shades(from_image(image)).astype(int) - RAMP).max() <= 1


def test_an_image_without_pixels_is_refused():
    with pytest.raises(PixelError, match="0x0 pixels"):
        from_image(Image.new("RGB", (0, 0)))
