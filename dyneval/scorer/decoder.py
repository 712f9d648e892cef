"""Greedy decoding of many replies at once, each under its own grammar.

Text that a grammar leaves no choice about is not decoded token by token: it is fed together with the token before it.
Images are read once, into a prefix of the key-value cache that all conversations about them start from.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from dyneval.llm.chat import TokenChoice
from dyneval.processing import Encoded
from dyneval.scorer.grammar import Constraint, GrammarError, ReplyGrammar
from dyneval.scorer.ragged_cache import RaggedCache
from dyneval.scorer.students.base import NoReply, Reply

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


TOP_CHOICES = 20
"""Alternatives to a token that are told; servers give as many at most."""
_LEAST = 1e-30
"""Probabilities below count as this, so that each has a logarithm."""


@dataclass(slots=True)
class Prefix:
    """The beginnings of conversations, already read by the model."""

    cache: RaggedCache
    deltas: torch.Tensor
    """(rows,) what the rotary position of a text token is ahead of its index in the sequence."""

    def select(self, rows: Sequence[int]) -> Prefix:
        """A copy with `rows`, in that order; a row may come more than once or not at all."""
        return Prefix(self.cache.select(rows), self.deltas[list(rows)])


@dataclass(slots=True, eq=False)
class ReplyRow:
    """One reply to decode: the tokens that lead up to it (behind the prefix, where there is one) and its grammar."""

    ids: list[int]
    constraint: Constraint
    prefix_row: int = 0
    failure: str | None = None
    """Why there is no complete reply; None when there is one."""
    probabilities: list[list[float]] = field(default_factory=list)
    """For every verdict in the reply, the probabilities of 1 to 5, or of true and false, among themselves."""
    choices: list[TokenChoice] | None = None
    """A list here is filled with every token and what might have stood there; it need not become a whole reply."""

    def take(self, token: int) -> None:
        """Add a token to the reply."""
        try:
            self.constraint.accept(token)
        except GrammarError as error:
            self.failure = str(error)

    def reply(self) -> Reply | NoReply:
        """What became of it, when it has ended."""
        if self.failure:
            return NoReply(self.failure)
        return Reply(self.constraint.text, self.probabilities, self.choices or ())


class Decoder:
    """Decodes under grammars with one model."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, grammar: ReplyGrammar) -> None:
        self.model = model
        self.grammar = grammar

    @torch.inference_mode()
    def read_images(self, encoded: Sequence[Encoded], lengths: Sequence[int]) -> Prefix:
        """Read the first `lengths[b]` tokens of each conversation, its one image among them."""
        rows = [one.input_ids[:length] for one, length in zip(encoded, lengths, strict=True)]
        types = [one.mm_token_type_ids[:length] for one, length in zip(encoded, lengths, strict=True)]
        grids = torch.cat([one.image_grid_thw for one in encoded if one.image_grid_thw is not None])
        pixels = torch.cat([one.pixel_values for one in encoded if one.pixel_values is not None])
        held = torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])
        positions, deltas = self.model.model.get_rope_index(
            _padded(rows), _padded(types).int(), image_grid_thw=grids, attention_mask=held
        )
        prefix = Prefix(RaggedCache(len(rows)), deltas.flatten())
        self._forward(
            prefix.cache, rows, positions, pixel_values=pixels.to(self._device), image_grid_thw=grids.to(self._device)
        )
        return prefix

    @torch.inference_mode()
    def decode(self, rows: Sequence[ReplyRow], max_new_tokens: int, prefix: Prefix | None = None) -> Iterator[ReplyRow]:
        """Yield each row when its reply is complete or has failed, while others are still being decoded."""
        if not rows:
            return
        if prefix is None:
            state = Prefix(RaggedCache(len(rows)), torch.zeros(len(rows), dtype=torch.long))
        else:
            state = prefix.select([row.prefix_row for row in rows])
        active = list(rows)
        feed = [_opening(row) for row in rows]
        while active:
            going = [place for place, tokens in enumerate(feed) if tokens]
            if len(going) < len(active):
                yield from (row for row, tokens in zip(active, feed, strict=True) if not tokens)
                if not going:
                    return
                active, feed = [active[place] for place in going], [feed[place] for place in going]
                state = state.select(going)
            hidden = self._step(state, feed)
            self._choose(active, hidden)
            feed = [_advance(row, max_new_tokens) for row in active]

    def _step(self, state: Prefix, feed: list[list[int]]) -> torch.Tensor:
        """Feed each row its tokens; hidden states behind the last one, (rows, hidden)."""
        width = max(map(len, feed))
        positions = (state.cache.lengths + state.deltas)[:, None] + torch.arange(width)
        hidden = self._forward(state.cache, feed, positions.expand(3, -1, -1))
        last = torch.tensor([len(tokens) - 1 for tokens in feed], device=hidden.device)
        return hidden[torch.arange(len(feed), device=hidden.device), last]

    def _forward(
        self, cache: RaggedCache, rows: list[list[int]], positions: torch.Tensor, **images: torch.Tensor
    ) -> torch.Tensor:
        """Hidden states, (rows, width, hidden), of tokens appended to the cache; `positions`: (3, rows, width)."""
        ids = _padded(rows).to(self._device)
        mask = cache.begin(ids.shape[1], ids.device)
        # The first of four position rows is that of text, which only matters where no mask is given.
        positions = torch.cat([positions[:1], positions]).to(self._device)
        output = self.model.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True, **images
        )
        cache.end([len(row) for row in rows])
        return output.last_hidden_state

    def _choose(self, rows: Sequence[ReplyRow], hidden: torch.Tensor) -> None:
        """Let each reply take its likeliest allowed token."""
        judging: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        writing = []
        for place, row in enumerate(rows):
            if row.constraint.verdict:
                judging[tuple(row.constraint.verdict)].append(place)
            else:
                writing.append(place)
        for verdict, places in judging.items():
            self._judge([rows[place] for place in places], hidden[places], verdict)
        if writing:
            self._write([rows[place] for place in writing], hidden[writing])

    def _judge(self, rows: Sequence[ReplyRow], hidden: torch.Tensor, verdict: Sequence[int]) -> None:
        """Choose among a few tokens; the rest of the vocabulary is not looked at."""
        weights = self.model.lm_head.weight[torch.tensor(verdict, device=hidden.device)]
        logits = torch.nn.functional.linear(hidden, weights).float()
        chosen = logits.argmax(-1).tolist()
        for row, choice, probabilities in zip(rows, chosen, torch.softmax(logits, -1).tolist(), strict=True):
            row.probabilities.append(probabilities)
            row.take(verdict[choice])
            if row.choices is not None:
                words = map(row.constraint.text_of, verdict)
                logprobs = [math.log(max(weight, _LEAST)) for weight in probabilities]
                known = dict(zip(words, logprobs, strict=True))
                row.choices.append(TokenChoice(row.constraint.text_of(verdict[choice]), logprobs[choice], known))

    def _write(self, rows: Sequence[ReplyRow], hidden: torch.Tensor) -> None:
        """Take the likeliest token where it is allowed, which is nearly always; look for all allowed ones elsewhere."""
        logits = self.model.lm_head(hidden).float()
        best = logits.argmax(-1).tolist()
        refused = [place for place, row in enumerate(rows) if not row.constraint.try_accept(best[place])]
        if refused:
            allowed = torch.from_numpy(self.grammar.allowed([rows[place].constraint for place in refused]))
            masked = logits[refused].masked_fill(~allowed.to(logits.device), -torch.inf)
            for place, token in zip(refused, masked.argmax(-1).tolist(), strict=True):
                rows[place].take(token)
        for place, row in enumerate(rows):
            if row.choices is not None and not row.failure:
                row.choices.append(_choice(row.constraint, logits[place]))

    @property
    def _device(self) -> torch.device:
        return self.model.device


def _opening(row: ReplyRow) -> list[int]:
    return row.ids + forced if (forced := _forced(row)) is not None else []


def _advance(row: ReplyRow, max_new_tokens: int) -> list[int]:
    """What to feed after a token was taken: it and the forced text behind it; nothing when the reply has ended."""
    if row.failure:
        return []
    last = row.constraint.tokens[-1]
    forced = _forced(row)
    if forced is None or row.constraint.done:
        return []
    if len(row.constraint.tokens) >= max_new_tokens:
        if row.choices is None:
            row.failure = f"the reply was not complete after {max_new_tokens} tokens (raise max_new_tokens)"
        return []
    return [last, *forced]


def _forced(row: ReplyRow) -> list[int] | None:
    """The text that a reply has no choice about; None, and its failure, where its grammar has broken."""
    try:
        tokens = row.constraint.forced()
    except GrammarError as error:
        row.failure = str(error)
        return None
    if row.choices is not None:
        texts = map(row.constraint.text_of, tokens)
        row.choices += [TokenChoice(text, 0.0, {text: 0.0}) for text in texts]
    return tokens


def _choice(constraint: Constraint, logits: torch.Tensor) -> TokenChoice:
    """The token that a reply took last, among the likeliest of the whole vocabulary."""
    logprobs = torch.log_softmax(logits, -1)
    values, ids = logprobs.topk(TOP_CHOICES)
    known = {constraint.text_of(one): value for one, value in zip(ids.tolist(), values.tolist(), strict=True)}
    token = constraint.tokens[-1]
    text, logprob = constraint.text_of(token), float(logprobs[token])
    return TokenChoice(text, logprob, {text: logprob} | known)


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows filled up with token 0 at their ends, which nothing looks at."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
