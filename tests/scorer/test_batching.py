import dataclasses

import pytest
from PIL import Image

from dyneval.records import ScoreRecord
from dyneval.scorer import Failure, LoadedPair, Scorer
from dyneval.scorer.scorer import by_length
from dyneval.work.batches import BatchSize, MemoryUse


def pairs(sizes):
    return [
        LoadedPair(pair_id=str(n), prompt="a cat", image=Image.new("RGB", size), image_name=f"{n}.png")
        for n, size in enumerate(sizes)
    ]


def area(pair):
    return pair.image.width * pair.image.height


def test_batches_hold_every_pair_once_and_like_ones_together():
    wanted = pairs([(8 * (n % 7 + 1), 8) for n in range(100)])
    made = list(by_length(iter(wanted), lambda: 4, area))
    assert sorted(number for batch in made for number, _ in batch) == list(range(100))
    assert all(wanted[number] is pair for batch in made for number, pair in batch)
    assert [len(batch) for batch in made] == [4] * 25
    assert sum(len({area(pair) for _, pair in batch}) for batch in made) < 60, "28 kinds would stand in 25 mixed ones"
    assert list(by_length([], lambda: 4, area)) == []


def test_a_window_of_large_images_is_short():
    taken = []
    source = (taken.append(pair) or pair for pair in pairs([(20_000, 5_000)]) * 30)
    next(by_length(source, lambda: 8, area))
    assert len(taken) == 3


def test_auto_grows_while_it_fits_and_stops_where_it_failed():
    size = BatchSize("auto", lambda: MemoryUse(resting=10, peak=10 + 2 * size.size, capacity=200))
    seen = []
    for _ in range(5):
        seen.append(size.size)
        size.fitted(size.size)
    assert seen == [8, 16, 32, 64, 80]  # (0.85 * 200 - 10) / 2
    size.fitted(3)
    size.failed(80)
    size.fitted(40)
    assert size.size == size.most == 40


@pytest.mark.parametrize(("wanted", "size"), [("auto", 8), (3, 3)])
def test_without_a_figure_the_size_stays(wanted, size):
    fixed = BatchSize(wanted, None)
    fixed.fitted(size)
    assert fixed.size == fixed.most == size


def test_out_of_memory_halves_the_batch_and_goes_on_to_the_same_scores(engine, settings, loaded, small_memory):
    wanted = pairs([(64, 64), (96, 64), (32, 96), (128, 64), (64, 32)])
    scorer = Scorer(engine, "student", dataclasses.replace(settings, batch_size=5, mode="iqa-only"))
    before = list(scorer.score_pairs(wanted))
    small_memory(loaded[0].model, 2)
    after = list(scorer.score_pairs(wanted))
    assert [result.pair_id for result in after] == list("01234")
    assert [result.iqa for result in after] == [result.iqa for result in before]
    assert scorer.most_together <= 2
    assert {result.pair_id for result in scorer.score_unordered(wanted)} == set("01234")


def test_a_pair_that_does_not_fit_alone_is_a_failure(engine, settings, loaded, small_memory):
    scorer = Scorer(engine, "student", dataclasses.replace(settings, mode="iqa-only"))
    small_memory(loaded[0].model, 0)
    results = list(scorer.score_pairs(pairs([(64, 64)] * 2)))
    assert all(isinstance(result, Failure) and "memory is too small" in result.reason for result in results)
    assert not any(isinstance(result, ScoreRecord) for result in results)
