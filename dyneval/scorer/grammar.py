r"""Decoding held to JSON: the token-by-token constraint that a reply's schema is made into.

The grammar admits exactly what `dyneval.records.student_json` writes: one line, ", " and ": ", text as it is, and the
escapes of Python's `json.dumps`. It works on the vocabulary without added tokens, so a turn mark or task token cannot
be produced, and text like `<|im_end|>` inside a question is forced as ordinary text. Without it a weak student's
replies would often be no JSON, and scores would depend on how such replies are mended.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.numpy
import numpy as np

from dyneval.errors import CheckpointError
from dyneval.replies import RATINGS, Json

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

JSON_FORM: Any = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""Options of llguidance; those that servers have (1.7) know all three, and refuse a request with one they do not."""
_TAIL = 8
"""Tokens of a reply's end that are looked at for the key of a verdict; the longest, `"correct":`, takes three."""


@functools.lru_cache(maxsize=1)  # students that are compared share a vocabulary, and building this takes a second
def _engine(tokenizer: str, vocabulary: int) -> llguidance.LLTokenizer:
    """The engine's form of a tokenizer.json, without its added tokens."""
    backend = json.loads(tokenizer)
    ordinary = len(backend["model"]["vocab"])
    # The engine wants an end token; a NUL can never stand in JSON, so no reply and no forced text can hold it.
    end = {"id": ordinary, "content": "\0", "special": True, "normalized": False}
    backend["added_tokens"] = [end | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)]
    return llguidance.LLTokenizer(
        json.dumps(backend), n_vocab=vocabulary, eos_token=ordinary, slices=llguidance.LLTokenizer.json_slices()
    )


class GrammarError(RuntimeError):
    """The grammar engine gave up on a reply; the message says why."""


class ReplyGrammar:
    """Makes constraints for one tokenizer; building it takes about a second."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        """Build it, about a second.

        Args:
            tokenizer: of the student.
            vocabulary: width of the model's logits, which may be wider than the tokenizer.

        Raises:
            CheckpointError: a digit 1-5, true or false is not one token of its own, as they are with Qwen3.
        """
        self._tokenizer = _engine(tokenizer.backend_tokenizer.to_str(), vocabulary)
        self._fresh: dict[str, llguidance.LLMatcher] = {}
        self._executor = llguidance.LLExecutor()
        # A blank belongs to the word behind it, but not to a digit.
        self._verdicts = {
            '"score": ': self._words(*map(str, RATINGS)),
            '"correct":': self._words(" true", " false"),
            '"correct": ': self._words("true", "false"),
        }

    def constraint(self, schema: Json, keep: bool = False, verdicts: bool = False) -> Constraint:
        """Start a reply under `schema`.

        A schema that cannot be compiled shows in the first use of the constraint, as a GrammarError.

        Args:
            schema: JSON Schema of the reply.
            keep: remember the compiled grammar, for schemas that come again; compiling takes milliseconds.
            verdicts: the reply is an evaluation: its scores and its `correct` are chosen with their probabilities.
        """
        source = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=JSON_FORM)
        matcher = self._fresh.get(source) or llguidance.LLMatcher(self._tokenizer, source, log_level=0)
        if keep:
            self._fresh[source] = matcher
            matcher = matcher.deep_copy()
        return Constraint(matcher, self._tokenizer, self._verdicts if verdicts else {})

    def allowed(self, constraints: Sequence[Constraint]) -> NDArray[np.bool_]:
        """Return which tokens may come next.

        Returns:
            (len(constraints), vocabulary) booleans; unspecified for one whose `accept` will raise.
        """
        bits = llguidance.numpy.allocate_token_bitmask(len(constraints), self._tokenizer.vocab_size)
        matchers = [(constraint.matcher, row) for row, constraint in enumerate(constraints)]
        llguidance.numpy.fill_next_token_bitmask_par(self._executor, matchers, bits)
        flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
        return flags[:, : self._tokenizer.vocab_size].view(np.bool_)

    def _words(self, *words: str) -> list[int]:
        """Return the tokens of words that must be one token each, since a verdict is chosen in one step."""
        tokens = [self._tokenizer.tokenize_str(word) for word in words]
        if any(len(ids) != 1 for ids in tokens):
            raise CheckpointError(
                f"{', '.join(words)} are the tokens {tokens}, expected one token each as with Qwen3-VL"
            )
        return [ids[0] for ids in tokens]


@dataclass(slots=True, eq=False)
class Constraint:
    """One reply under its grammar."""

    matcher: llguidance.LLMatcher
    """Of llguidance; it knows where in the grammar the reply is."""
    tokenizer: llguidance.LLTokenizer
    verdicts: Mapping[str, list[int]]
    """Tokens that a verdict may be, by the text in front of it; empty: the reply is no evaluation."""
    tokens: list[int] = field(default_factory=list)
    """The reply so far."""
    verdict: list[int] | None = None
    """When the next token is a verdict, the tokens of 1 to 5, or of true and false. Else None."""

    @property
    def done(self) -> bool:
        """True when the JSON is complete."""
        return self.matcher.is_stopped() and not self.matcher.is_error()

    @property
    def text(self) -> str:
        """The reply so far as text."""
        return self.tokenizer.decode_str(self.tokens)

    def text_of(self, token: int) -> str:
        """Return a token as text."""
        return self.tokenizer.decode_str([token])

    def forced(self) -> list[int]:
        """Take the tokens that the grammar leaves no choice about, in the tokenizer's own division; may be none.

        Afterwards `verdict` has what the next token may be, where that is a verdict.

        Raises:
            GrammarError: llguidance gave up on the grammar.
        """
        tokens = [] if self.matcher.is_stopped() else self.matcher.compute_ff_tokens()
        self.accept(*tokens)
        self.verdict = None
        if self.verdicts and tokens:  # a verdict stands behind its key, whose end is never a choice
            # Within a text the quotes would be escaped, so these bytes can only be the structure's.
            tail = self.tokenizer.decode_str(self.tokens[-_TAIL:])
            self.verdict = next((ids for key, ids in self.verdicts.items() if tail.endswith(key)), None)
        return tokens

    def accept(self, *tokens: int) -> None:
        """Take tokens that were chosen among the allowed ones.

        Raises:
            GrammarError: one is not allowed, or llguidance gave up on its grammar.
        """
        if tokens:
            self.matcher.consume_tokens(list(tokens))
        # llguidance raises nothing where a token is not allowed: it notes an error and stops.
        if self.matcher.is_error():
            raise GrammarError(f"the grammar engine stopped: {self.matcher.get_error().splitlines()[0]}")
        self.tokens += tokens

    def try_accept(self, token: int) -> bool:
        """Take a token if it is allowed here, and say whether it is; much faster than finding all that are."""
        taken = self.matcher.try_consume_tokens([token]) == 1
        if taken:
            self.tokens.append(token)
        return taken
