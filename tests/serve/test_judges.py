"""Students in processes of their own behind one queue."""

import os
import signal
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from dyneval.errors import CheckpointError
from dyneval.loaded_pairs import LoadedPair, PassEnded
from dyneval.processing import Processor
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings
from dyneval.serve.batcher import JudgeGone
from dyneval.serve.judges import on_devices

SETTINGS = ScorerSettings(limits=ReplyLimits().capped(2, 8))
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def judges(student, tmp_path_factory):
    """Two students in processes. The `devices` are checkpoints here, so that it is seen who asked which questions."""
    from dyneval.demo.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("students") / "other"
    build_tiny_model(folder, seed=1, task_tokens=True)
    Processor.from_pretrained(student).save_pretrained(folder)
    load = partial(Scorer.from_pretrained, device="cpu", settings=SETTINGS)
    with closing(on_devices(load, [str(student), str(folder)])) as judges:
        yield judges
    assert not children()


@pytest.fixture(scope="module")
def here(student):
    return Scorer.from_pretrained(str(student), device="cpu", settings=SETTINGS)


def pairs(prompt):
    return [
        LoadedPair(pair_id=name, prompt=prompt, image=Image.new("RGB", (60, 40), name), image_name=name)
        for name in COLOURS
    ]


def records(stream, asked):
    return {event.pair_id: event for _, event in stream(asked) if not isinstance(event, PassEnded)}


def told(record):
    row = record.to_dict()
    row.pop("seconds")
    return row


def test_a_student_elsewhere_scores_as_one_here_and_hears_what_the_others_asked(judges, here):
    one, other = judges.streams
    expected = records(here.score_stream, pairs("a red circle"))
    found = records(one, pairs("a red circle"))
    assert {name: told(record) for name, record in found.items()} == {n: told(r) for n, r in expected.items()}
    assert judges.about["revision"] == here.revision and judges.ask_once

    questions = [[q.question for q in row.t2ia_questions] for row in found.values()]
    again = records(other, pairs(" a red\ncircle"))
    assert [[q.question for q in row.t2ia_questions] for row in again.values()] == questions
    own = records(other, pairs("a blue square"))["red"].t2ia_questions
    assert own != records(here.score_stream, pairs("a blue square"))["red"].t2ia_questions


def test_pairs_that_nobody_waits_for_are_left_behind_and_a_killed_student_comes_back(judges):
    stream, _ = judges.streams
    batch = [replace(one, is_wanted=lambda name=one.pair_id: name != "green") for one in pairs("a")]
    rows = records(stream, batch)
    assert rows["red"].overall and rows["green"].reason == "nobody waits for it any more"

    events = stream(pairs("b"))
    next(events)
    events.close()  # the rest of the batch is not scored
    assert set(records(stream, pairs("c"))) == set(COLOURS)

    with pytest.raises(JudgeGone, match=r"died \(exit -9\)"):
        for _ in stream(pairs("d")):
            for pid in children():
                os.kill(pid, signal.SIGKILL)
    assert set(records(stream, pairs("d"))) == set(COLOURS)


def children():
    mine = Path(f"/proc/{os.getpid()}/task")
    found = [int(pid) for task in mine.iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"no student could be loaded: .*nowhere: .*No such file"):
        on_devices(open, [str(tmp_path / "nowhere")])
