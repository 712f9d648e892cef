"""Which grammar engine holds the student's replies: llguidance or xgrammar, beside decoding without any.

    python benchmarks/constrained_decoding.py [--checkpoint DIR] [--tokens 300] [--repeat 5]

Without --checkpoint the tiny random Qwen3-VL is built. Both engines get the same JSON Schemas in the same compact form.
"Mask" is the time to find the allowed tokens, over replies whose tokens are drawn evenly among them; "decoding" is a
plain greedy `generate` of the model. xgrammar is measured where it is installed (pip install xgrammar).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch
from harness import Flags, Results, timed
from transformers import LogitsProcessor, LogitsProcessorList

from dyneval import tokens
from dyneval.processing import Processor, Turn
from dyneval.replies import ReplyLimits, evaluation_schema, scene_schema
from dyneval.scorer.grammar import ReplyGrammar
from dyneval.scorer.loading import load_student

# Wide bounds, of which a reply uses little: an engine that unrolls bounded lists and texts shows it here.
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
# What an engine brings along but DynEval needs anyway does not count as its size.
ALREADY_NEEDED = {"numpy", "torch", "transformers", "typing-extensions", "pydantic"}
# Rows of Qwen3-VL's embedding, a few more than its tokenizer has words: the masks must be as wide as the logits.
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


class GrammarMask(LogitsProcessor):
    """Hides, at each step of `generate`, the tokens that an engine does not allow."""

    def __init__(self, engine: LLGuidance | XGrammar, schema: dict) -> None:
        self.engine = engine
        engine.start(schema)
        self.first, self.done = True, False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Hide what is not allowed; the first call comes before any token was chosen."""
        if not self.first and not self.done:
            self.done = self.engine.accept(int(input_ids[0, -1]))
        self.first = False
        return scores if self.done else scores.masked_fill(~torch.from_numpy(self.engine.allowed()), -torch.inf)


def megabytes(name: str) -> float:
    """Installed size of a package and of those it brings that DynEval does not need anyway."""
    # metadata.requires names only the next packages; the walk goes on to theirs.
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


def decode_time(model: torch.nn.Module, encoded: dict, masks: list[GrammarMask], count: int) -> float:
    """Milliseconds a token of a greedy `generate` of `count` tokens."""
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    with timed() as usage:
        output = model.generate(**encoded, logits_processor=LogitsProcessorList(masks), **options)
    return 1e3 * usage.wall / (output.shape[1] - encoded["input_ids"].shape[1])


def main() -> None:
    """Measure each engine that is installed, and print a row for each."""
    flags = Flags(__doc__, repeat=5)
    flags.add_argument("--checkpoint", type=Path, help="a student; default: the tiny random one, which is made")
    flags.add_argument("--tokens", type=int, default=300, smoke=8)
    arguments = flags.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from dyneval.demo.tiny_model import build_tiny_model

            checkpoint = Path(folder, "tiny")
            build_tiny_model(checkpoint, task_tokens=True)
        model, processor = load_student(checkpoint)
    encoded = processor.encode([Turn("user", tokens.t2ia_turn("a cat on a bench"))], [], True).model_inputs()
    schemas = [scene_schema(BOUNDED), evaluation_schema("readme", "t2ia", QUESTIONS, BOUNDED)]
    columns = {"engine": "", "installed MB": ".0f", "load s": ".1f", "compile IQA ms": ".1f"}
    columns |= {"compile EVALUATION ms": ".1f", "mask ms, mean": ".2f", "mask ms, p99": ".1f", "ms a token": ".2f"}
    results.table(columns)
    runs = range(arguments.repeat)
    decode_time(model, encoded, [], arguments.tokens)  # the first call sets up more than later ones
    results.row("none", 0, 0, 0, 0, 0, None, [decode_time(model, encoded, [], arguments.tokens) for _ in runs])
    for name, kind in (("llguidance", LLGuidance), ("xgrammar", XGrammar)):
        if importlib.util.find_spec(name) is None:
            results.row(f"{name}: not installed", *[None] * 7)
            continue
        with timed() as load:
            engine = kind(processor)
        compiled: list[list[float]] = [[], []]
        for times, schema in zip(compiled, schemas, strict=True):
            for _ in runs:
                with timed() as usage:
                    engine.start(schema)
                times.append(1e3 * usage.wall)
        masks = []
        for seed in runs:
            for schema in schemas:
                # Tokens are drawn evenly among the allowed ones: no student is asked.
                random, done = np.random.default_rng(seed), False
                engine.start(schema)
                while not done:
                    with timed() as usage:
                        allowed = engine.allowed()
                    masks.append(1e3 * usage.wall)
                    done = engine.accept(int(random.choice(np.flatnonzero(allowed))))
        decoding = [decode_time(model, encoded, [GrammarMask(engine, schemas[1])], arguments.tokens) for _ in runs]
        label = f"{name} {importlib.metadata.version(name)}"
        results.row(label, megabytes(name), load.wall, *compiled, np.mean(masks), np.percentile(masks, 99), decoding)


if __name__ == "__main__":
    main()
