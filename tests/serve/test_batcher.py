import asyncio

import pytest
from hypothesis import given, settings, strategies
from PIL import Image

from dyneval.loaded_pairs import Failure, Pair
from dyneval.serve.batcher import Batcher, Busy, JudgeError

IMAGE = Image.new("RGB", (8, 8))


def pair(prompt, number=0):
    return Pair(pair_id=f"{prompt}-{number}", prompt=prompt, image=IMAGE, image_name="image")


def run(scenario, judge, **options):
    """Run a coroutine function with a batcher that is started before and closed after."""

    async def whole():
        batcher = Batcher(judge, **({"batch_size": 4, "queue": 8, "wait": 0.05, "patience": 60} | options))
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            judge.go.set()
            await batcher.close()

    return asyncio.run(whole())


async def submit(batcher, one):
    with batcher.hold() as places:
        return places.submit(one)


def test_pairs_that_come_together_are_scored_together(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        return await asyncio.gather(*[await submit(batcher, pair("a", n)) for n in range(6)])

    results = run(scenario, judge)
    assert [result.pair_id for result in results] == [f"a-{n}" for n in range(6)]
    assert [len(batch) for batch in judge.batches] == [4, 2]


def test_a_full_queue_says_when_to_come_back_and_what_was_taken_is_scored(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        first = await submit(batcher, pair("wait"))
        while not judge.batches:
            await asyncio.sleep(0.01)
        rest = [await submit(batcher, pair("a", n)) for n in range(8)]
        with pytest.raises(Busy) as busy, batcher.hold():
            pass
        assert busy.value.retry_after >= 1
        judge.go.set()
        results = await asyncio.gather(first, *rest)
        with batcher.hold(8):
            assert batcher.held == 8
        return results

    assert len(run(scenario, judge)) == 9


def test_places_that_are_not_used_are_given_back(judge_class):
    async def scenario(batcher):
        with pytest.raises(ValueError, match="body"), batcher.hold() as places:
            places.extend(4)
            assert batcher.held == 5
            raise ValueError("body")
        with batcher.hold(7) as places, pytest.raises(Busy):
            places.extend(2)
        return batcher.held

    assert run(scenario, judge_class()) == 0


def test_a_queue_that_would_take_longer_than_clients_wait_is_full(judge_class):
    async def scenario(batcher):
        await (await submit(batcher, pair("slow")))
        with pytest.raises(Busy):
            for number in range(8):
                await submit(batcher, pair("wait", number))
        return batcher.held

    assert run(scenario, judge_class(seconds=0.2), patience=0.3) < 7


def test_the_pair_that_breaks_the_student_fails_alone(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("a", "break", "fail", "b")]
        return await asyncio.gather(*futures, return_exceptions=True), batcher.ready

    results, ready = run(scenario, judge)
    assert isinstance(results[1], JudgeError) and "CUDA" not in str(results[1])
    assert results[2] == Failure("fail-0", "no reply")
    assert [results[0].pair_id, results[3].pair_id] == ["a-0", "b-0"]
    assert ready


def test_a_student_that_breaks_on_everything_is_not_ready(judge_class):
    async def scenario(batcher):
        for number in range(3):
            assert batcher.ready
            with pytest.raises(JudgeError):
                await (await submit(batcher, pair("break", number)))
        return batcher.ready

    assert run(scenario, judge_class()) is False


def test_what_its_request_gave_up_on_is_not_scored(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        first = await submit(batcher, pair("wait"))
        while not judge.batches:
            await asyncio.sleep(0.01)
        (await submit(batcher, pair("given up"))).cancel()
        last = await submit(batcher, pair("last"))
        judge.go.set()
        await asyncio.gather(first, last)
        return batcher.held

    assert run(scenario, judge) == 0
    assert judge.batches == [["wait"], ["last"]]


def test_closing_scores_what_is_in_the_queue(judge_class):
    judge = judge_class(seconds=0.05)

    async def scenario():
        batcher = Batcher(judge, batch_size=2, queue=8, wait=5, patience=60)
        batcher.start()
        futures = [await submit(batcher, pair("a", n)) for n in range(7)]
        await batcher.close()
        assert not batcher.ready
        return [future.result().pair_id for future in futures]

    assert asyncio.run(scenario()) == [f"a-{n}" for n in range(7)]


def test_passes_are_told_to_their_own_request_only(judge_class):
    told = []

    async def scenario(batcher):
        with batcher.hold(2) as places:
            futures = [places.submit(pair("a", 1), lambda *news: told.append(news)), places.submit(pair("a", 2))]
        await asyncio.gather(*futures)

    run(scenario, judge_class())
    assert told == [("t2ia_questions", {"t2ia_questions": [{"question": "Is it?", "answer": "yes"}]})]


@settings(max_examples=20)
@given(batch_size=strategies.integers(1, 5), prompts=strategies.lists(strategies.sampled_from("abf"), max_size=12))
def test_every_pair_gets_its_own_result(judge_class, batch_size, prompts):
    async def scenario(batcher):
        words = {"f": "fail"}
        futures = [await submit(batcher, pair(words.get(prompt, prompt), n)) for n, prompt in enumerate(prompts)]
        return [(await future).pair_id for future in futures]

    ids = run(scenario, judge_class(), batch_size=batch_size, queue=20, wait=0.001)
    assert [name.rpartition("-")[2] for name in ids] == [str(n) for n in range(len(prompts))]
