"""Images a second of the scorer, beside four plain `generate` calls a pair under the same grammars.

    python benchmarks/scoring.py --checkpoint DIR --images 16 --batch-size 16 --device cuda --dtype bfloat16
    .venv-vllm/bin/python benchmarks/scoring.py --engine vllm --baseline-images 0 --checkpoint DIR

Without --checkpoint the tiny random Qwen3-VL is built. A random model closes its lists at random, so every reply has
a fixed number of questions and objects (about those of an image with few objects); baseline and scorer decode the
same replies. The baseline reads each conversation anew and decodes token by token; where the grammar leaves no choice,
it takes the same tokens as the scorer, so that both end in the same scores.

On a GPU that `dyneval plan` knows, the last line is the limit that it sets: each token that the student chooses needs
all weights once a batch, at the memory's bandwidth, and each other token 2 FLOPs a parameter, at the peak of bfloat16.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from harness import Flags, Results, timed
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from dyneval import replies, tokens
from dyneval.loaded_pairs import LoadedPair
from dyneval.planning.assumptions import gpus
from dyneval.processing import Processor, Turn
from dyneval.records import ScoreRecord
from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings
from dyneval.scorer.four_passes import mean_score, merge_questions
from dyneval.scorer.grammar import Constraint, ReplyGrammar
from dyneval.scorer.loading import load_student
from dyneval.scorer.students.local import TransformersStudent
from dyneval.scorer.students.registry import Checkpoint, make_student

# About the reply to an image with few objects. Every list and text is filled to its limit, see `filled_scene`.
LIMITS = ReplyLimits(
    questions=14, nodes=4, edges=3, attributes=2, question_chars=60, label_chars=12, reasoning_chars=90
)
T2IA_QUESTIONS = 8
SHORT = ReplyLimits(questions=2, nodes=1, edges=1, attributes=1, question_chars=12, label_chars=8, reasoning_chars=12)
# Kept, since `main` puts the filled schemas in their place.
QUESTIONS_SCHEMA, SCENE_SCHEMA = replies.questions_schema, replies.scene_schema
# Given, or the scorer would probe a random model for its wording.
READMES = {"template": "readme", "reply_form": "readme"}


def filled_questions(limits: ReplyLimits) -> dict:
    """Schema of the reply to T2IA, with a fixed number of questions."""
    return QUESTIONS_SCHEMA(limits) | dict.fromkeys(
        ("minItems", "maxItems"), min(T2IA_QUESTIONS, limits.questions or T2IA_QUESTIONS)
    )


def filled_scene(limits: ReplyLimits) -> dict:
    """Schema of the reply to IQA, with lists of fixed lengths."""
    schema = SCENE_SCHEMA(limits)
    graph = schema["properties"]["scene_graph"]["properties"]
    schema["properties"]["questions"]["minItems"] = limits.questions
    graph["nodes"]["minItems"], graph["edges"]["minItems"] = limits.nodes, limits.edges
    return schema


class PlainGrammar(LogitsProcessor):
    """Decoding token by token under a grammar; `choices` counts the tokens that the grammar left open."""

    def __init__(self, grammar: ReplyGrammar, constraint: Constraint, end: int) -> None:
        self.grammar, self.constraint, self.end = grammar, constraint, end
        self.forced = constraint.forced()
        self.chosen = False
        self.choices = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Hide what is not allowed."""
        if self.chosen:
            self.constraint.accept(int(input_ids[0, -1]))
            self.forced = self.constraint.forced()
        self.chosen = not self.forced and not self.constraint.done
        self.choices += self.chosen
        if self.chosen:
            allowed = torch.from_numpy(self.grammar.allowed([self.constraint])[0]).to(scores.device)
            return scores.masked_fill(~allowed, -torch.inf)
        # The forced token is the only one allowed, so that baseline and scorer take the same tokens.
        only = torch.full_like(scores, -torch.inf)
        only[:, self.forced.pop(0) if self.forced else self.end] = 0
        return only


class SequentialBaseline:
    """The baseline: four `generate` calls a pair, as a script without this package would make them."""

    def __init__(self, model: torch.nn.Module, processor: Processor, settings: ScorerSettings) -> None:
        self.model, self.processor, self.settings = model, processor, settings
        self.grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self.tokens = self.choices = self.read = 0

    def reply(self, turn: str, schema: dict, image: Image.Image | None) -> str:
        """One conversation."""
        images = [image] if image else []
        encoded = self.processor.encode([Turn("user", turn, len(images))], images, True).model_inputs()
        encoded = {name: value.to(self.model.device) for name, value in encoded.items()}
        held = PlainGrammar(self.grammar, self.grammar.constraint(schema), self.processor.tokenizer.eos_token_id)
        options = {"max_new_tokens": self.settings.max_new_tokens, "do_sample": False}
        self.model.generate(**encoded, logits_processor=LogitsProcessorList([held]), **options)
        self.tokens += len(held.constraint.tokens)
        self.choices += held.choices
        self.read += encoded["input_ids"].shape[1]
        return held.constraint.text

    def score(self, pair: LoadedPair) -> tuple[float, float]:
        """T2IA and IQA of a pair, in four calls."""
        limits = self.settings.limits
        asked = replies.read_questions(self.reply(tokens.t2ia_turn(pair.prompt), filled_questions(limits), None))
        t2ia = self.evaluate(pair, [one["question"] for one in merge_questions(asked)])
        scene = replies.read_scene(self.reply(tokens.iqa_turn(), filled_scene(limits), pair.image))
        return t2ia, self.evaluate(pair, [one["question"] for one in merge_questions(scene.questions)])

    def evaluate(self, pair: LoadedPair, questions: Sequence[str]) -> float:
        """Mean score of questions about a pair."""
        schema = replies.evaluation_schema("readme", "t2ia", questions, self.settings.limits)
        text = self.reply(tokens.evaluation_turn(pair.prompt, questions), schema, pair.image)
        return mean_score([answer["score"] for answer in json.loads(text)["answers"]])


def make_pairs(count: int, side: int) -> list[LoadedPair]:
    """Images of smooth noise, each with its own prompt."""
    random = np.random.default_rng(0)
    made = []
    for n in range(count):
        image = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((side, side))
        prompt = f"scene number {n}: a red circle on a bench"
        made.append(LoadedPair(pair_id=f"pair-{n}", prompt=prompt, image=image, image_name=f"{n}.png"))
    return made


def limit(plain: SequentialBaseline, pairs: int, batch_size: int) -> float | None:
    """Images a second that the memory's bandwidth and the FLOPs of this GPU allow; None where it is unknown."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    gpu = next((figures for kind, figures in gpus().items() if kind.split("-")[0] in name), None)
    if gpu is None:
        return None
    # A chosen token reads all weights once a batch, 2 bytes a parameter; every other token costs 2 FLOPs a parameter.
    parameters = plain.model.num_parameters()
    chosen, others = plain.choices / pairs, (plain.read + plain.tokens - plain.choices) / pairs
    decoding = chosen / batch_size * 2 * parameters / (gpu["bandwidth_tb"] * 1e12)
    return 1 / (decoding + 2 * parameters * others / (gpu["peak_tflops"] * 1e12))


def main() -> None:
    """Measure the baseline, then the scorer in both modes, and print a row for each."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--checkpoint", type=Path)
    flags.add_argument("--images", type=int, default=16, smoke=2)
    flags.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    text = "of them, scored by the baseline; 0: none"
    flags.add_argument("--baseline-images", type=int, default=4, smoke=1, help=text)
    flags.add_argument("--side", type=int, default=512, smoke=64, help="pixels of an image's side")
    flags.add_argument("--batch-size", type=int, default=16)
    flags.add_argument("--max-pixels", type=int, default=50176)
    text = "replies of two short questions, to try this script"
    flags.add_argument("--short", action="store_true", smoke=True, help=text)
    flags.add_argument("--device")
    flags.add_argument("--dtype")
    arguments = flags.parse_args()
    replies.questions_schema, replies.scene_schema = filled_questions, filled_scene
    results = Results(arguments)
    model = None
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint
        if checkpoint is None:
            from dyneval.demo.tiny_model import build_tiny_model

            checkpoint = Path(folder, "tiny")
            build_tiny_model(checkpoint, task_tokens=True)
        shown = {"dtype": arguments.dtype, "max_pixels": arguments.max_pixels}
        if arguments.engine == "vllm":
            engine = make_student("vllm", Checkpoint(path=checkpoint, **shown))
        else:
            model, processor = load_student(checkpoint, device=arguments.device, **shown)
            engine = TransformersStudent(model, processor)
    if model is None and arguments.baseline_images:
        raise SystemExit("the baseline needs the model in this process: --baseline-images 0 with --engine vllm")
    limits = SHORT if arguments.short else LIMITS
    pairs = make_pairs(arguments.images, arguments.side)
    results.table({"": "", "images/s": ".3f", "times the baseline": ".1f", "scores equal": ""})
    baseline, expected, most = 0.0, [], None
    if arguments.baseline_images:
        plain = SequentialBaseline(model, engine.processor, ScorerSettings(limits=limits, **READMES))
        # The first call sets up more than later ones.
        plain.score(pairs[0])
        plain.tokens = plain.choices = plain.read = 0
        with timed() as usage:
            expected = [plain.score(pair) for pair in pairs[: arguments.baseline_images]]
        baseline = usage.wall / len(expected)
        most = limit(plain, len(expected), arguments.batch_size)
        replied = f"{plain.tokens / len(expected):.0f} tokens of reply a pair, {model.dtype} on {model.device}"
        results.row(f"four sequential generate calls, {replied}", 1 / baseline, 1.0, None)
    for mode in ("full", "fast"):
        settings = ScorerSettings(mode=mode, limits=limits, batch_size=arguments.batch_size, **READMES)
        list(Scorer(engine, "benchmark", settings).score_pairs(make_pairs(2, arguments.side)))
        rates = []
        for _ in range(arguments.repeat):
            scorer = Scorer(engine, "benchmark", settings)
            with timed() as usage:
                scored = [result for result in scorer.score_pairs(pairs) if isinstance(result, ScoreRecord)]
            rates.append(len(pairs) / usage.wall)
        equal = sum((one.t2ia, one.iqa) == other for one, other in zip(scored, expected, strict=False))
        shown = f"{equal} of {len(expected)}" if mode == "full" and expected else None
        times = [rate * baseline for rate in rates] if baseline else None
        results.row(f"{arguments.engine}, {mode}", rates, times, shown)
    if most:
        results.row(f"limit of this GPU, full, batches of {arguments.batch_size}", most, most * baseline, None)


if __name__ == "__main__":
    main()
