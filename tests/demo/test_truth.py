"""Truth files: written beside the image, read back whole, refused with a reason."""

import json
from pathlib import Path

import pytest

from dyneval.demo.painters import PAINTERS, draw
from dyneval.demo.prompts import demo_prompts
from dyneval.demo.truth import Truth, truth_path
from dyneval.errors import DataFileError

TRUTH = draw("demo-doodler", "two red signs above a green cup, concept art", 4, 64)[1]


def test_stands_beside_the_image():
    assert truth_path(Path("pairs/P1-demo-painter.png")) == Path("pairs/P1-demo-painter.truth.json")
    assert truth_path(Path("a/with.dots.jpg")) == Path("a/with.dots.truth.json")


def test_round_trip(tmp_path):
    for i, prompt in enumerate(demo_prompts(60, seed=2)):
        truth = draw(list(PAINTERS)[i % 3], prompt, i, 64)[1]
        path = tmp_path / f"{i}.truth.json"
        path.write_bytes(truth.encode())
        assert Truth.load(path) == truth


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"truth_t2ia": 5.5}, r"Expected `float` <= 5.0 - at `\$.truth_t2ia`"),
        ({"truth_iqa": "5"}, r"Expected `float`, got `str` - at `\$.truth_iqa`"),
        ({"truth_iqa": None}, "Expected `float`, got `null`"),
        ({"seed": 1.5}, "Expected `int`, got `float`"),
        ({"asked": []}, "Expected `object`, got `array`"),
        ({"faults": None}, "Expected `array`, got `null`"),
        ({"faults": [{"kind": "blur"}]}, "missing required field `severity`"),
        ({"score": 3}, "unknown field `score`"),
    ],
)
def test_bad_file_is_named_with_its_fault(tmp_path, change, reason):
    path = tmp_path / "x.truth.json"
    path.write_text(json.dumps(json.loads(TRUTH.encode()) | change))
    with pytest.raises(DataFileError, match=reason) as error:
        Truth.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_not_a_truth_at_all(tmp_path, text):
    path = tmp_path / "x.truth.json"
    path.write_text(text)
    with pytest.raises(DataFileError, match=r"x\.truth\.json"):
        Truth.load(path)
    with pytest.raises(DataFileError, match=r"missing\.truth\.json"):
        Truth.load(tmp_path / "missing.truth.json")
