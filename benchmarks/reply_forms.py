"""Does a student of either reply form get the scores that it writes? Overfitted on eight pairs, asked freely, scored.

    python benchmarks/reply_forms.py [--output DIR] [--steps 400] [--forms readme release]

A small student with random weights learns eight drawings by heart, once in the form `readme` and once in `release`, by
Step 4's launcher. Then it answers the evaluations without any grammar (`generate`, greedy), and the scorer scores the
pairs, told nothing of the form. Exit status 1: fewer than 13 of the 16 alignment scores or not all eight quality scores
come out right, freely or scored.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dyneval import replies
from dyneval.files.atomic import write_json
from dyneval.records import PARTS, Part
from dyneval.replies import REPLY_FORMS, ReplyForm
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

ROOT = Path(__file__).resolve().parents[1]
STEP4 = ROOT / "Qwen3-VL" / "qwen-vl-finetune"
SIZE = 64
ENOUGH = {"t2ia": 13, "iqa": 8}
"""Of 16 alignment scores and of 8 quality scores."""


class Answer(NamedTuple):
    """What a teacher says to a question."""

    question: str
    target_answer: str
    answer: str
    correct: bool
    reasoning: str
    score: int


@dataclass(frozen=True)
class Pair:
    """A drawing of the asked shape, in the asked colour or another, clean or noisy."""

    name: str
    shape: str
    fits: bool
    clean: bool

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return f"a red {self.shape}"

    def draw(self) -> Image.Image:
        """The drawing."""
        image = Image.new("RGB", (SIZE, SIZE), "white")
        colour = "red" if self.fits else "blue"
        getattr(ImageDraw.Draw(image), self.shape)((12, 12, 52, 52), fill=colour)
        if self.clean:
            return image
        noise = np.random.default_rng(7).integers(-110, 110, (SIZE, SIZE, 3))
        return Image.fromarray(np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8))

    def answers(self, part: Part) -> list[Answer]:
        """Two questions of a part, answered."""
        if part == "t2ia":
            shown = f"One {'red' if self.fits else 'blue'} {self.shape}."
            return [
                Answer(f"Is there a {self.shape}?", "yes", "yes", True, shown, 5),
                Answer("Is it red?", "yes", "yes" if self.fits else "no", self.fits, shown, 5 if self.fits else 1),
            ]
        seen = "It is clean." if self.clean else "There is noise."
        asked = (("Is the outline sharp?", "yes"), ("Is there any noise?", "no"))
        wrong = {"yes": "no", "no": "yes"}
        return [
            Answer(text, target, target if self.clean else wrong[target], self.clean, seen, 5 if self.clean else 2)
            for text, target in asked
        ]

    @property
    def holistic(self) -> int:
        """Score of the quality of the image as a whole."""
        return 5 if self.clean else 2

    def samples(self, form: ReplyForm) -> list[dict[str, Any]]:
        """The four training samples of the pair, as the builder writes them."""
        image = f"{self.name}.png"
        graph = {"nodes": [{"id": "object_1", "label": self.shape, "attributes": []}], "edges": []}
        quality = [replies.QuestionItem(one.question, one.target_answer) for one in self.answers("iqa")]
        alignment = [replies.QuestionItem(one.question, one.target_answer) for one in self.answers("t2ia")]
        return [
            sample(t2ia_turn(self.prompt), replies.write_questions(alignment)),
            sample(iqa_turn(), replies.write_scene(graph, quality), image),
            *(
                sample(
                    evaluation_turn(self.prompt, [one.question for one in self.answers(part)]),
                    replies.write(form, part, self.answers(part), self.holistic),
                    image,
                )
                for part in PARTS
            ),
        ]


PAIRS = [
    Pair(f"{shape}-{'red' if fits else 'blue'}-{'clean' if clean else 'noisy'}", shape, fits, clean)
    for shape in ("ellipse", "rectangle")
    for fits in (True, False)
    for clean in (True, False)
]


def sample(turn: str, answer: str, image: str | None = None) -> dict[str, Any]:
    """One training sample."""
    conversations = [{"from": "human", "value": turn}, {"from": "gpt", "value": answer}]
    return {"conversations": conversations} | ({"image": image} if image else {})


def train(form: ReplyForm, output: Path, steps: int) -> Path:
    """Overfit a student; returns its checkpoint."""
    student = output / form / "dyneval_2b_stage1_t2ia"
    data = output / f"{form}.json"
    write_json(data, [one for pair in PAIRS for one in pair.samples(form)])
    environment = {
        "MODEL_NAME_OR_PATH": output / "tiny",
        "OUTPUT_ROOT": output / form,
        "DYNEVALINSTRUCT_T2IA_ANNOTATION": data,
        "DYNEVALINSTRUCT_T2IA_DATA": output,
        "MIN_PIXELS": SIZE**2,
        "MAX_PIXELS": SIZE**2,
        "TUNE_MM_VISION": True,
        "GRADIENT_ACCUMULATION_STEPS": 1,
        "GRADIENT_CHECKPOINTING": False,
        "DATALOADER_NUM_WORKERS": 0,
        "LOGGING_STEPS": 50,
        "WARMUP_RATIO": 0.05,
        "HF_HUB_OFFLINE": 1,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    flags = ["--per_device_train_batch_size", "8", "--learning_rate", "2e-3", "--max_steps", str(steps)]
    subprocess.run(
        ["bash", "scripts/sft_qwen_3_vl_2b.sh", "1", *flags],
        cwd=STEP4,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        check=True,
        stdout=sys.stderr,
    )
    return student


def free_replies(checkpoint: Path, images: Path) -> tuple[int, int]:
    """Alignment scores (of 16) and quality scores (of 8) that are right when the student writes freely."""
    import torch

    from dyneval.processing import ChatTurn
    from dyneval.scorer.loading import load_student

    model, processor = load_student(checkpoint, device="cpu")
    right = {"t2ia": 0, "iqa": 0}
    for pair in PAIRS:
        image = Image.open(images / f"{pair.name}.png")
        for part in PARTS:
            answers = pair.answers(part)
            turn = evaluation_turn(pair.prompt, [one.question for one in answers])
            inputs = processor.encode([ChatTurn("user", turn, 1)], [image], True).model_inputs()
            with torch.inference_mode():
                ids = model.generate(**inputs, max_new_tokens=250, do_sample=False)[0]
            text = processor.decode(ids[inputs["input_ids"].shape[1] :].tolist())
            try:
                reply = json.loads(text)
                said = [one.get("score") for one in reply["answers"]]
            except (ValueError, KeyError, AttributeError):
                continue
            if part == "t2ia":
                right["t2ia"] += sum(one == answer.score for one, answer in zip(said, answers, strict=False))
            else:
                whole = reply["score"] if "score" in reply else sum(said) / len(said)
                right["iqa"] += whole == pair.holistic
    return right["t2ia"], right["iqa"]


def scored(checkpoint: Path, images: Path) -> tuple[int, int, str]:
    """The same of the scorer's records, and how it came to its template and reply form."""
    from dyneval.scorer import Scorer

    (checkpoint / "dyneval.json").unlink(
        missing_ok=True
    )  # as the published checkpoints, which say nothing of themselves
    scorer = Scorer.from_pretrained(checkpoint, device="cpu")
    scorer.give_questions(
        {
            pair.prompt: [{"question": one.question, "answer": one.target_answer} for one in pair.answers("t2ia")]
            for pair in PAIRS
        }
    )
    records = scorer.score([images / f"{pair.name}.png" for pair in PAIRS], [pair.prompt for pair in PAIRS])
    alignment = sum(
        one.score == answer.score
        for pair, record in zip(PAIRS, records, strict=True)
        for one, answer in zip(record.t2ia_questions or (), pair.answers("t2ia"), strict=True)
    )
    quality = sum(record.iqa == pair.holistic for pair, record in zip(PAIRS, records, strict=True))
    return alignment, quality, scorer.settled_by


def main() -> int:
    """Command line of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "reply_forms")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--forms", nargs="+", choices=REPLY_FORMS, default=REPLY_FORMS)
    arguments = parser.parse_args()
    from dyneval.demo.tiny_model import build_tiny_model

    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    build_tiny_model(output / "tiny", width=128)
    for pair in PAIRS:
        pair.draw().save(output / f"{pair.name}.png")
    lines = ["| reply form | asked freely: T2IA, IQA | scored: T2IA, IQA | found | training |", "|---|---|---|---|---|"]
    enough = True
    for form in arguments.forms:
        started = time.perf_counter()
        checkpoint = train(form, output, arguments.steps)
        seconds = time.perf_counter() - started
        free = free_replies(checkpoint, output)
        *kept, found = scored(checkpoint, output)
        cells = (f"{one} of 16, {two} of 8" for one, two in (free, kept))
        lines.append(f"| {form} | {' | '.join(cells)} | {found} | {seconds:.0f} s |")
        enough &= all(t2ia >= ENOUGH["t2ia"] and iqa >= ENOUGH["iqa"] for t2ia, iqa in (free, kept))
        enough &= f"reply form {form}," in found
    print("\n".join(lines))
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
