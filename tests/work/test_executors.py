"""Workers here and in real processes: what they give comes back once, and what one loses another makes good."""

import logging
import multiprocessing
import os
import time
from contextlib import closing
from functools import partial

import pytest

from dyneval.errors import ClusterError
from dyneval.work.executors import Done, Here, Lost, Processes, WorkerBroken


class Clerk:
    """Does what a task says; `folder` tells the workers of one test what others have done."""

    def __init__(self, folder, device):
        self.folder, self.device = folder, device
        if device == "missing":
            raise ValueError("there is no such device")

    def work(self, task):
        yield f"begun {task}"
        if task == "die":
            os._exit(9)
        if task == "die once" and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            time.sleep(0.5)
            os._exit(9)
        if task == "raise":
            raise ValueError("what is this?")
        if task == "break" or (task == "break bad" and self.device == "bad"):
            raise WorkerBroken("the device is gone")
        if task == "tell":
            logging.getLogger("clerk").info("asking http://me:secret@host/v1?key=secret")
        if task == "slow":
            time.sleep(0.2)
        (self.folder / f"{task} {os.getpid()}").touch()
        yield f"ended {task}"

    def close(self):
        (self.folder / f"closed {os.getpid()}").touch()


def split(outcomes):
    """Items by task, and the reasons of those that are lost."""
    outcomes = list(outcomes)
    done = {outcome.task: outcome.items for outcome in outcomes if isinstance(outcome, Done)}
    return done, {outcome.task: outcome.reason for outcome in outcomes if isinstance(outcome, Lost)}


def test_here_items_come_one_by_one_and_the_worker_is_closed(tmp_path):
    with closing(Here().run(partial(Clerk, tmp_path), ["a", "b"])) as outcomes:
        first = next(outcomes)
        items = iter(first.items)
        assert (first.task, next(items)) == ("a", "begun a")
        assert not list(tmp_path.iterdir()), "nothing is done before it is asked for"
        assert next(items) == "ended a"
        assert list(next(outcomes).items) == ["begun b", "ended b"]
    assert (tmp_path / f"closed {os.getpid()}").exists()


def test_here_what_a_worker_raises_comes_behind_what_it_gave(tmp_path):
    with closing(Here().run(partial(Clerk, tmp_path), ["raise"])) as outcomes:
        items = iter(next(outcomes).items)
        assert next(items) == "begun raise"
        with pytest.raises(ValueError, match="what is this"):
            next(items)


def test_processes_share_tasks_and_end(tmp_path):
    tasks = [f"slow{number}" for number in range(6)]
    done, lost = split(Processes(("cpu",) * 3).run(partial(Clerk, tmp_path), tasks))
    assert done == {task: [f"begun {task}", f"ended {task}"] for task in tasks} and not lost
    assert not multiprocessing.active_children()


def test_what_a_worker_logs_holds_no_secrets(tmp_path, capfd):
    split(Processes(("cpu", "cpu")).run(partial(Clerk, tmp_path), ["tell"]))
    assert capfd.readouterr().err.strip() == "[cpu] asking http://host/v1?..."


def test_a_task_that_kills_two_workers_is_lost_and_nothing_else(tmp_path):
    tasks = ["a", "die", "b", "c", "d"]
    done, lost = split(Processes(("cpu",) * 3).run(partial(Clerk, tmp_path), tasks))
    assert set(done) == {"a", "b", "c", "d"}
    assert lost == {"die": "the worker on cpu died (exit 9), for the second time with this task"}


def test_code_that_raises_costs_its_worker_and_says_why(tmp_path):
    done, lost = split(Processes(("cpu",) * 3).run(partial(Clerk, tmp_path), ["raise", "a", "b"]))
    assert set(done) == {"a", "b"}
    assert "failed (ValueError: what is this?)" in lost["raise"]


def test_a_worker_without_work_takes_over_from_one_that_dies(tmp_path):
    done, lost = split(Processes(("cpu", "cpu")).run(partial(Clerk, tmp_path), ["die once", "a"]))
    assert set(done) == {"a", "die once"} and not lost


def test_a_broken_worker_leaves_its_task_to_others_and_is_not_held_against_it(tmp_path):
    outcomes = list(Processes(("bad", "bad", "missing", "good")).run(partial(Clerk, tmp_path), ["break bad"] * 4))
    assert [outcome.items for outcome in outcomes] == [["begun break bad", "ended break bad"]] * 4


def test_without_any_worker_left_the_reasons_are_told_behind_the_results(tmp_path):
    found = []
    with pytest.raises(ClusterError) as told:
        found.extend(Processes(("one", "two")).run(partial(Clerk, tmp_path), ["a", "break", "b", "c"]))
    assert {outcome.task for outcome in found} <= {"a", "b", "c"}
    assert "one: the device is gone" in str(told.value) and "two: the device is gone" in str(told.value)


def test_one_that_stops_early_leaves_no_process_behind(tmp_path):
    with closing(Processes(("cpu", "cpu")).run(partial(Clerk, tmp_path), ["a", "b", "c", "d"])) as outcomes:
        next(outcomes)
    assert not multiprocessing.active_children()
