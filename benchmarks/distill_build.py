"""The build part of benchmarks/distill.py: made-up annotations, the builder, and a plain way to build as its baseline.

The annotations have the shape of the teacher's. `scaling.py` and `board.py` make their records from them too, so that
all programs measure rows of the same size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import ROOT, Cost, Results, alone, run_command, timed

from dyneval.records import IQAAnswers, pair_id, prompt_id

WORDS = [
    "red",
    "blue",
    "cat",
    "dog",
    "castle",
    "river",
    "mountain",
    "woman",
    "lantern",
    "glass",
    "oil",
    "soft",
    "sharp",
]
PROVENANCE = {
    "model": "m",
    "engine": "openai",
    "prompt_version": "0123456789ab",
    "attempts": 1,
    "usage": {"prompt_tokens": 1000, "completion_tokens": 900},
    "created": "2026-11-24T00:00:00+00:00",
}


def generate(folder: Path, pairs: int) -> None:
    """Annotations of `pairs` pairs, two a prompt, as the teacher writes them: 12 T2IA and 14 IQA questions."""
    rng = random.Random(0)
    # One generator for all pairs, one of its own for each prompt: the two images of a prompt get the same text and the
    # same T2IA questions, as the teacher asks them once a prompt.
    names = ("metadata", "t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers")
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.jsonl").open("w")) for name in names}
        for number in range(pairs):
            prompt = f"{sentence(random.Random(number // 2), 25)} {number // 2}"
            for name, row in annotated(rng, prompt, f"model{number % 2}", 1 + number % 3).items():
                if name != "t2ia_questions" or number % 2 == 0:
                    files[name].write(json.dumps(row) + "\n")


def sentence(rng: random.Random, words: int) -> str:
    """So many random words."""
    return " ".join(rng.choices(WORDS, k=words))


def annotated(
    rng: random.Random, prompt: str, model: str, tier: int, questions: tuple[int, int] = (12, 14)
) -> dict[str, dict[str, Any]]:
    """The rows of one pair, by file; `questions` of T2IA and IQA."""
    name = pair_id(prompt_id(prompt), model)
    of_prompt = random.Random(prompt)
    asked = [{"question": f"Is there a {sentence(of_prompt, 4)} {i}?", "answer": "yes"} for i in range(questions[0])]
    quality = [{"question": f"Is the {sentence(rng, 4)} {i} whole?", "answer": "yes"} for i in range(questions[1])]
    nodes = [{"id": f"n{i}", "label": rng.choice(WORDS), "attributes": rng.choices(WORDS, k=4)} for i in range(5)]
    edges = [{"source": "n0", "target": f"n{i}", "relationship": "on"} for i in range(1, 5)]
    scored, judged = (
        [
            {
                "question": question["question"],
                "target_answer": "yes",
                **({"answer": "yes", "correct": True} if of is quality else {}),
                "reasoning": sentence(rng, 14),
                "score": rng.randint(1, 5),
            }
            for question in of
        ]
        for of in (asked, quality)
    )
    common = {"pair_id": name, "prompt": prompt}
    return {
        "metadata": {
            "file_name": f"{model}/{name}.png",
            "pair_id": name,
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "tier": tier,
            "categories": [],
            "generation_model": model,
            "seed": 0,
            "width": 512,
            "height": 512,
            "settings": {},
            "sha256": "0" * 64,
        },
        "t2ia_questions": {
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "questions": asked,
            "provenance": PROVENANCE,
        },
        "t2ia_answers": {**common, "answers": scored, "provenance": PROVENANCE, "raw_response": json.dumps(scored)},
        "iqa_questions": {
            **common,
            "scene_graph": {"nodes": nodes, "edges": edges},
            "questions": quality,
            "provenance": PROVENANCE,
        },
        "iqa_answers": {
            **common,
            "answers": judged,
            "score": sum(answer["score"] for answer in judged) / len(judged),
            "provenance": PROVENANCE,
        },
    }


def bench_build(arguments: argparse.Namespace, results: Results) -> None:
    """Measure the builder on all pairs, the resume scan of one file, and the baseline on a sample of the pairs."""
    from dyneval.files.store import JsonlStore

    results.table({"": "", "pairs": ",", "wall s": ".1f", "CPU s": ".1f", "peak MiB": ",.0f"})
    pairs = arguments.pairs
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        generate(folder, pairs)
        few = min(arguments.baseline_pairs, pairs)
        split_files(folder, few)
        for check, name in ((True, "baseline"), (False, "baseline, unchecked")):
            half, whole = (alone(build_plainly, folder / "small", count, check) for count in (few // 2, few))
            # The baseline keeps every sample in memory: what the second half of the pairs took is taken once for every
            # further half. To extrapolate the peak itself would count the interpreter's memory many times.
            peak = whole.peak + (whole.peak - half.peak) * (pairs - few) / (few - few // 2)
            share = pairs / few
            results.row(f"{name} (measured on {few:,})", pairs, whole.wall * share, whole.cpu * share, peak)
        shutil.rmtree(folder / "small")
        script = ROOT / "Distill Annotations" / "build_dynevalinstruct.py"
        flags = ["--metadata", folder / "metadata.jsonl", "--annotations", folder, "--output", folder / "instruct"]
        command = [sys.executable, script, *flags, "--check-images", "none", "--workers", arguments.workers]
        runs = [run_command(command) for _ in range(arguments.repeat)]
        figures = [[run.wall for run in runs], [run.cpu for run in runs], [run.peak for run in runs]]
        results.row(f"build_dynevalinstruct.py, {arguments.workers} processes", pairs, *figures)
        version = PROVENANCE["prompt_version"]
        with timed() as scan, JsonlStore(folder / "iqa_answers.jsonl", IQAAnswers, version=version) as store:
            assert len(store.done) == pairs
        results.row("opening a file of them to go on", pairs, scan.wall, scan.cpu, None)


def split_files(folder: Path, pairs: int) -> None:
    """Write `pairs` pairs as the baseline reads them, four small JSON files each, into `folder`/small."""
    small = folder / "small"
    small.mkdir()
    files = {name: iter((folder / f"{name}.jsonl").open()) for name in ("t2ia_answers", "iqa_questions", "iqa_answers")}
    questions = {}
    for line in (folder / "t2ia_questions.jsonl").open():
        questions[json.loads(line)["prompt_id"]] = line
        # Two images a prompt.
        if len(questions) > pairs // 2:
            break
    for number, line in zip(range(pairs), (folder / "metadata.jsonl").open(), strict=False):
        (small / f"{number}.pair.json").write_text(line)
        (small / f"{number}.t2ia_questions.json").write_text(questions[json.loads(line)["prompt_id"]])
        for name, lines in files.items():
            (small / f"{number}.{name}.json").write_text(next(lines))


def build_plainly(folder: Path, pairs: int, check: bool) -> Cost:
    """The baseline: four small JSON files a pair, all samples in a list, checked by pure-Python jsonschema or not.

    It is called in a process of its own, for its peak memory; the start of the interpreter is not in its time.
    """
    from jsonschema import Draft202012Validator

    from dyneval import tokens
    from dyneval.records import InstructSample, json_schema

    with timed() as usage:
        validator = Draft202012Validator(json_schema(InstructSample))
        seen: set[str] = set()
        stages: dict[str, list[Any]] = {"t2ia": [], "iqa": []}

        def add(stage: str, human: str, answer: Any, image: str | None) -> None:
            turns = [{"from": "human", "value": human}, {"from": "gpt", "value": json.dumps(answer)}]
            sample = {"conversations": turns} if image is None else {"image": image, "conversations": turns}
            if check:
                validator.validate(sample)
            stages[stage].append(sample)

        for number in range(pairs):
            pair, t2ia, scored, iqa, judged = (
                json.loads((folder / f"{number}.{name}.json").read_text())
                for name in ("pair", "t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers")
            )
            prompt, image = pair["prompt"], pair["file_name"]
            if pair["prompt_id"] not in seen:
                seen.add(pair["prompt_id"])
                add("t2ia", tokens.t2ia_turn(prompt), t2ia["questions"], None)
            add("iqa", tokens.iqa_turn(), {"scene_graph": iqa["scene_graph"], "questions": iqa["questions"]}, image)
            for stage, answers in (("t2ia", scored["answers"]), ("iqa", judged["answers"])):
                reply = [{key: answer[key] for key in ("question", "score", "reasoning")} for answer in answers]
                asked = [answer["question"] for answer in answers]
                add(stage, tokens.evaluation_turn(prompt, asked), {"answers": reply}, image)
        for stage, samples in stages.items():
            (folder / f"{stage}.out").write_text(json.dumps(samples, indent=2))
    return usage
