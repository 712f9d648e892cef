"""Task tokens, their ids, and the human turns that begin with them. No other module knows their wording.

    from dyneval.tokens import t2ia_turn

    print(t2ia_turn("a cat on a bench"))

Training and scoring both write their turns here, as text, the way DynEvalInstruct stores them. If one of the two wrote
a turn with other words, the student would be asked something that it was not trained on. `dyneval.processing` makes
token ids of the text; `split_human_turn` tells our own markers from the same strings inside a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

T2IA, IQA, EVALUATION = "<|T2IA|>", "<|IQA|>", "<|EVALUATION|>"
# The ids behind the 151,669 tokens of Qwen3-VL, as in the published checkpoints.
TASK_TOKEN_IDS: dict[str, int] = {T2IA: 151669, IQA: 151670, EVALUATION: 151671}
TASK_TOKENS: tuple[str, ...] = tuple(TASK_TOKEN_IDS)
RELATED_WORDS: dict[str, str] = {
    T2IA: " text image alignment prompt match questions",
    IQA: " image quality distortion shape texture scene graph",
    EVALUATION: " evaluation score answer reasoning rating",
}
"""The embedding of a task token starts as the mean of the embeddings of these words."""
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
    """The human turn that asks for alignment questions about `prompt`, without an image.

    Raises:
        ValueError: the prompt is empty.
    """
    return (
        f"{T2IA}\nPrompt: {_prompt(prompt)}\n"
        f"Generate atomic yes/no verification questions for text-to-image {_T2IA_ENDING[version]}"
    )


def template_of(turn: str) -> TemplateVersion | None:
    """The version in which a stored human turn was written; None where it does not ask for T2IA questions.

    The turns of the other tasks are the same in all versions.
    """
    if not turn.lstrip().startswith(T2IA):
        return None
    last = turn.rstrip().rpartition(" text-to-image ")[2]
    return next((version for version, ending in _T2IA_ENDING.items() if last == ending), None)


def iqa_turn() -> str:
    """The human turn that asks for the scene graph of an image and its image-quality questions."""
    return (
        f"{IMAGE}\n{IQA}\nParse the image into a scene graph and generate image-quality questions for shape "
        "consistency, distortions, texture fidelity, and spatial cues."
    )


def evaluation_turn(prompt: str, questions: Sequence[str]) -> str:
    """The human turn that asks for answers and scores (1-5) to `questions` about an image made from `prompt`.

    Raises:
        ValueError: the prompt or the list of questions is empty.
    """
    if not questions:
        raise ValueError("an EVALUATION turn needs at least one question")
    # A newline inside a question would look like another numbered question. Printable text has none, so most questions
    # are passed through without being split.
    lines = [question if question.isprintable() else " ".join(question.split()) for question in questions]
    numbered = "\n".join([f"{i}. {line}" for i, line in enumerate(lines, 1)])
    return (
        f"{IMAGE}\n{EVALUATION}\nPrompt: {_prompt(prompt)}\nQuestions:\n{numbered}\n"
        "Answer each question and assign a score from 1 to 5."
    )


def split_human_turn(value: str, images: int) -> HumanTurn:
    """Take a stored human turn apart.

    Only leading `<image>` placeholders (exactly `images` of them) and a task token directly behind them count as
    markers. The same strings later in the turn are text, since prompts come from outside.

    Args:
        value: the turn as it is stored.
        images: how many images belong to it, 0 or more.

    Raises:
        ValueError: the turn does not begin with `images` placeholders.
    """
    # White space at both ends of the turn and around a placeholder is dropped, as the published training code does: no
    # newline then stands between the vision end token and the task token, and none hides a task token.
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
    """True when `text` holds a task token. Requests to a teacher and answers of a student must not hold any."""
    return _ANY_TASK_TOKEN.search(text) is not None


def prompt_line(prompt: str) -> str:
    """The prompt as it stands in human turns, in training and in scoring: one line, without white space at its ends.

    A second line of a prompt could look like one of ours, such as "Questions:", and add questions that nobody asked.
    """
    return " ".join(filter(None, map(str.strip, prompt.strip().splitlines())))


def _prompt(prompt: str) -> str:
    line = prompt_line(prompt)
    if not line:
        raise ValueError("the prompt is empty")
    return line
