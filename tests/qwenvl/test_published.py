"""The same tokens as the published training code: ids, targets, positions, grids and pixels of its conversations."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from dyneval.processing import IGNORE, TRAINING_LIMITS, PixelLimits, Processor, grid
from qwenvl.data import DatasetSource
from qwenvl.data.collator import Collator, dummy_example
from qwenvl.data.conversation import parse_sample
from qwenvl.data.dataset import InstructDataset
from qwenvl.data.lengths import count_tokens
from tests import processes

from .published import CASES, GOLDEN, make_images, numbers

EXPECTED = json.loads(GOLDEN.read_text())
LEVEL = 2 / 255
"""One grey level of 255 after normalising by 0.5. Pillow and torchvision round differently when they resize."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "images"
    make_images(folder)
    return folder


@pytest.fixture(scope="module")
def limited(tiny_checkpoint):
    """The processor under other pixel limits, until the next call."""
    processor = Processor.from_pretrained(tiny_checkpoint)

    def under(limits):
        processor.set_pixel_limits(*limits)
        return processor

    return under


@pytest.fixture(scope="module")
def read(limited, pictures, tmp_path_factory):
    """Encode a case as training does, from an annotation file; the examples are kept."""
    folder = tmp_path_factory.mktemp("annotations")
    kept = {}

    def example(name):
        if name not in kept:
            case = CASES[name]
            annotation = folder / f"{name}.json"
            annotation.write_text(json.dumps([case.sample()]))
            processor = limited(case.limits)
            source = DatasetSource(name="published", annotation=annotation, data=pictures)
            dataset = InstructDataset([source], processor, model_max_length=8192, cache=folder / "cache")
            (kept[name],) = dataset[0]
            assert dataset.lengths.tolist() == [len(kept[name].encoded.input_ids)]
            assert count_tokens(parse_sample(case.sample()), pictures, processor) == dataset.lengths[0]
        return kept[name]

    return example


@pytest.fixture(scope="module")
def collator(tiny_checkpoint, processor):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tiny_checkpoint))
    dummy, pad = dummy_example(processor), processor.tokenizer.pad_token_id
    return lambda flatten: Collator(model.model.get_rope_index, dummy, pad, flatten)


def test_every_case_has_its_numbers():
    assert list(CASES) == list(EXPECTED) and len(CASES) >= 12


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_the_published_trainer(name, read, collator):
    example = read(name)
    batch = collator(flatten=True)([[example]])
    length = len(example.encoded.input_ids)
    assert batch["position_ids"][0, 0, :length].tolist() == list(range(length))
    positions = batch["position_ids"][1:, 0, :length].tolist()
    patches = example.encoded.image_grid_thw
    grids = [] if patches is None else patches.tolist()
    assert numbers(example.encoded.input_ids, example.encoded.labels, positions, grids) == EXPECTED[name]


@pytest.mark.parametrize("flatten", [True, False], ids=["flat", "padded"])
def test_batches_hold_the_rows_of_their_samples(flatten, read, collator):
    """Positions and labels of a batch are those of its samples one by one, whichever stand beside them."""
    examples = [read(name) for name in CASES]
    batch = collator(flatten)([examples])
    start = 0
    for row, example in enumerate(examples):
        alone = collator(flatten=True)([[example]])
        length = len(example.encoded.input_ids)
        place = (0, slice(start, start + length)) if flatten else (row, slice(length))
        for name in ("input_ids", "labels", "tasks"):
            assert torch.equal(batch[name][place], alone[name][0, :length])
        # A padded batch has no row that restarts: its samples are apart already.
        rows = slice(0, 4) if flatten else slice(1, 4)
        assert torch.equal(batch["position_ids"][(slice(None), *place)], alone["position_ids"][rows, 0, :length])
        start += length
    assert (batch["labels"] != IGNORE).sum() == sum(
        end - begin for row in EXPECTED.values() for begin, end in row["targets"]
    )


@pytest.mark.parametrize("environment_name", ["transformers-4.57.6-torchvision", "torchvision"])
def test_transformers_own_processor_gives_these_numbers(environment_name, environment, tiny_checkpoint, pictures, read):
    """In the published code's version and in the one in use; also the pixels, and those of qwen-vl-utils."""
    script = Path(__file__).with_name("published.py")
    command = [environment(environment_name), script, tiny_checkpoint, pictures]
    done = processes.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED
    for name, case in CASES.items():
        if not case.images:
            continue
        arrays = np.load(pictures / f"{name}.npz")
        ours = read(name).encoded.pixel_values.numpy()
        apart = np.abs(ours - arrays["transformers"])
        assert apart.max() < 2.01 * LEVEL and apart.mean() < LEVEL / 4, name
        if case.suits_qwen_vl_utils:
            assert arrays["grids"].tolist() == EXPECTED[name]["grids"], name
            assert np.abs(ours - arrays["qwen_vl_utils"]).max() < 1e-6, name


SIDES = st.integers(1, 40) | st.integers(1, 5000)
AREAS = st.integers(1, 5000) | st.integers(1, 20_000_000)


@given(SIDES, SIDES, AREAS, AREAS)
def test_the_grid_is_that_of_transformers(width, height, one, other):
    limits = PixelLimits(min(one, other), max(one, other))
    if max(width, height) > 200 * min(width, height):
        with pytest.raises(ValueError, match="aspect ratio over 200"):
            grid(width, height, limits)
    else:
        rows, columns = smart_resize(height, width, 32, limits.min_pixels, limits.max_pixels)
        assert grid(width, height, limits) == (columns // 32, rows // 32)


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((9, 40), TRAINING_LIMITS, (1, 2)),
        ((9, 40), (1024, 50_176), (1, 3)),
        ((1, 1), TRAINING_LIMITS, (1, 1)),
        ((15, 15), TRAINING_LIMITS, (1, 1)),
        ((17, 23), TRAINING_LIMITS, (1, 1)),
        ((333, 517), TRAINING_LIMITS, (5, 8)),
        ((333, 517), (100_000, 100_000), (7, 12)),
        ((100, 1500), TRAINING_LIMITS, (1, 27)),
        ((20, 4000), TRAINING_LIMITS, (1, 98)),
        ((1536, 1024), TRAINING_LIMITS, (8, 5)),
        ((1024, 768), TRAINING_LIMITS, (8, 6)),
        ((200, 200), (65_536, 16_777_216), (8, 8)),
    ],
)
def test_grids_as_numbers(size, limits, expected, limited):
    assert grid(*size, PixelLimits(*limits)) == expected
    assert limited(limits).visual_tokens(*size) == math.prod(expected)
