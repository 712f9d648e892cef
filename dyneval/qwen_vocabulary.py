"""The real Qwen3-VL tokenizer, rebuilt offline from the vocabulary beside this file, for tests and the demo.

    $ python -m dyneval.qwen_vocabulary --output DIR

`qwen.tiktoken.xz` is the Qwen team's vocabulary as their `dashscope` 2.0.2 (Apache-2.0) carries it, compressed. It
holds 151,643 byte sequences in the order in which byte-pair encoding learned them, but not the merges, which the
tokenizer needs. They follow from the order: encode a token with only the ranks below its own, and the two parts that
are left are those that it was merged from. The 26 added tokens of Qwen3 follow at 151643-151668. The task tokens come
behind them: one token more or less here, and a task token gets the id of another (`dyneval.tokens`).
"""

from __future__ import annotations

import argparse
import base64
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.errors import DataFileError

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

VOCABULARY_SIZE = 151_643
MODEL_MAX_LENGTH = 262_144
SPECIAL_TOKENS: tuple[str, ...] = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Ids from 151643 on, in this order; `skip_special_tokens` drops them."""
ORDINARY_ADDED_TOKENS: tuple[str, ...] = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""Ids from 151657 on, in this order; one token each, but text like any other."""

# Tools are left out: no step of DynEval calls any. Everything else renders as the published template does.
CHAT_TEMPLATE = """\
{%- macro show(content, numbered) -%}
  {%- if content is string -%}{{ content }}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
        {%- set seen.images = seen.images + 1 -%}
        {%- if numbered -%}{{ 'Picture ' ~ seen.images ~ ': ' }}{%- endif -%}
        {{ '<|vision_start|><|image_pad|><|vision_end|>' }}
      {%- elif part.type == 'video' or 'video' in part -%}
        {%- set seen.videos = seen.videos + 1 -%}
        {%- if numbered -%}{{ 'Video ' ~ seen.videos ~ ': ' }}{%- endif -%}
        {{ '<|vision_start|><|video_pad|><|vision_end|>' }}
      {%- elif 'text' in part -%}{{ part.text }}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set seen = namespace(images=0, videos=0) -%}
{%- for message in messages -%}
  {{ '<|im_start|>' ~ message.role ~ '\\n' }}
  {{- show(message.content, add_vision_id is defined and add_vision_id and message.role == 'user') }}
  {{- '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


VOCABULARY = Path(__file__).with_name("qwen.tiktoken.xz")


def read_ranks(path: Path = VOCABULARY) -> dict[bytes, int]:
    """Read the byte sequences of a compressed tiktoken vocabulary with their ranks, lowest rank first.

    Raises:
        DataFileError: the file does not hold the 151,643 ranks of Qwen.
    """
    rows = (line.split() for line in lzma.decompress(path.read_bytes()).splitlines() if line)
    ranks = dict(sorted(((base64.b64decode(token), int(rank)) for token, rank in rows), key=lambda row: row[1]))
    if list(ranks.values()) != list(range(VOCABULARY_SIZE)):
        raise DataFileError(f"{path}: expected the ranks 0 to {VOCABULARY_SIZE - 1}, found {len(ranks)} tokens")
    return ranks


def recover_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Find the two parts that each token of several bytes was merged from.

    Args:
        ranks: from `read_ranks`.

    Returns:
        Pairs in the order of ranks, 151,387 for Qwen.

    Raises:
        ValueError: a token cannot be merged from two earlier ones, so the ranks are not those of byte-pair encoding.
    """
    merges = []
    for token, rank in ranks.items():
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best, at = min((ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1))
            if best >= rank:
                raise ValueError(f"token {token!r} (rank {rank}) cannot be merged from two earlier tokens")
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def build_tokenizer() -> Qwen2Tokenizer:
    """Build the tokenizer of Qwen3-VL: 151,669 tokens and its chat template, no task tokens. Takes about 3 s."""
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters: dict[int, str] = bytes_to_unicode()
    ranks = read_ranks()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    tokenizer = Qwen2Tokenizer(
        vocab={text[token]: rank for token, rank in ranks.items()},
        merges=[(text[left], text[right]) for left, right in recover_merges(ranks)],  # type: ignore[misc]
        extra_special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS[1:]],
        model_max_length=MODEL_MAX_LENGTH,
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ORDINARY_ADDED_TOKENS])
    # Set afterwards: if the constructor got it, <|im_end|> would take the first free id, which is <|endoftext|>'s.
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Rebuild the Qwen3-VL tokenizer offline.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tokenizer files")
    build_tokenizer().save_pretrained(parser.parse_args().output)


if __name__ == "__main__":
    main()
