"""Which grammar engine holds the student's replies: llguidance or xgrammar, beside decoding without any.

    python benchmarks/constrained_decoding.py [--checkpoint DIR] [--tokens 300] [--repeats 5]

Without --checkpoint the tiny random Qwen3-VL is built. Both engines get the same JSON Schemas in the same compact form.
"Mask" is the time to find the allowed tokens, over replies whose tokens are drawn evenly among them; "decoding" is a
plain greedy `generate` of the model. xgrammar is measured where it is installed (pip install xgrammar).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from dyneval import tokens
from dyneval.processing import ChatTurn, Processor
from dyneval.replies import ReplyLimits, evaluation_schema, scene_schema
from dyneval.scorer.grammar import ReplyGrammar
from dyneval.scorer.loading import load_student

BOUNDED = ReplyLimits(
    questions=160,
    nodes=64,
    edges=128,
    attributes=16,
    question_chars=300,
    label_chars=80,
    reasoning_chars=800,
)
QUESTIONS = [f"Is object number {number} complete, and free of distortion?" for number in range(15)]
ALREADY_NEEDED = {"numpy", "torch", "transformers", "typing-extensions", "pydantic"}
VOCABULARY = 151_936


class LLGuidance:
    """llguidance, as the scorer uses it."""

    def __init__(self, processor: Processor) -> None:
        self.grammar = ReplyGrammar(processor.tokenizer, VOCABULARY)

    def start(self, schema: dict) -> None:
        """Begin a reply."""
        self.constraint = self.grammar.constraint(schema)
        self.grammar.allowed([self.constraint])

    def allowed(self) -> np.ndarray:
        """Flags of the tokens that may come next."""
        return self.grammar.allowed([self.constraint])[0]

    def accept(self, token: int) -> bool:
        """Take a token; True when the reply is complete."""
        self.constraint.accept(token)
        return self.constraint.done


class XGrammar:
    """xgrammar with its documented interface."""

    def __init__(self, processor: Processor) -> None:
        import xgrammar

        self.engine = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(processor.tokenizer, vocab_size=VOCABULARY)
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = xgrammar.allocate_token_bitmask(1, VOCABULARY)

    def start(self, schema: dict) -> None:
        """Begin a reply."""
        compiled = self.compiler.compile_json_schema(schema, any_whitespace=False, separators=(", ", ": "))
        self.matcher = self.engine.GrammarMatcher(compiled, terminate_without_stop_token=True)
        self.allowed()

    def allowed(self) -> np.ndarray:
        """Flags of the tokens that may come next."""
        self.matcher.fill_next_token_bitmask(self.bits)
        flags = np.unpackbits(self.bits.numpy().view(np.uint8), axis=1, bitorder="little")
        return flags[0, :VOCABULARY].view(np.bool_)

    def accept(self, token: int) -> bool:
        """Take a token; True when the reply is complete."""
        assert self.matcher.accept_token(token)
        return self.matcher.is_terminated()


class Held(LogitsProcessor):
    """Decoding under one of the engines."""

    def __init__(self, engine: LLGuidance | XGrammar, schema: dict) -> None:
        self.engine = engine
        engine.start(schema)
        self.first, self.done = True, False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Hide what is not allowed."""
        if not self.first and not self.done:
            self.done = self.engine.accept(int(input_ids[0, -1]))
        self.first = False
        return scores if self.done else scores.masked_fill(~torch.from_numpy(self.engine.allowed()), -torch.inf)


def megabytes(name: str) -> float:
    """Installed size of a package and of those it brings that DynEval does not need anyway."""
    total, todo, seen = 0, [name], set(ALREADY_NEEDED)
    while todo:
        current = todo.pop().lower()
        if current in seen:
            continue
        seen.add(current)
        try:
            package = importlib.metadata.distribution(current)
        except importlib.metadata.PackageNotFoundError:
            continue
        total += sum(file.locate().stat().st_size for file in package.files or [] if file.locate().is_file())
        todo += [
            need.split(";")[0].split("[")[0].rstrip("<>=~!.0123456789 ,")
            for need in package.requires or []
            if "extra" not in need
        ]
    return total / 1e6


def mask_times(engine: LLGuidance | XGrammar, schema: dict, seed: int) -> Iterator[float]:
    """Milliseconds of each mask of one reply."""
    random = np.random.default_rng(seed)
    engine.start(schema)
    done = False
    while not done:
        started = time.perf_counter()
        allowed = engine.allowed()
        yield 1e3 * (time.perf_counter() - started)
        done = engine.accept(int(random.choice(np.flatnonzero(allowed))))


def compile_time(engine: LLGuidance | XGrammar, schema: dict, repeats: int) -> float:
    """Milliseconds from a schema to its first mask, median."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        engine.start(schema)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def decode_time(model: torch.nn.Module, encoded: dict, held: list[Held], count: int) -> float:
    """Milliseconds a token of a greedy `generate` of `count` tokens."""
    started = time.perf_counter()
    processors = LogitsProcessorList(held)
    output = model.generate(
        **encoded, logits_processor=processors, max_new_tokens=count, min_new_tokens=count, do_sample=False
    )
    return 1e3 * (time.perf_counter() - started) / (output.shape[1] - encoded["input_ids"].shape[1])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from dyneval.demo.tiny_model import build_tiny_model

            checkpoint = Path(folder, "tiny")
            build_tiny_model(checkpoint, task_tokens=True)
        model, processor = load_student(checkpoint)
    encoded = processor.encode([ChatTurn("user", tokens.t2ia_turn("a cat on a bench"))], [], True).model_inputs()
    schemas = [scene_schema(BOUNDED), evaluation_schema("readme", "t2ia", QUESTIONS, BOUNDED)]
    print(
        "| engine | installed MB | load s | compile IQA ms | compile EVALUATION ms | mask ms mean, p99 | ms a token |"
    )
    print("|---|---|---|---|---|---|---|")
    decode_time(model, encoded, [], arguments.tokens)
    free = statistics.median(decode_time(model, encoded, [], arguments.tokens) for _ in range(arguments.repeats))
    print(f"| none | 0 | 0 | 0 | 0 | 0 | {free:.2f} |")
    for name, kind in (("llguidance", LLGuidance), ("xgrammar", XGrammar)):
        if importlib.util.find_spec(name) is None:
            print(f"| {name} | not installed |")
            continue
        started = time.perf_counter()
        engine = kind(processor)
        load = time.perf_counter() - started
        compiled = [compile_time(engine, schema, arguments.repeats) for schema in schemas]
        masks = [
            ms for seed in range(arguments.repeats) for schema in schemas for ms in mask_times(engine, schema, seed)
        ]
        decoding = statistics.median(
            decode_time(model, encoded, [Held(engine, schemas[1])], arguments.tokens) for _ in range(arguments.repeats)
        )
        print(
            f"| {name} {importlib.metadata.version(name)} | {megabytes(name):.0f} | {load:.1f} | {compiled[0]:.1f} | "
            f"{compiled[1]:.1f} | {np.mean(masks):.2f}, {np.percentile(masks, 99):.1f} | {decoding:.2f} |"
        )


if __name__ == "__main__":
    main()
