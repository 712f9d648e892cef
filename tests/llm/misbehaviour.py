"""How a chat server misbehaves by a seeded schedule: everything that real servers and teachers do, on purpose.

What happens to a request depends on the seed and on what is asked alone: on the prompt (policies, lengths), on the
image (a picture that a server cannot read, or that kills it), or on both. Some of it passes when the request is sent
again, some does not. Each refusal holds a mark, by which a test knows the words of the server again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

PASSING = ("429", "500", "503", "drop", "busy200", "broken200", "cut", "empty", "surrogate", "thinking", "abort")
"""What is over when the request is sent again."""
LASTING = ("refusal", "filter", "length", "reasoning", "half", "gibberish")
"""Replies that are no answers, however often they are asked for."""
DRESSES = ("plain", "think", "open think", "fences", "prose", "escapes", "marks", "shout", "comma")
"""How a good answer may come."""


class Answer(NamedTuple):
    """An HTTP answer; status 0: the connection is closed without one."""

    status: int
    body: Any
    headers: str = ""


class Misbehaviour:
    """The schedule of one server."""

    def __init__(self, seed: int, number: Callable[[str, int], int]) -> None:
        """`number` hashes a text to a number below another one."""
        self.seed = seed
        self.number = number
        self.seen: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()

    def _roll(self, what: str, modulus: int) -> int:
        return self.number(f"{self.seed} {what}", modulus)

    def before(self, body: bytes, text: str, image: str) -> Answer | None:
        """What the server says instead of asking the model; None where it asks it."""
        form = self._form(body)
        if form or "a test of the connection" in text:
            return form
        said = re.search(r'^Prompt: (".*")$', text, re.MULTILINE)
        prompt = said[1] if said else ""
        self.seen[text, image] += 1
        return self._of_prompt(prompt, body) or self._of_image(image) or self._passing(text, image)

    def _form(self, body: bytes) -> Answer | None:
        """Fields that this server does not know, told one at a time as validators do."""
        if b'"seed"' in body:
            detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
            return Answer(422, {"detail": detail})
        if b'"max_tokens"' in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Answer(400, {"error": {"message": words, "param": "max_tokens"}})
        return None

    def _of_prompt(self, prompt: str, body: bytes) -> Answer | None:
        roll, mark = self._roll(f"prompt {prompt}", 40), f"mark-{self._roll(prompt, 10**9)}"
        if not prompt or roll > 1:
            return None
        if roll == 0:
            self.counts["policy"] += 1
            return Answer(400, {"error": {"message": f"rejected by our safety system ({mark})", "code": "policy"}})
        self.counts["echo"] += 1
        echo = body[:3000].decode("utf-8", "replace")
        return Answer(400, {"error": f"maximum context length exceeded. Request was: {echo} ({mark})"})

    def _of_image(self, image: str) -> Answer | None:
        roll, mark = self._roll(f"picture {image}", 60), f"mark-{self._roll(image, 10**9)}"
        if not image or roll > 2:
            return None
        self.counts[("image400", "image500", "image drop")[roll]] += 1
        return (
            Answer(400, {"detail": f"cannot identify image file ({mark})"}),
            Answer(500, {"error": {"message": f"CUDA error: an illegal memory access ({mark})"}}),
            Answer(0, None),
        )[roll]

    def _passing(self, text: str, image: str) -> Answer | None:
        if self.seen[text, image] > 1 or self._roll(f"passing {text} {image}", 4):
            return None
        fault = PASSING[self._roll(f"which {text} {image}", len(PASSING))]
        self.counts[fault] += 1
        if fault.isdigit():
            return Answer(int(fault), {"error": {"message": f"fault {fault}"}}, "Retry-After: 0.05\r\n")
        return {
            "drop": Answer(0, None),
            "busy200": Answer(200, {"error": {"code": 429, "message": "upstream is overloaded"}}),
            "broken200": Answer(
                200, {"choices": [{"error": {"code": 502, "message": "upstream died"}, "message": {}}]}
            ),
            "cut": _said('{"answers": [{"question": "', "stop"),
            "empty": _said("", "stop"),
            "surrogate": _said('{"questions": [{"question": "Is it \ud83d?", "answer": "yes"}]}', "stop"),
            "thinking": _said("<think>Let me see. ", "stop"),
            "abort": _said('{"questions": []}', "abort"),
        }[fault]

    def reply(self, text: str, image: str, value: dict[str, Any]) -> Answer:
        """The model's reply with a valid answer, if it gives one."""
        if "a test of the connection" in text:
            return _said(json.dumps(value), "stop")
        if self._roll(f"lasting {text} {image}", 50) == 0:
            fault = LASTING[self._roll(f"which lasting {text} {image}", len(LASTING))]
            self.counts[fault] += 1
            return {
                "refusal": _said(None, "stop", refusal="I do not judge people."),
                "filter": _said("", "content_filter"),
                "length": _said(json.dumps(value), "length"),
                "reasoning": _said(None, "stop", reasoning_content=json.dumps(value)),
                "half": _said(json.dumps(value).replace('?"', '\\ud800?"'), "stop"),
                "gibberish": _said("I am sorry, I cannot help with {that}.", "stop"),
            }[fault]
        dress = DRESSES[self._roll(f"dress {text} {image}", len(DRESSES))]
        self.counts[dress] += 1
        return _said(self._dressed(dress, value), "stop")

    def _dressed(self, dress: str, value: dict[str, Any]) -> str:
        final, draft = json.dumps(value), json.dumps(_draft(value), indent=1)
        match dress:
            case "think":
                drafts = f"First:\n```json\n{draft}\n```\nNo, {{that}} is wrong: {draft[:40]}"
                return f"<think>{drafts}</think>\n```json\n{final}\n```"
            case "open think":
                return f"Hm. {draft}\nIs it so? [Yes]</think>{final}"
            case "fences":
                return (
                    f"A draft:\n```json\n{draft}\n```\nThe final answer:\n```json\n{final}\n```\nThat is [all] of it."
                )
            case "prose":
                return f"Here you are [as asked]: {final}\nI hope that it helps {{you}}!"
            case "escapes":
                return re.sub("[aeiou]", lambda letter: f"\\u{ord(letter[0]):04x}", final)
            case "comma":
                return f"{final[:-2]},{final[-2:]}"
            case "marks" | "shout" if "answers" in value:
                rows = [row | {"question": _set_otherwise(row["question"], dress)} for row in value["answers"]]
                return json.dumps({"answers": rows}, ensure_ascii=dress == "shout")
        return final


def _set_otherwise(question: str, dress: str) -> str:
    if dress == "shout":
        return f"1. [yes] {question.upper()}"
    return f"“{question}”".replace("'", "’").replace(" - ", " — ").replace(" ", "\u00a0", 2)


def _draft(value: dict[str, Any]) -> dict[str, Any]:
    """An answer of the same form that says something else."""
    text = re.sub(r'"score": \d', '"score": 1', json.dumps(value))
    return json.loads(text.replace('"answer": "yes"', '"answer": "no"').replace("Seen in", "Guessed of"))


def _said(content: str | None, reason: str, **message: str) -> Answer:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return Answer(200, {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})
