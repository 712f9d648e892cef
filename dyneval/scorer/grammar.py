r"""Decoding held to JSON: the student's reply schemas with bounds, and the token-by-token constraint made from them.

The grammar admits exactly what `dyneval.records.student_json` writes: one line, ", " and ": ", no escapes but \" and
\\. It works on the vocabulary without added tokens, so a turn mark or task token cannot be produced, and text like
`<|im_end|>` inside a question is forced as ordinary text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import llguidance
import llguidance.numpy
import numpy as np

from dyneval import schemas
from dyneval.scorer.settings import ReplyLimits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Reply = Literal["t2ia", "iqa", "evaluation"]
SCORES = (1, 2, 3, 4, 5)
JSON_FORM: Any = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": '"\\',
    "json_allow_general_unicode_escapes": False,
}
_SCORE = '"score": '
_SCORE_TOKENS = 8
# One line of text that does not begin blank; a question of spaces alone would be an empty line in the next turn.
_LINE = r"^[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,%d}$"


class GrammarError(RuntimeError):
    """The grammar engine gave up on a reply; the message says why."""


def reply_schema(
    reply: Reply, limits: ReplyLimits, questions: Sequence[str] = (), reasoning: bool = True
) -> schemas.Json:
    """JSON Schema of one of the student's replies, bounded by `limits`.

    Args:
        reply: definition in `student_reply.schema.json`.
        limits: upper bounds of lists and texts.
        questions: for "evaluation", the questions that were asked; the reply repeats them word for word, in order.
        reasoning: False leaves the reasoning of an evaluation empty.
    """
    definitions = copy.deepcopy(schemas.load("student_reply")["$defs"])
    texts = {
        ("question", "question"): limits.question_chars,
        ("node", "id"): limits.label_chars,
        ("node", "label"): limits.label_chars,
        ("edge", "source"): limits.label_chars,
        ("edge", "target"): limits.label_chars,
        ("edge", "relationship"): limits.label_chars,
        ("answer", "reasoning"): limits.reasoning_chars,
    }
    for (name, key), length in texts.items():
        definitions[name]["properties"][key] = _line(length)
    if not reasoning:
        definitions["answer"]["properties"]["reasoning"] = {"const": ""}
    attributes = definitions["node"]["properties"]["attributes"]
    attributes |= {"items": _line(limits.label_chars), "maxItems": limits.attributes}
    definitions["scene_graph"]["properties"]["nodes"]["maxItems"] = limits.nodes
    definitions["scene_graph"]["properties"]["edges"]["maxItems"] = limits.edges
    definitions["iqa"]["properties"]["questions"]["maxItems"] = limits.questions
    definitions["t2ia"]["maxItems"] = limits.questions
    if reply == "evaluation":
        _force_questions(definitions, questions)
    return {"$ref": f"#/$defs/{reply}", "$defs": definitions}


def _line(length: int) -> dict[str, str]:
    return {"type": "string", "pattern": _LINE % (length - 1)}


def _force_questions(definitions: schemas.Json, questions: Sequence[str]) -> None:
    if not questions:
        raise ValueError("an evaluation needs at least one question")
    answers = definitions["evaluation"]["properties"]["answers"]
    answers |= {"minItems": len(questions), "items": False, "prefixItems": []}
    for question in questions:
        answer = copy.deepcopy(definitions["answer"])
        answer["properties"]["question"] = {"const": question}
        answers["prefixItems"].append(answer)


class ReplyGrammar:
    """Makes constraints for one tokenizer; building it takes about a second."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        """`vocabulary` is the width of the model's logits, which may be wider than the tokenizer.

        Raises:
            ValueError: a digit 1-5 is not one token of its own, as it is with Qwen3.
        """
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        ordinary = len(backend["model"]["vocab"])
        # The engine wants an end token; a NUL can never stand in JSON, so no reply and no forced text can hold it.
        end = {"id": ordinary, "content": "\0", "special": True, "normalized": False}
        backend["added_tokens"] = [end | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)]
        self._tokenizer = llguidance.LLTokenizer(
            json.dumps(backend), n_vocab=vocabulary, eos_token=ordinary, slices=llguidance.LLTokenizer.json_slices()
        )
        self._fresh: dict[str, llguidance.LLMatcher] = {}
        self._executor = llguidance.LLExecutor()
        digits = [self._tokenizer.tokenize_str(str(score)) for score in SCORES]
        if any(len(tokens) != 1 for tokens in digits):
            raise ValueError(f"the digits 1-5 are the tokens {digits}, expected one token each as with Qwen3-VL")
        self.digits = [tokens[0] for tokens in digits]
        """Token ids of the scores 1 to 5."""

    def constraint(self, schema: schemas.Json, keep: bool = False) -> Constraint:
        """Start a reply under `schema`; `keep` remembers the compiled grammar, for schemas that come again.

        A schema that cannot be compiled shows in the first use of the constraint, as a GrammarError.
        """
        source = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=JSON_FORM)
        matcher = self._fresh.get(source) or llguidance.LLMatcher(self._tokenizer, source, log_level=0)
        if keep:
            self._fresh[source] = matcher
            matcher = matcher.deep_copy()
        return Constraint(matcher, self._tokenizer)

    def allowed(self, constraints: Sequence[Constraint]) -> NDArray[np.bool_]:
        """Which tokens may come next: (len(constraints), vocabulary); unspecified for one whose `accept` will raise."""
        bits = llguidance.numpy.allocate_token_bitmask(len(constraints), self._tokenizer.vocab_size)
        matchers = [(constraint.matcher, row) for row, constraint in enumerate(constraints)]
        llguidance.numpy.fill_next_token_bitmask_par(self._executor, matchers, bits)
        flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        return flags[:, : self._tokenizer.vocab_size].view(np.bool_)


class Constraint:
    """Where one reply stands in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, tokenizer: llguidance.LLTokenizer) -> None:
        self.matcher = matcher
        self._tokenizer = tokenizer
        self.tokens: list[int] = []
        """The reply so far."""
        self.at_score = False
        """True when the next token is a score, that is one of `ReplyGrammar.digits`."""

    @property
    def done(self) -> bool:
        """True when the JSON is complete."""
        return self.matcher.is_stopped() and not self.matcher.is_error()

    @property
    def text(self) -> str:
        """The reply so far as text."""
        return self._tokenizer.decode_str(self.tokens)

    def forced(self) -> list[int]:
        """Take the tokens that the grammar leaves no choice about, in the tokenizer's own division; may be none."""
        tokens = [] if self.matcher.is_stopped() else self.matcher.compute_ff_tokens()
        self._consume(tokens)
        # Within a text the quotes would be escaped, so these bytes can only be the structure's.
        self.at_score = self._tokenizer.decode_str(tokens[-_SCORE_TOKENS:]).endswith(_SCORE)
        return tokens

    def accept(self, token: int) -> None:
        """Take a token that was chosen among the allowed ones. Raises GrammarError on any other."""
        self._consume([token])

    def try_accept(self, token: int) -> bool:
        """Take a token if it is allowed here; much faster than finding all that are."""
        taken = self.matcher.try_consume_tokens([token]) == 1
        if taken:
            self.tokens.append(token)
        return taken

    def _consume(self, tokens: list[int]) -> None:
        if tokens:
            self.matcher.consume_tokens(tokens)
        if self.matcher.is_error():
            raise GrammarError(f"the grammar engine stopped: {self.matcher.get_error().splitlines()[0]}")
        self.tokens += tokens
