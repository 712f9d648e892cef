"""Images a second of the scorer, beside four plain `generate` calls a pair under the same grammars.

    python benchmarks/scoring.py [--checkpoint DIR] [--images 16] [--batch-size 16] [--device cuda] [--dtype bfloat16]

Without --checkpoint the tiny random Qwen3-VL is built. A random model closes its lists at random, so every reply has
a fixed number of questions and objects (about those of an image with few objects); baseline and scorer decode the
same replies. The baseline reads each conversation anew and decodes token by token; where the grammar leaves no choice,
it takes the same tokens as the scorer, so that both end in the same scores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from dyneval import replies, tokens
from dyneval.loaded_pairs import Pair
from dyneval.processing import Processor, Turn
from dyneval.records import ScoreRecord
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings
from dyneval.scorer.engines.local import TransformersStudent
from dyneval.scorer.grammar import Constraint, ReplyGrammar
from dyneval.scorer.loading import load_student
from dyneval.scorer.passes import mean_score, merge_questions

LIMITS = ReplyLimits(
    questions=14, nodes=4, edges=3, attributes=2, question_chars=60, label_chars=12, reasoning_chars=90
)
T2IA_QUESTIONS = 8
QUESTIONS_SCHEMA, SCENE_SCHEMA = replies.questions_schema, replies.scene_schema
READMES = {"template": "readme", "reply_form": "readme"}


def filled_questions(limits: ReplyLimits) -> dict:
    """Schema of the reply to T2IA, with a fixed number of questions."""
    return QUESTIONS_SCHEMA(limits) | {"minItems": T2IA_QUESTIONS, "maxItems": T2IA_QUESTIONS}


def filled_scene(limits: ReplyLimits) -> dict:
    """Schema of the reply to IQA, with lists of fixed lengths."""
    schema = SCENE_SCHEMA(limits)
    graph = schema["properties"]["scene_graph"]["properties"]
    schema["properties"]["questions"]["minItems"] = limits.questions
    graph["nodes"]["minItems"], graph["edges"]["minItems"] = limits.nodes, limits.edges
    return schema


class Held(LogitsProcessor):
    """Token by token under a grammar."""

    def __init__(self, grammar: ReplyGrammar, constraint: Constraint, end: int) -> None:
        self.grammar, self.constraint, self.end = grammar, constraint, end
        self.forced = constraint.forced()
        self.chosen = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Hide what is not allowed."""
        if self.chosen:
            self.constraint.accept(int(input_ids[0, -1]))
            self.forced = self.constraint.forced()
        self.chosen = not self.forced and not self.constraint.done
        if self.chosen:
            allowed = torch.from_numpy(self.grammar.allowed([self.constraint])[0]).to(scores.device)
            return scores.masked_fill(~allowed, -torch.inf)
        only = torch.full_like(scores, -torch.inf)
        only[:, self.forced.pop(0) if self.forced else self.end] = 0
        return only


class Plain:
    """What a script without this package would do."""

    def __init__(self, model: torch.nn.Module, processor: Processor, settings: ScorerSettings) -> None:
        self.model, self.processor, self.settings = model, processor, settings
        self.grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self.tokens = 0

    def reply(self, turn: str, schema: dict, image: Image.Image | None) -> str:
        """One conversation."""
        images = [image] if image else []
        encoded = self.processor.encode([Turn("user", turn, len(images))], images, True).model_inputs()
        encoded = {name: value.to(self.model.device) for name, value in encoded.items()}
        held = Held(self.grammar, self.grammar.constraint(schema), self.processor.tokenizer.eos_token_id)
        options = {"max_new_tokens": self.settings.max_new_tokens, "do_sample": False}
        self.model.generate(**encoded, logits_processor=LogitsProcessorList([held]), **options)
        self.tokens += len(held.constraint.tokens)
        return held.constraint.text

    def score(self, pair: Pair) -> tuple[float, float]:
        """T2IA and IQA of a pair, in four calls."""
        limits = self.settings.limits
        asked = replies.read_questions(self.reply(tokens.t2ia_turn(pair.prompt), filled_questions(limits), None))
        t2ia = self.evaluate(pair, [one["question"] for one in merge_questions(asked)])
        scene = replies.read_scene(self.reply(tokens.iqa_turn(), filled_scene(limits), pair.image))
        return t2ia, self.evaluate(pair, [one["question"] for one in merge_questions(scene.questions)])

    def evaluate(self, pair: Pair, questions: Sequence[str]) -> float:
        """Mean score of questions about a pair."""
        schema = replies.evaluation_schema("readme", "t2ia", questions, self.settings.limits)
        text = self.reply(tokens.evaluation_turn(pair.prompt, questions), schema, pair.image)
        return mean_score([answer["score"] for answer in json.loads(text)["answers"]])


def make_pairs(count: int, side: int) -> list[Pair]:
    """Images of smooth noise, each with its own prompt."""
    random = np.random.default_rng(0)
    images = [
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((side, side)) for _ in range(count)
    ]
    return [
        Pair(
            pair_id=f"pair-{n}", prompt=f"scene number {n}: a red circle on a bench", image=image, image_name=f"{n}.png"
        )
        for n, image in enumerate(images)
    ]


def parse_arguments() -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--baseline-images", type=int, default=4, help="of them, scored by the baseline")
    parser.add_argument("--side", type=int, default=512, help="pixels of an image's side")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-pixels", type=int, default=50176)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    return parser.parse_args()


def main() -> None:
    """Measure and print a table."""
    arguments = parse_arguments()
    replies.questions_schema, replies.scene_schema = filled_questions, filled_scene
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from dyneval.demo.tiny_model import build_tiny_model

            checkpoint = Path(folder, "tiny")
            build_tiny_model(checkpoint, task_tokens=True)
        model, processor = load_student(
            checkpoint, device=arguments.device, dtype=arguments.dtype, max_pixels=arguments.max_pixels
        )
    pairs = make_pairs(arguments.images, arguments.side)
    plain = Plain(model, processor, ScorerSettings(limits=LIMITS, **READMES))
    plain.score(pairs[-1])
    plain.tokens = 0
    started = time.perf_counter()
    expected = [plain.score(pair) for pair in pairs[: arguments.baseline_images]]
    baseline = (time.perf_counter() - started) / len(expected)
    print(f"{plain.tokens / len(expected):.0f} tokens of reply a pair; {model.dtype} on {model.device}")
    print("| | images/s | times the baseline | scores equal |")
    print("|---|---|---|---|")
    print(f"| four sequential generate calls | {1 / baseline:.3f} | 1.0 | |")
    for mode in ("full", "fast"):
        settings = ScorerSettings(mode=mode, limits=LIMITS, batch_size=arguments.batch_size, **READMES)
        scorer = Scorer(TransformersStudent(model, processor), "benchmark", settings)
        list(scorer.score_pairs(make_pairs(2, arguments.side)))
        scorer = Scorer(TransformersStudent(model, processor), "benchmark", settings)
        started = time.perf_counter()
        results = [result for result in scorer.score_pairs(pairs) if isinstance(result, ScoreRecord)]
        seconds = (time.perf_counter() - started) / len(pairs)
        equal = sum((one.t2ia, one.iqa) == other for one, other in zip(results, expected, strict=False))
        shown = f"{equal} of {len(expected)}" if mode == "full" else ""
        print(f"| scorer, {mode} | {1 / seconds:.3f} | {baseline / seconds:.1f} | {shown} |")


if __name__ == "__main__":
    main()
