"""Where objects stand agrees with what the scene says about them."""

from random import Random
from statistics import mean

from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.demo.faults import Fault
from dyneval.demo.layout import lay_out
from dyneval.demo.scenes import random_scene

SEEDS, TIERS = st.integers(0, 2**32), st.sampled_from((1, 2, 3))


@settings(max_examples=60)
@given(SEEDS, TIERS)
def test_relations_hold_and_nothing_is_cut_off(seed, tier):
    scene = random_scene(Random(seed), tier)
    places = lay_out(scene, (), Random(seed))
    assert {kind: len(found) for kind, found in places.items()} == {g.kind: g.count for g in scene.groups}
    centre = {kind: (mean(p.x for p in found), mean(p.y for p in found)) for kind, found in places.items()}
    for relation in scene.relations:
        axis = 0 if relation.name in ("left of", "right of") else 1
        first, second = centre[relation.subject][axis], centre[relation.object][axis]
        assert (first < second) == (relation.name in ("left of", "above"))
    for place in (place for found in places.values() for place in found):
        assert all(place.side / 2 <= v <= 1 - place.side / 2 for v in (place.x, place.y))


@settings(max_examples=60)
@given(SEEDS, TIERS)
def test_groups_do_not_cover_each_other(seed, tier):
    places = lay_out(random_scene(Random(seed), tier), (), Random(seed))
    objects = [(kind, place) for kind, found in places.items() for place in found]
    for i, (kind, a) in enumerate(objects):
        for other, b in objects[:i]:
            apart = max(abs(a.x - b.x), abs(a.y - b.y))
            assert apart > (a.side + b.side) / 2 * 0.85, (kind, other)


@settings(max_examples=60)
@given(SEEDS, TIERS, st.floats(0.01, 1))
def test_a_cut_off_group_sticks_out_but_every_object_of_it_is_seen(seed, tier, severity):
    scene = random_scene(Random(seed), tier)
    target = scene.groups[0].kind
    cut = Fault(kind="cut_off", severity=severity, target=target)
    places = lay_out(scene, [cut], Random(seed))
    beyond = max(max(p.side / 2 - v, v + p.side / 2 - 1) for p in places[target] for v in (p.x, p.y))
    assert 0.1 < beyond / places[target][0].side < 0.7
    whole = lay_out(scene, (), Random(seed))
    assert {kind: found for kind, found in places.items() if kind != target} == {
        kind: found for kind, found in whole.items() if kind != target
    }
