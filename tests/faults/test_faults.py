"""Kills, full disks and other misfortunes, on the doors of every step: the bench in small."""

import pytest

from .faults import FAULTS, NotPossible, meets
from .steps import STEPS
from .trials import attempt
from .world import World

SEEDS = 3
CASES = [(step, fault, seed) for step in STEPS for fault in FAULTS for seed in range(SEEDS) if meets(step, fault)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def _is_in_ci(step, fault, seed):
    """Kills come at any moment, so there are several of them; steps that load torch are left to the night."""
    return not step.heavy and (seed == 0 or fault == "kill -9")


@pytest.mark.parametrize(
    ("step", "fault", "seed"),
    [pytest.param(*case, id=f"{case[0].name}, {case[1]}, {case[2]}") for case in CASES if _is_in_ci(*case)],
)
def test_the_outputs_are_those_of_an_undisturbed_run(world, step, fault, seed, tmp_path):
    try:
        trial = attempt(world.step(step), fault, seed, tmp_path / "trial")
    except NotPossible as reason:
        pytest.skip(str(reason))
    assert not trial.problem, trial.problem
