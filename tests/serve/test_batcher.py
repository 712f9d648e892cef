import asyncio

import pytest
from hypothesis import given, settings, strategies
from PIL import Image

from dyneval.loaded_pairs import Failure, LoadedPair, PassEnded
from dyneval.serve.batcher import Batcher, Busy, JudgeGone, JudgeLost, StudentBroke

IMAGE = Image.new("RGB", (8, 8))


def pair(prompt, number=0):
    return LoadedPair(pair_id=f"{prompt}-{number}", prompt=prompt, image=IMAGE, image_name="image")


def run(scenario, *judges, **options):
    """Run a coroutine function with a batcher that is started before and closed after."""

    async def whole():
        batcher = Batcher(*judges, **({"batch_size": 4, "queue": 8, "wait": 0.05, "patience": 60} | options))
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 20)
        finally:
            for judge in judges:
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
        with pytest.raises(ValueError, match="body"), batcher.hold(5):
            assert batcher.held == 5
            raise ValueError("body")
        with batcher.hold(7), pytest.raises(Busy), batcher.hold(2):
            pass
        return batcher.held

    assert run(scenario, judge_class()) == 0


def test_a_queue_that_would_take_longer_than_clients_wait_is_full(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        await batcher.warm.wait()
        taken = 0
        with pytest.raises(Busy):
            for number in range(8):
                await submit(batcher, pair("wait", number))
                taken += 1
        return taken

    assert run(scenario, judge, warm_up=lambda judge: 0.2, patience=0.7, batch_size=1) == 4


def test_the_pair_that_breaks_the_student_fails_alone(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("a", "break", "fail", "b")]
        return await asyncio.gather(*futures, return_exceptions=True), batcher.ready

    results, ready = run(scenario, judge)
    assert isinstance(results[1], StudentBroke) and "CUDA" not in str(results[1])
    assert results[2] == Failure("fail-0", "no reply")
    assert [results[0].pair_id, results[3].pair_id] == ["a-0", "b-0"]
    assert ready


def test_after_a_break_only_pairs_that_someone_waits_for_are_scored_again(judge_class):
    judge = judge_class()
    asked = []

    def breaking(pairs):
        asked.append([one.prompt for one in pairs])
        if len(pairs) > 1:
            judge.go.wait(20)
            raise RuntimeError("the student breaks on two")
        yield from judge(pairs)

    breaking.go = judge.go

    async def scenario(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("stays", "left")]
        while not asked:
            await asyncio.sleep(0.01)
        futures[1].cancel()
        await asyncio.sleep(0)
        judge.go.set()
        return (await futures[0]).pair_id

    assert run(scenario, breaking, batch_size=2, wait=5) == "stays-0"
    assert asked == [["stays", "left"], ["stays"]]


def test_a_student_that_breaks_on_everything_is_not_ready(judge_class):
    async def scenario(batcher):
        for number in range(3):
            assert batcher.ready
            with pytest.raises(StudentBroke):
                await (await submit(batcher, pair("break", number)))
        return batcher.ready

    assert run(scenario, judge_class()) is False


def test_what_its_request_gave_up_on_is_not_scored(judge_class):
    judge = judge_class()

    async def scenario(batcher):
        first = await submit(batcher, pair("wait"))
        while not judge.batches:
            await asyncio.sleep(0.01)
        held = batcher.held
        (await submit(batcher, pair("given up"))).cancel()
        await asyncio.sleep(0)
        assert batcher.held == held
        last = await submit(batcher, pair("last"))
        judge.go.set()
        await asyncio.gather(first, last)
        return batcher.held

    assert run(scenario, judge) == 0
    assert judge.batches == [["wait"], ["last"]]


def test_a_batch_that_everyone_gave_up_on_ends_with_its_pass(judge_class):
    judge, left = judge_class(), []

    def watched(pairs):
        try:
            yield from judge(pairs)
        finally:
            left.append(pairs[0].prompt)

    async def scenario(batcher):
        first = await submit(batcher, pair("wait"))
        while not judge.batches:
            await asyncio.sleep(0.01)
        first.cancel()
        judge.go.set()
        return (await (await submit(batcher, pair("next")))).pair_id

    watched.go = judge.go
    assert run(scenario, watched) == "next-0"
    assert left == ["wait", "next"]


def test_the_first_pair_opens_the_door_and_a_student_that_breaks_on_it_leaves_it_shut(judge_class):
    async def scenario(warm_up):
        batcher = Batcher(judge_class(), batch_size=1, queue=1, wait=0, warm_up=warm_up)
        batcher.start()
        assert not batcher.ready
        while not (batcher.warm.is_set() or batcher.error):
            await asyncio.sleep(0.01)
        ready = batcher.ready
        await batcher.close()
        return ready, batcher.first_pair, str(batcher.error)

    def broken(judge):
        raise RuntimeError("no memory")

    assert asyncio.run(scenario(lambda judge: 2.5)) == (True, 2.5, "None")
    assert asyncio.run(scenario(broken)) == (False, 0.0, "no memory")


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
    async def scenario(batcher):
        passes = asyncio.Queue()
        with batcher.hold(2) as places:
            await asyncio.gather(places.submit(pair("a", 1), passes), places.submit(pair("a", 2)))
        return [passes.get_nowait() for _ in range(passes.qsize())]

    found = {"t2ia_questions": [{"question": "Is it?", "answer": "yes"}]}
    assert run(scenario, judge_class()) == [PassEnded("t2ia_questions", found)]


@settings(max_examples=20)
@given(batch_size=strategies.integers(1, 5), prompts=strategies.lists(strategies.sampled_from("abf"), max_size=12))
def test_every_pair_gets_its_own_result(judge_class, batch_size, prompts):
    async def scenario(batcher):
        words = {"f": "fail"}
        futures = [await submit(batcher, pair(words.get(prompt, prompt), n)) for n, prompt in enumerate(prompts)]
        return [(await future).pair_id for future in futures]

    ids = run(scenario, judge_class(), batch_size=batch_size, queue=20, wait=0.001)
    assert [name.rpartition("-")[2] for name in ids] == [str(n) for n in range(len(prompts))]


def test_who_waits_for_a_place_gets_it_in_turn_and_who_leaves_the_line_holds_none(judge_class):
    async def scenario(batcher):
        order = []

        async def come(name):
            place = await batcher.place_in_turn()
            order.append(name)
            place.give_back()

        with batcher.hold(7):
            place = await batcher.place_in_turn()
            waiting = [asyncio.create_task(come(name)) for name in "abc"]
            await asyncio.sleep(0)
            waiting[1].cancel()
            with pytest.raises(Busy), batcher.hold():
                pass
            place.give_back()
            with pytest.raises(Busy), batcher.hold():  # the place that is free is the next one's
                pass
            await asyncio.gather(*waiting, return_exceptions=True)
        return order, batcher.held

    assert run(scenario, judge_class()) == (["a", "c"], 0)


def test_judges_take_their_share_of_what_is_there_and_the_rest_as_they_get_free(judge_class):
    one, other = judge_class(), judge_class()

    async def scenario(batcher):
        first = [await submit(batcher, pair("wait", n)) for n in range(2)]
        while not (one.batches and other.batches):
            await asyncio.sleep(0.01)
        held = other if len(one.batches[0]) > 1 else one
        (one if held is other else other).go.set()
        rest = [await submit(batcher, pair("a", n)) for n in range(6)]
        await asyncio.gather(*rest)
        held.go.set()
        return len(await asyncio.gather(*first))

    assert run(scenario, one, other) == 2
    assert sorted(len(judge.batches[0]) for judge in (one, other)) == [1, 1]
    assert sorted(map(len, [*one.batches[1:], *other.batches[1:]])) == [2, 4]


def test_a_prompt_that_one_judge_is_being_asked_about_is_left_to_it_until_its_questions_are_there(judge_class):
    judges, begun = [judge_class(), judge_class()], []

    def slow(judge):
        def stream(pairs):
            begun.append(pairs[0].prompt)
            judge.go.wait(20)
            yield from judge(pairs)

        stream.go = judge.go
        return stream

    async def scenario(batcher):
        futures = [await submit(batcher, pair("a cat"))]
        while not begun:
            await asyncio.sleep(0.01)
        futures.append(await submit(batcher, pair("a \n cat", 1)))
        futures.append(await submit(batcher, pair("a dog")))
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        together = list(begun)
        for judge in judges:
            judge.go.set()
        await asyncio.gather(*futures)
        return together

    assert run(scenario, *map(slow, judges), batch_size=2, wait=0, asks_once=True) == ["a cat", "a dog"]
    assert sorted(begun) == ["a \n cat", "a cat", "a dog"]


def gone(judge, times, is_final=False):
    """The judge, which ends so many times when "last" is in a batch."""
    left = [times]

    def stream(pairs):
        if left[0] and any("last" in one.prompt for one in pairs):
            left[0] -= 1
            raise (JudgeLost if is_final else JudgeGone)("it was killed")
        yield from judge(pairs)

    stream.go = judge.go
    return stream


def test_what_a_judge_had_that_ended_goes_to_another_once(judge_class):
    async def scenario(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("last", "a", "b")]
        return await asyncio.gather(*futures, return_exceptions=True), batcher.ready, batcher.held

    results, *state = run(scenario, gone(judge_class(), 1))
    assert [one.pair_id for one in results] == ["last-0", "a-0", "b-0"] and state == [True, 0]
    results, *state = run(scenario, gone(judge_class(), 2), gone(judge_class(), 2))
    assert isinstance(results[0], StudentBroke) and state == [True, 0]


def test_without_a_judge_nobody_waits(judge_class):
    async def scenario(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("last", "a")]
        results = await asyncio.gather(*futures, return_exceptions=True)
        with pytest.raises(StudentBroke, match="the student is gone"):
            await (await submit(batcher, pair("b")))
        await asyncio.sleep(0)
        return results, batcher.ready, str(batcher.error), batcher.held

    async def both(batcher):
        futures = [await submit(batcher, pair(prompt)) for prompt in ("last", "a")]
        return await asyncio.gather(*futures), batcher.ready

    results, *state = run(scenario, gone(judge_class(), 1, is_final=True))
    assert all(isinstance(one, StudentBroke) for one in results) and state == [False, "it was killed", 0]
    results, ready = run(both, gone(judge_class(), 1, is_final=True), judge_class())
    assert [one.pair_id for one in results] == ["last-0", "a-0"] and ready
