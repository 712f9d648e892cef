"""The stand-in for a photograph."""

import io

import numpy as np
import pytest
from PIL import Image

from dyneval.demo.photo import photo_like


def test_reproducible_and_jpeg_able():
    picture = photo_like(3)
    assert (picture.mode, picture.size) == ("RGB", (640, 480))
    assert picture.tobytes() == photo_like(3).tobytes()
    assert picture.tobytes() != photo_like(4).tobytes()
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    again = Image.open(file)
    assert np.abs(np.asarray(again, np.int16) - np.asarray(picture)).mean() < 8
    assert len(again.getcolors(picture.width * picture.height)) > 5000


def test_size_is_bounded():
    assert photo_like(0, (33, 90)).size == (33, 90)
    with pytest.raises(ValueError, match="32-4096"):
        photo_like(0, (31, 90))
