"""Greedy decoding of many replies at once, each under its own grammar.

Much of a reply is fixed by its grammar, such as the text of each question. These tokens are appended in the same
forward pass as the token before them instead of being generated one by one, so each reply moves on by another number of
tokens in each step (see `ragged_cache`). Images are read once, into a prefix of the key-value cache that all
conversations about them start from. Four calls of `model.generate` a pair have the same scores and take ten times as
long (benchmarks/scoring.py).
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

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


TOP_CHOICES = 20
"""Alternatives to a token that are told; servers give as many at most."""
# A probability in float32 may underflow to 0, which has no logarithm.
_LEAST = 1e-30
"""Probabilities below count as this."""


@dataclass(slots=True)
class Prefix:
    """The beginnings of conversations, already read by the model."""

    cache: RaggedCache
    deltas: torch.Tensor
    """(rows,) what the rotary position of a text token is ahead of its index in the sequence. An image takes as many
    positions as the longer of its sides has tokens, which are fewer than its tokens."""

    def select(self, rows: Sequence[int]) -> Prefix:
        """Copy some rows, in that order; a row may come more than once or not at all."""
        return Prefix(self.cache.select(rows), self.deltas[list(rows)])


@dataclass(slots=True, eq=False)
class ReplyRow:
    """One reply to decode."""

    ids: list[int]
    """The tokens that lead up to it, behind the prefix, where there is one."""
    constraint: Constraint
    """Its grammar, and the reply so far."""
    prefix_row: int = 0
    """Which row of the prefix it begins behind."""
    failure: str | None = None
    """Why there is no complete reply; None when there is one."""
    probabilities: list[list[float]] = field(default_factory=list)
    """For every verdict in the reply, the probabilities of 1 to 5, or of true and false, among themselves."""
    choices: list[TokenChoice] | None = None
    """A list here is filled with every token and what might have stood there; it need not become a whole reply."""

    def take(self, token: int) -> None:
        """Add a token to the reply; a grammar that breaks on it ends the reply with its `failure`."""
        try:
            self.constraint.accept(token)
        except GrammarError as error:
            self.failure = str(error)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes under grammars with one model."""

    model: Qwen3VLForConditionalGeneration
    """Loaded on its device."""
    grammar: ReplyGrammar
    """Of the model's tokenizer."""

    @torch.inference_mode()
    def read_images(self, encoded: Sequence[Encoded], lengths: Sequence[int]) -> Prefix:
        """Read the beginnings of conversations, each with its one image.

        Args:
            encoded: B conversations, on the CPU.
            lengths: how many tokens of each are read, at least up to the end of its image.

        Returns:
            A prefix of B rows, on the model's device.
        """
        rows = [one.input_ids[:length] for one, length in zip(encoded, lengths, strict=True)]
        types = [one.mm_token_type_ids[:length] for one, length in zip(encoded, lengths, strict=True)]
        grids = torch.cat([one.image_grid_thw for one in encoded if one.image_grid_thw is not None])
        pixels = torch.cat([one.pixel_values for one in encoded if one.pixel_values is not None])
        # Without this mask the padding of shorter rows would count as text, and their positions would run on.
        held = torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])
        positions, deltas = self.model.model.get_rope_index(
            _padded(rows), _padded(types).int(), image_grid_thw=grids, attention_mask=held
        )
        prefix = Prefix(RaggedCache(len(rows)), deltas.flatten())
        self._forward(
            prefix.cache,
            rows,
            positions,
            pixel_values=pixels.to(self.model.device),
            image_grid_thw=grids.to(self.model.device),
        )
        return prefix

    @torch.inference_mode()
    def decode(self, rows: Sequence[ReplyRow], max_new_tokens: int, prefix: Prefix | None = None) -> Iterator[ReplyRow]:
        """Decode replies.

        Args:
            rows: B replies; what becomes of them is written into them.
            max_new_tokens: tokens that a reply may have; one that is not complete then has failed.
            prefix: beginnings of the conversations; None: they begin with the rows' own tokens.

        Yields:
            Each row when its reply is complete or has failed, while others are still being decoded.
        """
        if not rows:
            return
        if prefix is None:
            state = Prefix(RaggedCache(len(rows)), torch.zeros(len(rows), dtype=torch.long))
        else:
            state = prefix.select([row.prefix_row for row in rows])
        active = list(rows)
        # What each row is fed next; nothing where it has ended.
        feed = []
        for row in rows:
            forced = _forced(row)
            feed.append([] if forced is None else row.ids + forced)
        while active:
            # Rows that have ended leave the batch, so that the others do not carry them along.
            going = [place for place, tokens in enumerate(feed) if tokens]
            if len(going) < len(active):
                yield from (row for row, tokens in zip(active, feed, strict=True) if not tokens)
                if not going:
                    return
                active, feed = [active[place] for place in going], [feed[place] for place in going]
                state = state.select(going)
            width = max(map(len, feed))
            positions = (state.cache.lengths + state.deltas)[:, None] + torch.arange(width)
            hidden = self._forward(state.cache, feed, positions.expand(3, -1, -1))
            # (rows, hidden): behind the last token of each row, the padding of shorter rows left out. Under the same
            # name, so that the states of all tokens do not stay allocated through the next pass.
            last = torch.tensor([len(tokens) - 1 for tokens in feed], device=hidden.device)
            hidden = hidden[torch.arange(len(feed), device=hidden.device), last]
            self._choose(active, hidden)
            feed = [_advance(row, max_new_tokens) for row in active]

    def _forward(
        self, cache: RaggedCache, rows: list[list[int]], positions: torch.Tensor, **images: torch.Tensor
    ) -> torch.Tensor:
        """Append tokens to the cache and return their hidden states, (rows, width, hidden).

        `positions` are the rotary positions (3, rows, width): time, height and width, which are equal for text.
        """
        ids = _padded(rows).to(self.model.device)
        mask = cache.begin(ids.shape[1], ids.device)
        # The first of four position rows is that of text, which only matters where no mask is given.
        positions = torch.cat([positions[:1], positions]).to(self.model.device)
        # By place: transformers 5.24 calls the fourth argument cache, earlier releases past_key_values.
        output = self.model.model(ids, mask, positions, cache, use_cache=True, **images)
        cache.end([len(row) for row in rows])
        return output.last_hidden_state

    def _choose(self, rows: Sequence[ReplyRow], hidden: torch.Tensor) -> None:
        """Let each reply take its likeliest allowed token; `hidden` is (rows, hidden)."""
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
        """Choose among a few tokens, and note their probabilities; the rest of the vocabulary is not looked at."""
        # Two or five rows of the output layer, not all 151,936. In float32, since bfloat16 has less than three digits,
        # and soft scores would show it.
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
            # Not for every reply: to find all allowed tokens takes 0.2 ms on average, and over 4 ms in one case of a
            # hundred (benchmarks/constrained_decoding.py).
            allowed = torch.from_numpy(self.grammar.allowed([rows[place].constraint for place in refused]))
            masked = logits[refused].masked_fill(~allowed.to(logits.device), -torch.inf)
            for place, token in zip(refused, masked.argmax(-1).tolist(), strict=True):
                rows[place].take(token)
        for place, row in enumerate(rows):
            if row.choices is not None and not row.failure:
                row.choices.append(_choice(row.constraint, logits[place]))


def _advance(row: ReplyRow, max_new_tokens: int) -> list[int]:
    """Return what to feed after a token was taken: it and the forced text behind it; nothing where the reply ended."""
    if row.failure:
        return []
    last = row.constraint.tokens[-1]
    forced = _forced(row)
    if forced is None or row.constraint.done:
        return []
    if len(row.constraint.tokens) >= max_new_tokens:
        # Where only the choices are wanted the reply was never meant to be complete.
        if row.choices is None:
            row.failure = f"the reply was not complete after {max_new_tokens} tokens (raise max_new_tokens)"
        return []
    return [last, *forced]


def _forced(row: ReplyRow) -> list[int] | None:
    """Take the text that a reply has no choice about; returns None, and notes the failure, where its grammar broke."""
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
    """Return the token that a reply took last, among the likeliest of the whole vocabulary."""
    logprobs = torch.log_softmax(logits, -1)
    values, ids = logprobs.topk(TOP_CHOICES)
    known = {constraint.text_of(one): value for one, value in zip(ids.tolist(), values.tolist(), strict=True)}
    token = constraint.tokens[-1]
    text, logprob = constraint.text_of(token), float(logprobs[token])
    return TokenChoice(text, logprob, {text: logprob} | known)


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return rows as one tensor, filled up with token 0 at their ends, which nothing looks at."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
