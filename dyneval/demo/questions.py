"""The wording of every question in the demo world, written and read by the same templates.

The oracle must understand the questions that it asked, and those of a student that learned from it. One table for both
directions keeps the two from drifting apart. The words are few on purpose, see `TEMPLATES`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dyneval.demo import vocabulary as words

RELATION_PHRASES = {name: synonyms[0] for name, synonyms in words.RELATIONS.items()}

TEMPLATES: dict[str, str] = {
    # alignment, one element of the prompt each
    "presence": "{be} there {some}?",
    "colour": "{be} the {noun} {colour}?",
    "count": "{be} there exactly {number} {noun}?",
    "relation": "{be} the {noun} {relation} the {other}?",
    "setting": "Is the setting {setting}?",
    # distortions, asked beside the alignment
    "no_deformation": "{be} the {noun} neither torn nor melted?",
    "no_blur": "Is there no blur?",
    "no_noise": "Is there no noise?",
    # image quality
    "shape": "{do} the {noun} have a consistent shape?",
    "texture": "Are all textures clean and sharp?",
    "seam": "Is the image free of seams?",
    "spatial": "{be} the {noun} whole and in place?",
    "distortion": "{be} the {noun} torn or melted?",
}
"""Topic -> wording, short on purpose: on two cores, every word of the teacher costs the student milliseconds a step."""
ALIGNMENT = ("presence", "colour", "count", "relation", "setting")
DISTORTION = ("no_deformation", "no_blur", "no_noise")
QUALITY = ("shape", "texture", "seam", "spatial", "distortion")


class ForeignQuestionError(LookupError):
    """A question that is not one of the demo world."""


class DemoQuestion(NamedTuple):
    """A question taken apart: its topic (a key of `TEMPLATES`) and the words in its slots."""

    topic: str
    slots: dict[str, str]


def ask(topic: str, many: bool = False, **slots: str) -> str:
    """Word a question.

    Args:
        topic: a key of TEMPLATES.
        many: make its verb plural.
        slots: the words for the braces of the template.
    """
    verbs = {"be": "Are", "do": "Do"} if many else {"be": "Is", "do": "Does"}
    return TEMPLATES[topic].format(**verbs, **slots)


def understand(question: str) -> DemoQuestion:
    """Take a question of the demo world apart, whatever its spaces and case.

    Raises:
        ForeignQuestionError: it is not one of them.
    """
    text = " ".join(question.split())
    for topic, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(text):
            slots = {name: value.lower() for name, value in found.groupdict().items()}
            return DemoQuestion(topic, slots)
    raise ForeignQuestionError(f"not a question of the demo world: {question[:120]!r}")


_SOME = {words.with_article(kind) for kind in words.KINDS} | set(words.KINDS.values())
_SLOTS: dict[str, str] = {
    "be": "is|are",
    "do": "does|do",
    "some": words.any_of(_SOME),
    "noun": words.any_of(words.NOUNS),
    "other": words.any_of(words.NOUNS),
    "number": words.any_of(words.COUNTS.values()),
    "colour": words.any_of(words.COLOURS),
    "relation": words.any_of(RELATION_PHRASES.values()),
    "setting": words.any_of(words.SETTING_NAMES.values()),
}


_PATTERNS: dict[str, re.Pattern[str]] = {}
for _topic, _template in TEMPLATES.items():
    # Text and slots take turns: the text is matched as it stands, each slot by the words that may fill it.
    _pieces = re.split(r"\{(\w+)\}", _template)
    _slots = [f"(?P<{name}>{_SLOTS[name]})" for name in _pieces[1::2]]
    _texts = [re.escape(text) for text in _pieces[::2]]
    _whole = "".join(text + slot for text, slot in zip(_texts, [*_slots, ""], strict=True))
    _PATTERNS[_topic] = re.compile(_whole, re.IGNORECASE)
