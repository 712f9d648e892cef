"""The wording of every question in the demo world, written and read by the same templates."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    """Word the question of `topic`; `many` makes its verb plural."""
    verbs = {"be": "Are", "do": "Do"} if many else {"be": "Is", "do": "Does"}
    return TEMPLATES[topic].format(**verbs, **slots)


def understand(question: str) -> DemoQuestion:
    """Take a question of the demo world apart, whatever its spaces and case.

    Raises:
        ForeignQuestionError: it is none of them.
    """
    text = " ".join(question.split())
    for topic, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(text):
            slots = {name: value.lower() for name, value in found.groupdict().items()}
            return DemoQuestion(topic, slots)
    raise ForeignQuestionError(f"not a question of the demo world: {question[:120]!r}")


def _any(phrases: Iterable[str]) -> str:
    return "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))


_SOME = {words.with_article(kind) for kind in words.KINDS} | set(words.KINDS.values())
_SLOTS: dict[str, str] = {
    "be": "is|are",
    "do": "does|do",
    "some": _any(_SOME),
    "noun": _any(words.NOUNS),
    "other": _any(words.NOUNS),
    "number": _any(words.COUNTS.values()),
    "colour": _any(words.COLOURS),
    "relation": _any(RELATION_PHRASES.values()),
    "setting": _any(words.SETTING_NAMES.values()),
}


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", template)
    slots = [f"(?P<{name}>{_SLOTS[name]})" for name in pieces[1::2]]
    literals = [re.escape(text) for text in pieces[::2]]
    return re.compile("".join(a + b for a, b in zip(literals, [*slots, ""], strict=True)), re.IGNORECASE)


_PATTERNS = {topic: _pattern(template) for topic, template in TEMPLATES.items()}
