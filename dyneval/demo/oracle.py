"""A teacher for demo images that knows the truth: a chat engine like any other, and recorded as "oracle".

It reads the text of a request as a model would, takes what it "sees" from the truth file beside the image, and writes
as models do: some replies are in a code fence, some have a sentence before or behind them, some a trailing comma. So
Step 3 is tested with a teacher whose answers are right and whose form is not, without a server or weights.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from dyneval.demo import knowledge
from dyneval.demo.truth import Truth, truth_path
from dyneval.errors import DataFileError
from dyneval.files.images import load_image
from dyneval.hashing import short_id
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest
from dyneval.structs import Row

# The lines of the teacher's requests that it goes by: a prompt as JSON text, and numbered questions with their targets.
_PROMPT = re.compile(r'^Prompt: (".*")$', re.MULTILINE)
_NUMBERED = re.compile(r"^\d+\. \[(yes|no)\] (.+)$", re.MULTILINE)


class OracleEngine:
    """Answers requests about demo prompts and demo images from their truth; the same request, the same reply."""

    name = "oracle"
    model = "oracle"

    def __init__(self, model: str) -> None:
        """Load nothing: `model` is ignored, whatever it is."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request.

        Raises:
            ChatError: the prompt or the image was not made by the demo.
            ImageError: the image is missing or broken.
        """
        message = next(message for message in request.messages if message.role == "user")
        try:
            # In a thread, as a request to a server would be: the loop goes on with other pairs meanwhile.
            value = await asyncio.to_thread(_answer, message.text, message.images)
        except (DataFileError, LookupError) as error:
            raise ChatError(f"the oracle knows only what the demo made: {error}") from error
        return ChatReply(text=_as_a_model_writes(value, message.text), finish_reason="stop")

    async def close(self) -> None:
        """Release nothing."""


def _answer(text: str, images: tuple[Path, ...]) -> Row:
    """Return the right reply to a request, whose kind is read from its text.

    Without an image it asks for questions about a prompt; with numbered questions for their answers; else for a scene
    graph and questions about the image.
    """
    reply: Row = {}
    if not images:
        found = _PROMPT.search(text)
        prompt = json.loads(found[1]) if found else ""
        ask = knowledge.distortion_questions if "free of distortion" in text else knowledge.alignment_questions
        try:
            questions = ask(prompt)
        except ValueError as error:
            raise LookupError(f"{prompt!r} is not a demo prompt ({error})") from error
    else:
        load_image(images[0])  # not looked at: a broken image must fail here as it would with a real teacher
        truth = Truth.load(truth_path(images[0]))
        asked = _NUMBERED.findall(text)
        # Answers of the quality turn also say yes or no; the form that is asked for comes last.
        yes_no = '"answer":' in text.rsplit("Reply with", 1)[-1]
        answers: list[Row] = []
        for target, question in asked:
            score, reasoning = knowledge.answer(truth, question)
            said = target if score >= 3 else {"yes": "no", "no": "yes"}[target]
            row = {"question": question, "reasoning": reasoning}
            answers.append({**row, **({"answer": said} if yes_no else {}), "score": score})
        if asked:
            return {"answers": answers}
        reply["scene_graph"] = knowledge.scene_graph(truth)
        questions = knowledge.quality_questions(truth.drawn)
    reply["questions"] = [{"question": question, "answer": target} for question, target in questions]
    return reply


def _as_a_model_writes(value: Row, text: str) -> str:
    """Return a reply as text; by a hash of the request, four of ten are in a form that has to be mended."""
    manner = int(short_id(text, digits=2), 16) % 10
    compact = json.dumps(value, ensure_ascii=False)
    indented = json.dumps(value, ensure_ascii=False, indent=2)
    manners = {
        0: f"```json\n{indented}\n```",
        1: f"Here is the annotation you asked for:\n\n{compact}",
        2: f"```\n{compact}\n```\nLet me know if you need anything else.",
        3: indented.removesuffix("\n}") + ",\n}",
    }
    return manners.get(manner, compact)
