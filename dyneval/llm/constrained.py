"""Holds `generate` of transformers to JSON Schemas, one a row of the batch, with llguidance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.numpy
import numpy as np
import torch
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Free whitespace lets a model write blanks up to the limit.
_JSON_FORM: Any = {"whitespace_flexible": False}


class Grammars:
    """Compiles JSON Schemas for one tokenizer; making it takes about a second, a schema is compiled once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, end_token: int) -> None:
        """`vocabulary` is the width of the model's logits, which may be wider than the tokenizer."""
        backend = tokenizer.backend_tokenizer.to_str()
        self.tokenizer = llguidance.LLTokenizer(backend, n_vocab=vocabulary, eos_token=end_token)
        self.end_token = end_token
        self.executor = llguidance.LLExecutor()
        self._compiled: dict[str, llguidance.LLMatcher] = {}

    def matcher(self, schema: dict[str, Any]) -> llguidance.LLMatcher:
        """Return a fresh matcher for `schema`. Raises ValueError when the grammar engine cannot use it."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._compiled:
            source = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_FORM)
            matcher = llguidance.LLMatcher(self.tokenizer, source, log_level=0)
            if matcher.is_error():
                raise ValueError(f"the grammar engine refuses the schema: {matcher.get_error()}")
            self._compiled[key] = matcher
        return self._compiled[key].deep_copy()


class SchemaLogits(LogitsProcessor):
    """Masks what the schemas do not allow next; rows without a schema are left alone."""

    def __init__(self, grammars: Grammars, schemas: Sequence[dict[str, Any] | None], prompt_length: int) -> None:
        """One schema (or None) a row; `prompt_length` tokens of each row are not part of the reply."""
        self.grammars = grammars
        self.matchers = [None if schema is None else grammars.matcher(schema) for schema in schemas]
        self.seen = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Take the newest tokens of `input_ids` (rows, length) and mask `scores` (rows, vocabulary)."""
        for token_ids, matcher in zip(input_ids[:, self.seen :].tolist(), self.matchers, strict=True):
            if matcher is not None and not matcher.is_stopped():
                matcher.consume_tokens(token_ids)
        self.seen = input_ids.shape[1]
        running = [(m, row) for row, m in enumerate(self.matchers) if m is not None and not m.is_stopped()]
        width = self.grammars.tokenizer.vocab_size
        bits = llguidance.numpy.allocate_token_bitmask(len(self.matchers), width)  # all allowed
        if running:
            llguidance.numpy.fill_next_token_bitmask_par(self.grammars.executor, running, bits)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]].astype(bool)
        for row, matcher in enumerate(self.matchers):
            if matcher is not None and matcher.is_stopped():  # the JSON is complete
                allowed[row] = False
                allowed[row, self.grammars.end_token] = True
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), float("-inf"))  # type: ignore[return-value]
