"""Task tokens, their ids and the human turns that carry them: the one place that knows them.

A human turn is written here as text, the way DynEvalInstruct stores it. How that text becomes token ids is decided in
`dyneval.processing`, with `split_human_turn` telling apart our own markers from text that came from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

T2IA, IQA, EVALUATION = "<|T2IA|>", "<|IQA|>", "<|EVALUATION|>"
TASK_TOKEN_IDS: dict[str, int] = {T2IA: 151669, IQA: 151670, EVALUATION: 151671}
TASK_TOKENS: tuple[str, ...] = tuple(TASK_TOKEN_IDS)
RELATED_WORDS: dict[str, str] = {
    T2IA: " text image alignment prompt match questions",
    IQA: " image quality distortion shape texture scene graph",
    EVALUATION: " evaluation score answer reasoning rating",
}
"""Words whose mean embedding the row of a task token starts from."""
IMAGE = "<image>"
"""Placeholder for one image in a stored human turn."""

TemplateVersion = Literal["readme", "release"]
DEFAULT_TEMPLATE: TemplateVersion = "readme"
_T2IA_ENDING: dict[TemplateVersion, str] = {
    # The published README and the published training code differ in this one sentence.
    "readme": "alignment.",
    "release": "alignment, including distortion checks.",
}
TEMPLATE_VERSIONS: tuple[TemplateVersion, ...] = tuple(_T2IA_ENDING)


class HumanTurn(NamedTuple):
    """A stored human turn taken apart: `images` placeholders, at most one task token, then plain text."""

    images: int
    task_token: str | None
    text: str


def t2ia_turn(prompt: str, version: TemplateVersion = DEFAULT_TEMPLATE) -> str:
    """Human turn that asks for alignment questions about `prompt`; no image. Raises ValueError on an empty prompt."""
    return (
        f"{T2IA}\nPrompt: {_prompt(prompt)}\n"
        f"Generate atomic yes/no verification questions for text-to-image {_T2IA_ENDING[version]}"
    )


def template_of(turn: str) -> TemplateVersion | None:
    """The version that a stored human turn was written in; None where it asks for something else than T2IA questions.

    The turns of the other tasks are the same in all versions.
    """
    if not turn.lstrip().startswith(T2IA):
        return None
    last = turn.rstrip().rpartition(" text-to-image ")[2]
    return next((version for version, ending in _T2IA_ENDING.items() if last == ending), None)


def iqa_turn() -> str:
    """Human turn that asks for the scene graph of an image and its image-quality questions."""
    return (
        f"{IMAGE}\n{IQA}\nParse the image into a scene graph and generate image-quality questions for shape "
        "consistency, distortions, texture fidelity, and spatial cues."
    )


def evaluation_turn(prompt: str, questions: Sequence[str]) -> str:
    """Human turn that asks for answers and scores (1-5) to `questions` about an image made from `prompt`.

    Raises ValueError when the prompt or the list of questions is empty.
    """
    if not questions:
        raise ValueError("an EVALUATION turn needs at least one question")
    # A newline inside a question would look like another numbered line; what is printable has none.
    lines = [question if question.isprintable() else " ".join(question.split()) for question in questions]
    numbered = "\n".join([f"{i}. {line}" for i, line in enumerate(lines, 1)])
    return (
        f"{IMAGE}\n{EVALUATION}\nPrompt: {_prompt(prompt)}\nQuestions:\n{numbered}\n"
        "Answer each question and assign a score from 1 to 5."
    )


def split_human_turn(value: str, images: int) -> HumanTurn:
    """Take a stored DynEval human turn apart.

    Only leading `<image>` placeholders (exactly `images` of them) and a task token right behind them count as markers;
    the same strings later on are text, since prompts come from outside. White space at both ends of the turn and around
    a placeholder is dropped, with images and without, as the published training code does: so no newline stands between
    the vision end token and the task token, and none keeps a task token from being one.

    Raises:
        ValueError: the turn does not begin with `images` placeholders.
    """
    rest = value
    for found in range(images):
        rest = rest.lstrip()
        if not rest.startswith(IMAGE):
            raise ValueError(f"the sample has {images} image(s) but its human turn begins with {found} {IMAGE}")
        rest = rest[len(IMAGE) :]
    rest = rest.strip()
    token = next((token for token in TASK_TOKENS if rest.startswith(token)), None)
    return HumanTurn(images, token, rest[len(token) :] if token else rest)


_ANY_TASK_TOKEN = re.compile("|".join(re.escape(token) for token in TASK_TOKENS))


def contains_task_token(text: str) -> bool:
    """True when `text` holds a task token; teacher requests and assistant answers never may."""
    return _ANY_TASK_TOKEN.search(text) is not None


def prompt_line(prompt: str) -> str:
    """The prompt as it stands in human turns, in training and in scoring: on one line, without white space at its ends.

    A line of its own could pass for one of ours, such as "Questions:", and bring questions along that nobody asked.
    """
    return " ".join(filter(None, map(str.strip, prompt.strip().splitlines())))


def _prompt(prompt: str) -> str:
    line = prompt_line(prompt)
    if not line:
        raise ValueError("the prompt is empty")
    return line
