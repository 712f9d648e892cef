"""Misdrawn scenes differ from what was asked exactly where their faults say so."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dyneval.demo.faults import (
    ALIGNMENT_FAULTS,
    QUALITY_FAULTS,
    Fault,
    colour_severity,
    count_severity,
    misdraw,
    spoil,
)
from dyneval.demo.scenes import random_scene

SEEDS, TIERS = st.integers(0, 2**32), st.sampled_from((1, 2, 3))
NEVER = dict.fromkeys(ALIGNMENT_FAULTS + QUALITY_FAULTS, 0.0)


@settings(max_examples=60)
@given(SEEDS, TIERS)
def test_no_rates_no_faults(seed, tier):
    asked = random_scene(Random(seed), tier)
    assert misdraw(asked, NEVER, Random(seed)) == (asked, [])
    assert spoil(asked, NEVER, (0.1, 1.0), Random(seed)) == []


@settings(max_examples=60)
@given(SEEDS, TIERS, st.floats(0, 1))
def test_every_difference_has_its_fault(seed, tier, rate):
    asked = random_scene(Random(seed), tier)
    drawn, faults = misdraw(asked, dict.fromkeys(ALIGNMENT_FAULTS, rate), Random(seed))
    assert drawn.groups
    found = {(fault.kind, fault.target) for fault in faults}
    assert len(found) == len(faults)
    for group in asked.groups:
        shown = drawn.group(group.kind)
        assert (("missing_object", group.kind) in found) == (shown is None)
        if shown:
            assert (("wrong_colour", group.kind) in found) == (shown.colour != group.colour)
            assert (("wrong_count", group.kind) in found) == (shown.count != group.count)
            assert replace(shown, colour=group.colour, count=group.count) == group
    for relation in asked.relations:
        shown = drawn.relation(relation.subject, relation.object)
        if drawn.group(relation.subject) and drawn.group(relation.object):
            assert shown in (relation, relation.inverse())
            assert (("swapped_relation", relation.subject) in found) >= (shown != relation)


@settings(max_examples=60)
@given(SEEDS, TIERS)
def test_quality_faults_hit_what_is_drawn(seed, tier):
    drawn = random_scene(Random(seed), tier)
    faults = spoil(drawn, dict.fromkeys(QUALITY_FAULTS, 0.7), (0.2, 0.6), Random(seed))
    assert all(0.2 <= fault.severity <= 0.6 for fault in faults)
    assert all(fault.target is None or drawn.group(fault.target) for fault in faults)
    assert sum(fault.kind == "seam" for fault in faults) <= 1
    shapes = [fault.target for fault in faults if fault.kind in ("torn", "melted", "cut_off")]
    assert len(shapes) == len(set(shapes))
    assert msgspec.json.decode(msgspec.json.encode(faults), type=list[Fault]) == faults


def test_severities_grow_with_the_mistake():
    assert [count_severity(3, n) for n in (3, 4, 5)] == [0.0, 0.5, 0.75]
    assert count_severity(1, 4) == 1.0
    assert 0 == colour_severity("red", "red") < colour_severity("red", "orange") < colour_severity("red", "blue")


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "ugly", "severity": 0.5, "target": None},
        {"kind": "blur", "severity": 0.0, "target": None},
        {"kind": "blur", "severity": True, "target": None},
        {"kind": "blur", "severity": float("nan"), "target": None},
        {"kind": "blur", "severity": 0.5, "target": "cup"},
        {"kind": "torn", "severity": 0.5, "target": None},
        {"kind": "torn", "severity": 0.5, "target": "dragon"},
        {"kind": "torn", "severity": 0.5},
    ],
)
def test_bad_fault_in_a_file(data):
    with pytest.raises(ValueError, match=r"fault|severity|Expected|missing"):
        msgspec.convert(data, Fault)
