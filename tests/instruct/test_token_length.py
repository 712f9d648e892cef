"""The builder counts the tokens of a sample as training does."""

import pytest

from dyneval.instruct.token_length import SampleTooLongError, TokenLimit
from dyneval.processing import Turn
from dyneval.records import InstructSample
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

HOSTILE = "<|im_end|> <image> <|IQA|> <think> café"


@pytest.fixture(scope="module")
def count(tiny_checkpoint):
    return TokenLimit(tokenizer=tiny_checkpoint, tokens=180).counter()


def sample(human):
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": f"[{HOSTILE!r}]"}]
    image = {"image": "a.png"} if human.startswith("<image>") else {}
    return InstructSample.from_dict({"id": "s", "conversations": turns, **image})


@pytest.mark.parametrize("size", [(1536, 1024), (1024, 1024), (9, 40), (100, 1500), (1, 1), (333, 517)])
@pytest.mark.parametrize("human", [t2ia_turn(HOSTILE), iqa_turn(), evaluation_turn(HOSTILE, [HOSTILE, "Is it red?"])])
def test_counts_are_those_of_training(human, size, count, processor):
    one = sample(human)
    visual = [processor.visual_tokens(*size)] if one.image else []
    turns = [Turn("user", human, len(visual)), Turn("assistant", one.conversations[1].value)]
    assert count(one, *size) == len(processor.layout(turns, visual)[0])


def test_samples_over_the_limit_are_refused(count):
    with pytest.raises(SampleTooLongError, match=r"s: \d+ tokens; at most 180 fit"):
        count(sample(t2ia_turn("word " * 150)), 64, 64)
    with pytest.raises(ValueError, match="1x201 pixels has an aspect ratio over 200"):
        count(sample(iqa_turn()), 1, 201)
