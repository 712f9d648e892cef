"""See DynEval judge, in under a minute: no GPU, no download, no training.

    dyneval demo
    dyneval demo --output somewhere --prompts 5

A finished demo judge, which the package brings along, scores a handful of pictures that three demo models draw, beside
the true scores. It knows the demo's procedural world alone; `bash pipeline/demo.sh` shows how it was made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

from dyneval.cli.running import run
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.demo.summary import HeldOutScore

LEAD = (
    "A finished demo judge scores pictures that three demo models draw. It knows the demo's procedural world alone "
    "and says nothing of photographs; these pictures and prompts were in no training of it."
)
# Seed of the prompts: those of the demo run have seed 0, and those of the pretraining are others.
SEED = 1
# Characters of a prompt in the table, so that it fits into a terminal of 120.
SHOWN = 48


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """How much is shown, and where it lies."""

    output: Annotated[Path, arg("folder to write")] = Path("dyneval-demo")
    prompts: Annotated[int, arg("scenes, three pictures each", ge=1, le=100)] = 4


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(DemoOptions, argv)
    return run(parser, _demo, options)


def _demo(options: DemoOptions) -> int:
    from tabulate import tabulate

    from dyneval.demo.page import write_page
    from dyneval.demo.summary import SCORES, example, rank_models, ranked_table, same_prompt
    from dyneval.demo.weights import write_judge

    started = time.monotonic()
    output = options.output
    judge, page = output / "judge", output / "demo.html"
    if not (judge / "config.json").is_file():
        write_judge(judge)
    scored = _score(judge, output / "images", options.prompts)
    header = ["prompt", "model", *(f"{name} (truth)" for name in ("overall", "T2IA", "IQA"))]
    rows = [
        [
            shorten(one.pair.prompt, SHOWN, placeholder="…"),
            one.pair.generation_model,
            *(f"{one.said[score]:.2f} ({one.true[score]:.2f})" for score in SCORES),
        ]
        for one in scored
    ]
    two = same_prompt(scored)
    commands = [
        f"dyneval serve --checkpoint {judge}",
        f'dyneval score {output / "images"}/*.png --prompt "a red cat on a beach" --checkpoint {judge}',
        "bash pipeline/demo.sh",
    ]
    write_page(
        page,
        lead=LEAD,
        tables={"Scores": (header, rows), "Image models": ranked_table(rank_models(scored))},
        scatter=[(one.true["overall"], one.said["overall"], one.pair.generation_model) for one in scored],
        losses={},
        example=[(one.record, one.truth, output / "images" / one.pair.file_name) for one in example(scored) or ()],
        commands=commands,
    )
    told = [
        tabulate(rows, header, tablefmt="github", disable_numparse=True),
        f"Of {two['pairs']} pairs of pictures of one prompt, the better one scored higher in {two['right']}.",
        f"{LEAD}\n{time.monotonic() - started:.0f} s, of which the next run needs fewer: {judge} is kept.",
        f"To look at: {page}\nA page to try it on, a score of your own, and how such a judge is made:",
        "\n".join(f"    {command}" for command in commands),
    ]
    sys.stdout.write("\n\n".join(told) + "\n")
    return 0


def _score(judge: Path, images: Path, prompts: int) -> list[HeldOutScore]:
    """Draw the scenes and let the judge score them."""
    from dyneval.demo.painters import PAINTERS, draw
    from dyneval.demo.prompts import MIN_CHARACTERS, demo_prompts
    from dyneval.demo.summary import HeldOutScore
    from dyneval.demo.weights import PIXELS
    from dyneval.hashing import file_sha256
    from dyneval.records import PairRecord, pair_id, prompt_id
    from dyneval.scorer import Scorer

    images.mkdir(parents=True, exist_ok=True)
    size = int(PIXELS**0.5)
    # Eight times as many as needed, since some are doubles and some too short for Step 1.
    texts = [text for text in dict.fromkeys(demo_prompts(8 * prompts, SEED)) if len(text) >= MIN_CHARACTERS][:prompts]
    pairs, truths = [], []
    for text in texts:
        for slug in PAINTERS:
            image, truth = draw(slug, text, seed=0, size=size)
            name = pair_id(prompt_id(text), slug)
            image.save(images / f"{name}.png")
            truths.append(truth)
            pairs.append(
                PairRecord(
                    pair_id=name,
                    file_name=f"{name}.png",
                    prompt_id=prompt_id(text),
                    prompt=text,
                    categories=(),
                    generation_model=slug,
                    seed=0,
                    width=size,
                    height=size,
                    settings={"family": "demo"},
                    sha256=file_sha256(images / f"{name}.png"),
                )
            )
    scorer = Scorer.from_pretrained(str(judge))
    records = scorer.score([images / pair.file_name for pair in pairs], [pair.prompt for pair in pairs])
    return [HeldOutScore(*one) for one in zip(pairs, records, truths, strict=True)]
