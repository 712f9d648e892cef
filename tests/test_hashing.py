"""Hashes stand in files of finished runs and split data, so their values must never change: they are pinned here."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from dyneval.files.parts import Shard
from dyneval.generation import allocation
from dyneval.hashing import content_key, file_sha256, fingerprint
from dyneval.instruct.curation import Curation
from dyneval.loaded_pairs import LoadedPair
from dyneval.records import prompt_id
from dyneval.scorer.loading import student_revision

TEXT = "a café, “café” 猫 🐈 at\tdusk"
IDS = [prompt_id(f"prompt {number}") for number in range(12)]


def test_prompt_ids():
    assert prompt_id("a photo of a carrot") == "P55a88624da533ad4"
    assert prompt_id(TEXT) == "P5004014455fd61a7"


@pytest.mark.parametrize(("base_seed", "expected"), [(0, 1514480720), (7, 1774850288)])
def test_seeds_of_images(base_seed, expected):
    assert allocation.image_seed("P55a88624da533ad4", "flux1-dev", base_seed) == expected


def test_which_model_draws_a_prompt():
    hashes = allocation.prompt_hashes(IDS)
    assert hashes[:3].tolist() == [7297764262885040989, 2923167361954362475, 9167158540244907747]
    assert allocation.owners(hashes, ["sdxl", "flux1-dev", "sd3-5-large"]).tolist() == [
        *(0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 2, 1),
    ]


@pytest.mark.parametrize(("part", "expected"), [(1, [1, 5, 9]), (2, [0, 2, 3, 6, 11]), (3, [4, 7, 8, 10])])
def test_which_part_of_a_run_has_a_prompt(part, expected):
    assert [number for number, key in enumerate(IDS) if Shard(part, 3).holds(key)] == expected


def test_which_prompts_are_held_out():
    curation = Curation(heldout=0.2)
    assert [number for number in range(40) if curation.holds_out(f"prompt {number}")] == [2, 13, 15, 16, 18, 22, 24]


def test_fingerprint_of_settings():
    assert fingerprint({"b": [1, 2.5, None], "a": {"é": True}, "path": Path("x/y")}) == "73444b9c6c192b41"


@pytest.mark.parametrize(
    ("questions", "expected"),
    [
        (None, "0e53662fab9a29363043d55c4161cc486a0f703a48960dff99c431ef5dcddb41"),
        (
            [{"question": "Is it?", "answer": "yes"}],
            "14196aeda2af54f5a73ac72e264ce3ef75d5e32d1607acbc1712603805bb9c60",
        ),
    ],
)
def test_key_of_a_score(questions, expected):
    assert content_key(TEXT, "0" * 64, {"weights": "sha256:1", "alpha": 0.5, "n": None}, questions) == expected


def test_hash_of_the_pixels_of_an_image_without_a_file():
    image = Image.frombytes("RGB", (3, 2), bytes(range(18)))
    pair = LoadedPair(pair_id="x", prompt="x", image=image, image_name="x")
    assert pair.image_hash == "a74d28c233f9fec831c9893480b0015bb451016a27ef00da9a8d8b6468be1138"


def test_hashes_of_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("of no importance")
    expected = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert file_sha256(tmp_path / "model.safetensors") == expected
    revision = "sha256:4d29798c6e59eb7dfc2b375b8998040ed29cf33c98038b41e9717a6c37f5dad7"
    assert student_revision(tmp_path, None) == revision


def test_a_large_file_has_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"dyneval" * 100_000)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
