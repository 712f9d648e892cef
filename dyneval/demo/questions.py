"""The wording of every question in the demo world, written and read by the same templates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from dyneval.demo import vocabulary as words

RELATION_PHRASES = {name: synonyms[0] for name, synonyms in words.RELATIONS.items()}

TEMPLATES: dict[str, str] = {
    # alignment, one element of the prompt each
    "presence": "{be} there {some} in the image?",
    "count": "{be} there exactly {number} {noun}?",
    "colour": "{be} the {noun} {colour}?",
    "relation": "{be} the {noun} {relation} the {other}?",
    "text": '{do} the {noun} say "{label}"?',
    "setting": "Is the setting {setting}?",
    "material": "{be} the {noun} made of {material}?",
    "size": "{be} the {noun} {size}?",
    # distortions, asked beside the alignment
    "no_blur": "Are there no blurry areas in the image?",
    "no_noise": "Are there no noise specks in the image?",
    "no_cut": "Are there no objects cut off at the edge?",
    "no_deformation": "Are there no torn or melted shapes in the {noun}?",
    # image quality, by part
    "shape": "{do} the {part} of the {noun} have a consistent shape?",
    "distortion": "{be} the {part} of the {noun} torn or melted?",
    "texture": "{be} the texture of the {part} of the {noun} clean and sharp?",
    "spatial": "{be} the {noun} whole and placed correctly in space?",
    "noise": "Is the background free of noise?",
    "blur": "Is the image free of blur?",
    "seam": "Is the image free of visible seams?",
}
ALIGNMENT = ("presence", "count", "colour", "relation", "text", "setting", "material", "size")
DISTORTION = ("no_blur", "no_noise", "no_cut", "no_deformation")
QUALITY = ("shape", "distortion", "texture", "spatial", "noise", "blur", "seam")


class ForeignQuestionError(LookupError):
    """A question that is not one of the demo world."""


class Question(NamedTuple):
    """A question taken apart: its topic (a key of `TEMPLATES`) and the words in its slots."""

    topic: str
    slots: dict[str, str]


def ask(topic: str, many: bool = False, **slots: str) -> str:
    """Word the question of `topic`; `many` makes its verb plural."""
    verbs = {"be": "Are", "do": "Do"} if many else {"be": "Is", "do": "Does"}
    return TEMPLATES[topic].format(**verbs, **slots)


def understand(question: str) -> Question:
    """Take a question of the demo world apart, whatever its spaces and case.

    Raises:
        ForeignQuestionError: it is none of them.
    """
    text = " ".join(question.split())
    for topic, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(text):
            slots = {name: value.lower() for name, value in found.groupdict().items()}
            return Question(topic, slots)
    raise ForeignQuestionError(f"not a question of the demo world: {question[:120]!r}")


def _any(phrases: Iterable[str]) -> str:
    return "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))


_SOME = {words.with_article(kind) for kind in words.KINDS} | {kind.plural for kind in words.KINDS.values()}
_SLOTS: dict[str, str] = {
    "be": "is|are",
    "do": "does|do",
    "some": _any(_SOME),
    "noun": _any(words.NOUNS),
    "other": _any(words.NOUNS),
    "number": _any(words.COUNTS.values()),
    "colour": _any(words.COLOURS),
    "relation": _any(RELATION_PHRASES.values()),
    "label": "[a-z]{1,8}",
    "setting": _any(words.SETTING_NAMES.values()),
    "material": _any(words.MATERIALS.values()),
    "size": _any(words.SIZES),
    "part": _any(part for kind in words.KINDS.values() for part in kind.parts),
}


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", template)
    slots = [f"(?P<{name}>{_SLOTS[name]})" for name in pieces[1::2]]
    literals = [re.escape(text) for text in pieces[::2]]
    return re.compile("".join(a + b for a, b in zip(literals, [*slots, ""], strict=True)), re.IGNORECASE)


_PATTERNS = {topic: _pattern(template) for topic, template in TEMPLATES.items()}
