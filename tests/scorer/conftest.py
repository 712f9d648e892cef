import pytest
from PIL import Image

from dyneval.loaded_pairs import LoadedPair
from dyneval.replies import ReplyLimits
from dyneval.scorer.settings import ScorerSettings


def make_pairs(pictures, prompts):
    """A pair a prompt, with the six pictures in turn."""
    return [
        LoadedPair(
            pair_id=f"pair-{number}",
            prompt=prompt,
            image=Image.open(pictures / f"{number % 6}.png").convert("RGB"),
            image_name=f"{number % 6}.png",
        )
        for number, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="session")
def settings():
    # The student has random weights: it has no form of its own.
    return ScorerSettings(limits=ReplyLimits().capped(3, 12), batch_size=4, template="readme", reply_form="readme")


@pytest.fixture(scope="session")
def loaded(student):
    from dyneval.scorer.loading import load_student

    return load_student(student, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def engine(loaded):
    from dyneval.scorer.students.local import TransformersStudent

    return TransformersStudent(*loaded)


@pytest.fixture(scope="session")
def grammar(loaded):
    from dyneval.scorer.grammar import ReplyGrammar

    model, processor = loaded
    return ReplyGrammar(processor.tokenizer, model.lm_head.out_features)


@pytest.fixture(scope="session")
def scorer(engine, settings):
    from dyneval.scorer import Scorer

    return Scorer(engine, "student", settings)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Six image files of unequal sizes and contents."""
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate([(96, 64), (64, 96), (40, 40), (200, 30), (128, 128), (64, 64)]):
        image = Image.new("RGB", size, (40 * number, 200 - 30 * number, 90))
        ImageDraw.Draw(image).ellipse((5, 5, size[0] - 9, size[1] - 7), fill=(250 - 40 * number, 20 * number, 30))
        image.save(folder / f"{number}.png")
    return folder
