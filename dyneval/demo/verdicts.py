"""How well an image fares on one question, and why: a score 1-5 and a short reason.

The scores rest on severities (`dyneval.demo.faults`): an element that is missing scores 1; a wrong one, a fault of
severity s or a damage d scores 5 - 4 s. Several faults add up to the damage 1 - (1 - w1 s1)(1 - w2 s2)..., where the
weight w says how much a fault harms what the question is about (`HARM`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dyneval.demo import vocabulary as words
from dyneval.demo.faults import IMAGE_FAULTS, Fault, colour_severity, count_severity, text_severity
from dyneval.demo.questions import RELATION_PHRASES, ForeignQuestionError, Question
from dyneval.demo.scenes import Group, Scene

HARM: dict[str, dict[str, float]] = {
    "shape": {"torn": 1.0, "melted": 1.0, "cut_off": 0.7, "seam": 0.6, "blur": 0.3, "noise": 0.2},
    "distortion": {"torn": 1.0, "melted": 1.0, "cut_off": 0.4, "seam": 0.7},
    "texture": {"torn": 0.4, "melted": 0.5, "cut_off": 0.2, "seam": 0.3, "blur": 1.0, "noise": 1.0},
    "spatial": {"torn": 0.6, "melted": 0.5, "cut_off": 1.0, "seam": 0.8, "blur": 0.2, "noise": 0.1},
    "text": {"torn": 0.5, "melted": 0.7, "cut_off": 0.6, "blur": 0.6},
    "no_deformation": {"torn": 1.0, "melted": 1.0},
    "no_cut": {"cut_off": 1.0},
    "no_blur": {"blur": 1.0},
    "no_noise": {"noise": 1.0},
    "blur": {"blur": 1.0},
    "noise": {"noise": 1.0, "blur": 0.2},
    "seam": {"seam": 1.0},
}
"""Topic of a question -> fault -> weight 0-1."""

_LOOKS = {
    "torn": "torn apart",
    "melted": "melted",
    "cut_off": "cut off at the edge",
    "seam": "broken by a seam",
    "blur": "blurred",
    "noise": "covered with noise",
}


class Verdict(NamedTuple):
    """Exact score in [1, 5] and the reason for it, under 15 words."""

    score: float
    reasoning: str


def judge(question: Question, drawn: Scene, faults: Sequence[Fault]) -> Verdict:
    """The verdict on an image that shows `drawn` with `faults`.

    Raises:
        ForeignQuestionError: it asks how two groups stand to each other of which the scene does not say so.
    """
    topic, slots = question
    if topic == "presence":
        return _presence(words.NOUNS[slots["some"].split()[-1]], drawn)
    if topic == "setting":
        return _setting(slots["setting"], drawn)
    if "noun" not in slots:
        return _damage_of_image(topic, drawn, faults)
    kind = words.NOUNS[slots["noun"]]
    group = drawn.group(kind)
    if group is None:
        return Verdict(1.0, f"There is no {kind} in the image.")
    if topic == "relation":
        return _relation(group, slots, drawn)
    if topic in _ELEMENTS:
        return _ELEMENTS[topic](group, slots)
    own = [fault for fault in faults if fault.target == group.kind or fault.kind in IMAGE_FAULTS]
    return _text(group, slots, own) if topic == "text" else _damage_of_object(topic, group, slots, own)


def _verdict(severity: float, reasoning: str) -> Verdict:
    return Verdict(5.0 - 4.0 * severity, reasoning)


# ---------------------------------------------------------------------------
# Alignment


def _presence(kind: str, drawn: Scene) -> Verdict:
    group = drawn.group(kind)
    if group is None:
        return Verdict(1.0, f"No {kind} can be seen.")
    seen = words.with_article(kind) if group.count == 1 else f"{words.COUNTS[group.count]} {group.noun}"
    return Verdict(5.0, f"{seen[0].upper()}{seen[1:]} can be seen.")


def _setting(asked: str, drawn: Scene) -> Verdict:
    shown = words.SETTING_NAMES.get(drawn.setting, "a plain studio")
    return Verdict(5.0 if shown == asked else 1.0, f"The background shows {shown}.")


def _count(group: Group, slots: dict[str, str]) -> Verdict:
    asked = next(count for count, word in words.COUNTS.items() if word == slots["number"])
    there = f"There {_be(group)} {words.COUNTS[group.count]} {group.noun}"
    severity = count_severity(asked, group.count)
    return _verdict(severity, f"{there}, not {slots['number']}." if severity else f"{there}.")


def _colour(group: Group, slots: dict[str, str]) -> Verdict:
    return _property(group, group.colour, slots["colour"], colour_severity(slots["colour"], group.colour))


def _material(group: Group, slots: dict[str, str]) -> Verdict:
    shown = words.MATERIALS.get(group.material, "a plain material")
    return _property(group, f"made of {shown}", f"of {slots['material']}", float(shown != slots["material"]))


def _size(group: Group, slots: dict[str, str]) -> Verdict:
    severity = 0.0 if slots["size"] == group.size else 0.5 if group.size == words.MEDIUM else 1.0
    return _property(group, group.size, slots["size"], severity)


def _text(group: Group, slots: dict[str, str], faults: Sequence[Fault]) -> Verdict:
    asked = slots["label"].upper()
    if not group.label:
        return Verdict(1.0, f"{_the(group)} {_be(group)} without text.")
    wrong, worst = text_severity(asked, group.label), _worst("text", faults)
    reads = f'{_the(group)} {"reads" if group.count == 1 else "read"} "{group.label}"'
    ending = f', not "{asked}".' if wrong else f", but {_looks('text', worst)}." if worst else "."
    return _verdict(1 - (1 - wrong) * (1 - damage("text", faults)), reads + ending)


def _property(group: Group, shown: str, asked: str, severity: float) -> Verdict:
    return _verdict(severity, f"{_the(group)} {_be(group)} {shown}" + (f", not {asked}." if severity else "."))


def _relation(group: Group, slots: dict[str, str], drawn: Scene) -> Verdict:
    kind = words.NOUNS[slots["other"]]
    other = drawn.group(kind)
    if other is None:
        return Verdict(1.0, f"There is no {kind} in the image.")
    found = drawn.relation(group.kind, kind)
    if found is None:
        raise ForeignQuestionError(f"the demo world does not say how the {group.noun} and the {other.noun} stand")
    shown = RELATION_PHRASES[found.name]
    severity = 0.0 if shown == slots["relation"] else 1.0
    return _verdict(severity, f"{_the(group)} {_be(group)} {shown} the {other.noun}.")


_ELEMENTS: dict[str, Callable[[Group, dict[str, str]], Verdict]] = {
    "count": _count,
    "colour": _colour,
    "material": _material,
    "size": _size,
}


# ---------------------------------------------------------------------------
# Damage


def damage(topic: str, faults: Iterable[Fault]) -> float:
    """How much `faults` harm what a question of `topic` is about, 0-1; faults of no concern to it count nothing."""
    whole = 1.0
    for fault in faults:
        whole *= 1.0 - _harm(topic, fault)
    return 1.0 - whole


def _damage_of_image(topic: str, drawn: Scene, faults: Sequence[Fault]) -> Verdict:
    harmed = damage(topic, faults)
    worst = _worst(topic, faults)
    if worst is None:
        return Verdict(5.0 - 4.0 * harmed, f"The image shows no {_ABSENCES[topic]}.")
    group = drawn.group(worst.target) if worst.target else None
    subject = f"{_the(group)} {_be(group)}" if group else "The image is"
    return _verdict(harmed, f"{subject} {_looks(topic, worst)}.")


_ABSENCES = {
    "no_blur": "blur",
    "no_noise": "noise",
    "no_cut": "cut-off object",
    "blur": "blur",
    "noise": "noise",
    "seam": "seam",
}


def _damage_of_object(topic: str, group: Group, slots: dict[str, str], faults: Sequence[Fault]) -> Verdict:
    subject = f"The {slots['part']} of the {group.noun}" if "part" in slots else _the(group)
    verb = "is" if group.count == 1 or "part" in slots else "are"
    if "part" in slots and slots["part"] not in group.parts:
        return Verdict(1.0, f"{_the(group)} {_be(group)} without such a part.")
    worst = _worst(topic, faults)
    state = _looks(topic, worst) if worst else "whole" if topic == "spatial" else "clean and well formed"
    return _verdict(damage(topic, faults), f"{subject} {verb} {state}.")


def _worst(topic: str, faults: Iterable[Fault]) -> Fault | None:
    """The fault that harms `topic` most, None when none of them costs a visible part of the score."""
    worst = max(faults, key=lambda fault: _harm(topic, fault), default=None)
    return worst if worst and _harm(topic, worst) > 0.1 else None


def _harm(topic: str, fault: Fault) -> float:
    return HARM[topic].get(fault.kind, 0.0) * fault.severity


def _looks(topic: str, fault: Fault) -> str:
    harm = _harm(topic, fault)
    return f"{'slightly' if harm < 0.35 else 'clearly' if harm < 0.7 else 'badly'} {_LOOKS[fault.kind]}"


def _the(group: Group) -> str:
    return f"The {group.noun}"


def _be(group: Group) -> str:
    return "is" if group.count == 1 else "are"
