import io
import os
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, __version__

from dyneval.errors import ImageError
from dyneval.files.images import (
    MAX_BYTES,
    MAX_PIXELS,
    decode_image,
    load_image,
    resolve_below,
    stored_size,
    upright_rgb,
)

RED = (250, 10, 20)
OLD_TIFF = pytest.mark.skipif(int(__version__.split(".")[0]) < 13, reason="Pillow 12 writes such files, but reads none")


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


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1", "LAB", pytest.param("YCbCr", marks=OLD_TIFF)])
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


def test_a_moving_webp_is_transparent_where_its_first_frame_does_not_reach(tmp_path):
    ink = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    ink.paste(RED, (4, 4, 12, 12))
    path = tmp_path / "moving.webp"
    ink.save(path, save_all=True, append_images=[Image.new("RGBA", (16, 16), "blue")], lossless=True)
    with Image.open(path) as image:
        assert image.mode == "RGB"  # so Pillow takes what is transparent for black
        found = upright_rgb(image, "open")
    assert found.getpixel((0, 0)) == (255, 255, 255) and found.getpixel((8, 8)) == RED
    assert load_image(path).tobytes() == found.tobytes()
    with Image.open(path) as image:
        image.seek(1)
        assert upright_rgb(image, "open").getpixel((0, 0)) == (0, 0, 255)


def with_text(place, exif=None):
    """A PNG that ComfyUI could have written: a megabyte and more of text, before or behind the pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    if exif:
        info.add_text("Raw profile type exif", exif)
    if place == "behind":
        info.chunks = [(name, data, True) for name, data, *_ in info.chunks]
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((30, 20)).convert("RGB").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_long_text_in_a_png_does_not_matter(tmp_path, place):
    path = tmp_path / "comfy.png"
    path.write_bytes(with_text(place))
    assert load_image(path).tobytes() == Image.linear_gradient("L").resize((30, 20)).convert("RGB").tobytes()
    assert stored_size(path) == (30, 20)


def test_texts_that_turn_a_png_are_kept_when_long_ones_are_left_out():
    turned = Image.Exif()
    turned[0x0112] = 6
    exif = f"\nexif\n{len(turned.tobytes()):8}\n{turned.tobytes().hex()}\n"
    assert decode_image(with_text("before", exif), "comfy").size == (20, 30)


def many_scans(count, before_restart=b""):
    """A JPEG whose last scan is there `count` times more, each time with some bytes before its first restart."""
    buffer = io.BytesIO()
    Image.new("RGB", (400, 400), RED).save(buffer, "JPEG", progressive=True, quality=90, restart_marker_rows=1)
    jpeg = buffer.getvalue()
    last = jpeg.rfind(b"\xff\xda")
    scan = jpeg[last:-2].replace(b"\xff\xd0", before_restart + b"\xff\xd0", 1)
    return jpeg[:-2] + scan * count + jpeg[-2:]


@pytest.mark.parametrize("before_restart", [b"", b"\xff\x02\xff\xff", b"\xff\xbf\xff\xff", b"\xff\x01\xff\xff"])
def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(tmp_path, before_restart):
    path = tmp_path / "scans.jpg"
    path.write_bytes(many_scans(1000, before_restart))
    with pytest.raises(ImageError, match=r"scans\.jpg: a JPEG of more than 100 scans"):
        load_image(path)
    with Image.open(path) as image, pytest.raises(ImageError, match="open: a JPEG of more than 100 scans"):
        upright_rgb(image, "open")


def test_scans_of_thumbnails_and_of_what_lies_behind_do_not_count(tmp_path, picture):
    scan = b"\xff\xda" * 200
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", progressive=True, comment=scan)
    path = tmp_path / "motion.jpg"
    path.write_bytes(buffer.getvalue() + scan)
    assert near(centre(load_image(path)), RED)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for read in (load_image, stored_size):
        with pytest.raises(ImageError, match=r"large\.png: more than 512 MiB"):
            read(path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (load_image, stored_size):
        with pytest.raises(ImageError, match=r"pipe\.png: a folder, pipe or device"):
            read(tmp_path / "pipe.png")


def test_the_size_is_that_of_the_file(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif)
    assert stored_size(tmp_path / "phone.jpg") == (40, 20)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match=r"text\.png: not an image file"):
        stored_size(tmp_path / "text.png")


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
    with pytest.raises(ImageError, match=r"link\.png: a link .* put files in place of the links"):
        load_image("link.png", root)
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


def saved(form):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), RED).save(buffer, form)
    return buffer.getvalue()


def spliced(form, at, part, count):
    content = saved(form)
    place = at(content)
    return content[:place] + part * count + content[place:]


def strips(count):
    """A TIFF one pixel wide whose rows are strips of their own, all of the same three bytes."""
    entries = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, count, 200)]
    entries += [(277, 3, 1, 3), (278, 4, 1, 1), (279, 4, count, 200)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory
    return head.ljust(200, b"\0") + struct.pack("<I", 3) * count + bytes(8)


BUSY = {
    "chunks of a PNG": (
        spliced("PNG", lambda png: png.index(b"IDAT") - 4, b"\0\0\0\0abCd\xc0\xb2\xa1\x10", 50_000),
        "chunks",
    ),
    "comments of a JPEG": (spliced("JPEG", lambda _: 2, b"\xff\xfe\0\x02", 50_000), "segments before its pixels"),
    "fill bytes of a JPEG": (spliced("JPEG", lambda _: 2, b"\xff", 50_000), "segments before its pixels"),
    "comments of a GIF": (spliced("GIF", lambda gif: gif.index(b","), b"\x21\xfe\x01a\0", 50_000), "blocks"),
    "boxes of a JPEG 2000": (spliced("JPEG2000", lambda _: 12, b"\0\0\0\x08free", 50_000), "boxes"),
    "strips of a TIFF": (strips(200_000), "strips"),
    "tags of a TIFF": (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHII", 700, 1, 1 << 30, 0) * 2,
        "tags",
    ),
    "text of a PPM": (b"P3 2 2 255 " + b"1 " * 12, "text format"),
    "bits of a PBM as text": (b"P1 2 2 1 0 0 1", "text format"),
    "comments of a PPM": (b"P6\n" + b"#\n" * 5000 + b"1 1 255\n\1\2\3", "header"),
    "blanks of a PPM": (b"P6\n" + b" " * 5000 + b"1 1 255\n\1\2\3", "header"),
}


@pytest.mark.parametrize("name", BUSY)
def test_a_file_of_very_many_parts_is_refused_before_pillow_reads_it(name, monkeypatch):
    content, said = BUSY[name]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageError, match=f"busy: .*{said}"):
        decode_image(content, "busy")


def test_files_with_as_many_parts_as_honest_ones_have_are_read():
    commented = b"P6\n# made by hand\n64 64\n# and by eye\n255\n" + bytes(RED) * 64 * 64
    for content in (
        commented,
        b"P4\n64 64\n" + b" " * 5000,
        spliced("JPEG", lambda _: 2, b"\xff\xfe\0\x02", 300),
        spliced("GIF", lambda gif: gif.index(b","), b"\x21\xfe\x01a\0", 300),
        strips(300),
    ):
        assert decode_image(content, "honest").mode == "RGB"
