"""What a run would send, before it costs."""

import pytest
from PIL import Image

from dyneval.teacher.dry_run import image_tokens


@pytest.mark.parametrize(
    ("size", "squares"),
    # A Qwen3-VL server enlarges what is under 65,536 pixels; over 1,048,576, the picture is reduced before it is sent.
    [((48, 32), 10 * 7), ((200, 200), 8 * 8), ((512, 512), 16 * 16), ((1536, 1024), 39 * 26), ((40, 1000), 2 * 40)],
)
def test_image_tokens_are_those_of_the_teacher(size, squares, tmp_path):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert image_tokens(tmp_path / "a.png") == squares + 2
