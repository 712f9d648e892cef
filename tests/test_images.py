import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from dyneval.images import MAX_PIXELS, ImageError, load_image, resolve_below, sha256

RED = (250, 10, 20)


@pytest.fixture
def picture():
    return Image.new("RGB", (40, 20), RED)


def centre(image):
    return image.getpixel((image.width // 2, image.height // 2))


def near(found, expected, tolerance=8):
    return all(abs(a - b) <= tolerance for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("cut", [0, 8, 40, 400, -30])
def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path, cut):
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ImageError, match=r"cut\.png: "):
        load_image(path)


@pytest.mark.parametrize(
    "content", [b"just text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_what_is_no_image_is_refused_whatever_its_name(tmp_path, content):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"text\.png"):
        load_image(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such image file"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=tmp_path.name):
        load_image(tmp_path)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1", "LAB", "YCbCr"])
def test_other_colour_models_become_rgb(tmp_path, picture, mode):
    source = Image.new("RGB", (40, 20), "white") if mode in ("1", "L") else picture
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(source, *profiles, outputMode="LAB")
    else:
        converted = source.convert(mode, palette=Image.Palette.ADAPTIVE)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "LAB", "YCbCr") else "image.png")
    converted.save(path)
    found = load_image(path)
    assert found.mode == "RGB" and found.size == (40, 20)
    assert near(centre(found), source.getpixel((20, 10)), 12)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((10, 10), 32768, dtype=np.uint16)).save(path)
    assert near(centre(load_image(path)), (127, 127, 127), 1)


def test_transparency_is_laid_on_white(tmp_path):
    path = tmp_path / "clear.png"
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(path)
    assert centre(load_image(path)) == (255, 255, 255)
    palette = Image.new("P", (10, 10), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "clear.gif", transparency=0)
    assert centre(load_image(tmp_path / "clear.gif")) == (255, 255, 255)


def test_a_rotated_photograph_stands_upright(tmp_path, picture):
    picture.paste((0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / "phone.jpg"
    picture.save(path, exif=exif, quality=95)
    found = load_image(path)
    assert found.size == (20, 40)
    assert near(found.getpixel((10, 5)), (0, 0, 255), 40) and near(found.getpixel((10, 35)), RED, 40)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, picture, suffix):
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("blue", "green")]
    picture.save(path, save_all=True, append_images=frames, duration=50, lossless=True)
    assert near(centre(load_image(path)), RED)


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "dot.png")
    assert load_image(tmp_path / "dot.png").getpixel((0, 0)) == RED


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    side = int(MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ImageError, match=r"bomb\.png.*64 megapixels"):
        load_image(path)
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        load_image(path)


def test_paths_stay_below_their_root(tmp_path, picture):
    root, outside = tmp_path / "root", tmp_path / "outside.png"
    (root / "sub").mkdir(parents=True)
    picture.save(outside)
    picture.save(root / "sub" / "inside.png")
    (root / "link.png").symlink_to(outside)
    (root / "inner.png").symlink_to(root / "sub" / "inside.png")
    for name in (
        "../outside.png",
        "sub/../../outside.png",
        str(outside),
        "link.png",
        "sub/" + "../" * 40 + "etc/passwd",
    ):
        with pytest.raises(ImageError, match="leads out of the image folder"):
            load_image(name, root)
    for name in ("sub/inside.png", "sub/../sub/inside.png", "inner.png"):
        assert load_image(name, root).size == (40, 20)
    assert resolve_below(root, "sub/inside.png") == root / "sub" / "inside.png"


def test_a_name_that_no_file_can_have(tmp_path):
    for name in ("nul\0byte.png", "a" * 5000):
        with pytest.raises(ImageError, match=r"no file can have this name|broken"):
            load_image(name, tmp_path)


def test_a_file_that_may_not_be_read(tmp_path, picture):
    path = tmp_path / "secret.png"
    picture.save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ImageError, match=r"secret\.png"):
        load_image(path)


def test_a_link_that_leads_to_itself(tmp_path):
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    with pytest.raises(ImageError):
        load_image("round.png", tmp_path)


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"dyneval" * 100_000)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
