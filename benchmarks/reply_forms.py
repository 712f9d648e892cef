"""Does a student of either reply form get the scores that it writes? Overfitted on eight pairs, asked freely, scored.

    python benchmarks/reply_forms.py --steps 400 --forms readme release

A small student with random weights learns eight drawings by heart, once in the form `readme` and once in `release`, by
Step 4's launcher. Then it answers the evaluations without any grammar (`generate`, greedy), and the scorer scores the
pairs, told nothing of the form. Exit status 1: fewer than 13 of the 16 alignment scores or not all eight quality scores
come out right, freely or scored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import ROOT, Flags, Results, timed
from PIL import Image, ImageDraw

from dyneval import replies
from dyneval.files.atomic import write_json
from dyneval.records import PARTS, Part
from dyneval.replies import REPLY_FORMS, ReplyForm
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

STEP4 = ROOT / "Qwen3-VL" / "qwen-vl-finetune"
SIZE = 64
# Right scores that are enough, of 16 for alignment and of 8 for quality.
ENOUGH = {"t2ia": 13, "iqa": 8}


class DrawingAnswer(NamedTuple):
    """What a teacher says to a question."""

    question: str
    target_answer: str
    answer: str
    correct: bool
    reasoning: str
    score: int


@dataclass(frozen=True)
class Drawing:
    """A drawing of the asked shape, in the asked colour (`fits`) or another, clean or noisy."""

    name: str
    prompt: str
    shape: str
    fits: bool
    clean: bool
    # Score of the quality of the image as a whole.
    holistic: int

    def draw(self) -> Image.Image:
        """The drawing."""
        image = Image.new("RGB", (SIZE, SIZE), "white")
        colour = "red" if self.fits else "blue"
        getattr(ImageDraw.Draw(image), self.shape)((12, 12, 52, 52), fill=colour)
        if self.clean:
            return image
        noise = np.random.default_rng(7).integers(-110, 110, (SIZE, SIZE, 3))
        return Image.fromarray(np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8))

    def answers(self, part: Part) -> list[DrawingAnswer]:
        """Two questions of a part, answered."""
        if part == "t2ia":
            shown = f"One {'red' if self.fits else 'blue'} {self.shape}."
            return [
                DrawingAnswer(f"Is there a {self.shape}?", "yes", "yes", True, shown, 5),
                DrawingAnswer(
                    "Is it red?", "yes", "yes" if self.fits else "no", self.fits, shown, 5 if self.fits else 1
                ),
            ]
        seen = "It is clean." if self.clean else "There is noise."
        asked = (("Is the outline sharp?", "yes"), ("Is there any noise?", "no"))
        wrong = {"yes": "no", "no": "yes"}
        return [
            DrawingAnswer(
                text, target, target if self.clean else wrong[target], self.clean, seen, 5 if self.clean else 2
            )
            for text, target in asked
        ]

    def samples(self, form: ReplyForm) -> list[dict[str, Any]]:
        """The four training samples of the drawing, as the builder writes them: T2IA, IQA, and their evaluations."""
        image = f"{self.name}.png"
        graph = {"nodes": [{"id": "object_1", "label": self.shape, "attributes": []}], "edges": []}
        quality = [replies.QuestionItem(one.question, one.target_answer) for one in self.answers("iqa")]
        alignment = [replies.QuestionItem(one.question, one.target_answer) for one in self.answers("t2ia")]
        turns: list[tuple[str, str, str | None]] = [
            (t2ia_turn(self.prompt), replies.write_questions(alignment), None),
            (iqa_turn(), replies.write_scene(graph, quality), image),
        ]
        for part in PARTS:
            answers = self.answers(part)
            turn = evaluation_turn(self.prompt, [one.question for one in answers])
            turns.append((turn, replies.write(form, part, answers, self.holistic), image))
        return [
            {"conversations": [{"from": "human", "value": turn}, {"from": "gpt", "value": reply}]}
            | ({"image": image} if image else {})
            for turn, reply, image in turns
        ]


DRAWINGS = [
    Drawing(
        name=f"{shape}-{'red' if fits else 'blue'}-{'clean' if clean else 'noisy'}",
        prompt=f"a red {shape}",
        shape=shape,
        fits=fits,
        clean=clean,
        holistic=5 if clean else 2,
    )
    for shape in ("ellipse", "rectangle")
    for fits in (True, False)
    for clean in (True, False)
]


def train(form: ReplyForm, output: Path, steps: int) -> Path:
    """Overfit a student by the launcher of Step 4; returns its checkpoint."""
    student = output / form / "dyneval_2b_stage1_t2ia"
    samples = [drawing.samples(form) for drawing in DRAWINGS]
    # Each stage refuses the task of the other, so the IQA samples are a data set of their own. DATASET_USE trains both.
    alignment, quality = output / f"{form}_t2ia.json", output / f"{form}_iqa.json"
    write_json(alignment, [one for t2ia, _, *evaluations in samples for one in (t2ia, *evaluations)])
    write_json(quality, [iqa for _, iqa, *_ in samples])
    # Vision is trained too, since random weights see nothing; without checkpointing and workers, which only cost a
    # model of this size their time.
    environment = {
        "MODEL_NAME_OR_PATH": output / "tiny",
        "OUTPUT_ROOT": output / form,
        "DATASET_USE": "dynevalinstruct",
        "DYNEVALINSTRUCT_T2IA_ANNOTATION": alignment,
        "DYNEVALINSTRUCT_T2IA_DATA": output,
        "DYNEVALINSTRUCT_IQA_ANNOTATION": quality,
        "DYNEVALINSTRUCT_IQA_DATA": output,
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


def free_replies(checkpoint: Path, images: Path, tokens: int) -> tuple[int, int]:
    """Alignment scores (of 16) and quality scores (of 8) that are right when the student writes freely."""
    import torch

    from dyneval.processing import Turn
    from dyneval.scorer.loading import load_student

    model, processor = load_student(checkpoint, device="cpu")
    right = {"t2ia": 0, "iqa": 0}
    for drawing in DRAWINGS:
        image = Image.open(images / f"{drawing.name}.png")
        for part in PARTS:
            answers = drawing.answers(part)
            turn = evaluation_turn(drawing.prompt, [one.question for one in answers])
            inputs = processor.encode([Turn("user", turn, 1)], [image], True).model_inputs()
            with torch.inference_mode():
                ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0]
            text = processor.decode(ids[inputs["input_ids"].shape[1] :].tolist())
            # A student that has not learned its form may write anything: such a reply has no right score.
            try:
                reply = json.loads(text)
                said = [one.get("score") for one in reply["answers"]]
            except (ValueError, KeyError, AttributeError):
                continue
            if part == "t2ia":
                right["t2ia"] += sum(one == answer.score for one, answer in zip(said, answers, strict=False))
            else:
                whole = reply["score"] if "score" in reply else sum(said) / len(said)
                right["iqa"] += whole == drawing.holistic
    return right["t2ia"], right["iqa"]


def scored(checkpoint: Path, images: Path) -> tuple[int, int, str]:
    """The same of the scorer's records, and how it came to its template and reply form."""
    from dyneval.scorer import ReplyLimits, Scorer, ScorerSettings

    # As the published checkpoints, which do not tell their template and reply form: the scorer has to probe them.
    (checkpoint / "dyneval.json").unlink(missing_ok=True)
    # Far above what the samples have. A student that has not learned them would write on without end.
    settings = ScorerSettings(limits=ReplyLimits().capped(4, 60))
    scorer = Scorer.from_pretrained(checkpoint, device="cpu", settings=settings)
    scorer.give_questions(
        {
            drawing.prompt: [{"question": one.question, "answer": one.target_answer} for one in drawing.answers("t2ia")]
            for drawing in DRAWINGS
        }
    )
    records = scorer.score(
        [images / f"{drawing.name}.png" for drawing in DRAWINGS], [drawing.prompt for drawing in DRAWINGS]
    )
    alignment = sum(
        one.score == answer.score
        for drawing, record in zip(DRAWINGS, records, strict=True)
        for one, answer in zip(record.t2ia_questions or (), drawing.answers("t2ia"), strict=True)
    )
    quality = sum(record.iqa == drawing.holistic for drawing, record in zip(DRAWINGS, records, strict=True))
    return alignment, quality, scorer.settled_by


def main() -> int:
    """Train, ask and score; returns 1 where too few scores are right."""
    flags = Flags(__doc__)
    flags.add_argument("--output", type=Path, help="new folder to keep the students in; default: a temporary one")
    flags.add_argument("--steps", type=int, default=400, smoke=1)
    flags.add_argument("--forms", nargs="+", choices=REPLY_FORMS, default=REPLY_FORMS, smoke=["readme"])
    flags.add_argument("--tokens", type=int, default=250, smoke=4, help="of a free reply at most; default: %(default)s")
    arguments = flags.parse_args()
    from dyneval.demo.tiny_model import build_tiny_model

    results = Results(arguments)
    columns = {"reply form": "", "asked freely: T2IA, IQA": "", "scored: T2IA, IQA": "", "what probing found": ""}
    results.table(columns | {"training s": ".0f"})
    enough = True
    with tempfile.TemporaryDirectory() as scratch:
        output = (arguments.output or Path(scratch)).resolve()
        output.mkdir(parents=True, exist_ok=True)
        build_tiny_model(output / "tiny", width=128)
        for drawing in DRAWINGS:
            drawing.draw().save(output / f"{drawing.name}.png")
        for form in arguments.forms:
            with timed() as training:
                checkpoint = train(form, output, arguments.steps)
            free = free_replies(checkpoint, output, arguments.tokens)
            *kept, found = scored(checkpoint, output)
            cells = (f"{one} of 16, {two} of 8" for one, two in (free, kept))
            results.row(form, *cells, found, training.wall)
            enough &= all(t2ia >= ENOUGH["t2ia"] and iqa >= ENOUGH["iqa"] for t2ia, iqa in (free, kept))
            enough &= f"reply form {form}," in found
    return 0 if enough or arguments.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
