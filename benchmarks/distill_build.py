"""The build part of benchmarks/distill.py: generated annotations, the builder, the baseline, their time and memory.

python benchmarks/distill_build.py FOLDER PAIRS [--unchecked]    (the baseline alone, as the benchmark runs it)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dyneval.records import IQAAnswers, pair_id, prompt_id

ROOT = Path(__file__).parents[1]
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


def bench_build(args: argparse.Namespace) -> dict[str, Any]:
    """The builder on all pairs, the resume scan of one file, and the baseline on a sample of the pairs."""
    from dyneval.files.store import JsonlStore

    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        generate(folder, args.pairs)
        seconds, memory, cpu = measured([*build_command(folder), "--workers", str(args.workers)])
        path = folder / "iqa_answers.jsonl"

        def scan() -> None:
            with JsonlStore(path, IQAAnswers, version=PROVENANCE["prompt_version"]) as store:
                assert len(store.done) == args.pairs

        resume = timed(scan)
        gigabytes = sum(file.stat().st_size for file in folder.glob("*.jsonl")) / 1e9
        few = min(args.baseline_pairs, args.pairs)
        slow = [baseline(folder, few // 2), baseline(folder, few)]
        unchecked = baseline(folder, few, check=False)
    growth = (slow[1][1] - slow[0][1]) / (few - few // 2)  # bytes a pair
    return {
        "pairs": args.pairs,
        "annotations_gb": round(gigabytes, 2),
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "build_peak_mib": round(memory / 2**20),
        "workers": args.workers,
        "resume_scan_s": round(resume, 2),
        "baseline_pairs": few,
        "baseline_s": round(slow[1][0], 1),
        "baseline_cpu_s_for_all_pairs": round(slow[1][2] / few * args.pairs, 1),
        "baseline_s_for_all_pairs": round(slow[1][0] / few * args.pairs, 1),
        "baseline_unchecked_s_for_all_pairs": round(unchecked[0] / few * args.pairs, 1),
        "baseline_peak_mib_for_all_pairs": round((slow[1][1] + growth * (args.pairs - few)) / 2**20),
        "times_faster": round(slow[1][0] / few * args.pairs / seconds, 1),
    }


def build_command(folder: Path) -> list[str]:
    """The door on the files of `folder`, without looking for images."""
    door = str(ROOT / "Distill Annotations" / "build_dynevalinstruct.py")
    flags = ["--metadata", folder / "metadata.jsonl", "--annotations", folder, "--output", folder / "instruct"]
    return [sys.executable, door, *map(str, flags), "--check-images", "none"]


def baseline(folder: Path, pairs: int, check: bool = True) -> tuple[float, int, float]:
    """What the plain way takes in a process of its own, from files that are there already."""
    small = folder / "small"
    small.mkdir()
    files = {name: iter((folder / f"{name}.jsonl").open()) for name in ("t2ia_answers", "iqa_questions", "iqa_answers")}
    questions = {}
    for line in (folder / "t2ia_questions.jsonl").open():
        row = json.loads(line)
        questions[row["prompt_id"]] = line
        if len(questions) > pairs // 2:
            break
    for number, line in zip(range(pairs), (folder / "metadata.jsonl").open(), strict=False):
        row = json.loads(line)
        (small / f"{number}.pair.json").write_text(line)
        (small / f"{number}.t2ia_questions.json").write_text(questions[row["prompt_id"]])
        for name, lines in files.items():
            (small / f"{number}.{name}.json").write_text(next(lines))
    try:
        return measured([sys.executable, __file__, str(small), str(pairs), *([] if check else ["--unchecked"])])
    finally:
        shutil.rmtree(small)


def plain(folder: Path, pairs: int, check: bool) -> None:
    """Four small JSON files a pair, every sample in one list, checked with pure-Python jsonschema or not at all."""
    from jsonschema import Draft202012Validator

    from dyneval import tokens
    from dyneval.records import InstructSample, json_schema

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


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measured(command: list[str], folder: Path | None = None, quiet: bool = False) -> tuple[float, int, float]:
    """Seconds, peak bytes and CPU seconds of a command and its children; pages that they share count once.

    `folder`: the working folder; `quiet`: nothing that it writes to stderr is shown.
    """
    errors = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.2):
            peak = max(peak, sum(memory_of(pid) for pid in family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status = process.wait()
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    over.set()
    watcher.join()
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    return seconds, peak, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in family(int(child)))]


def memory_of(pid: int) -> int:
    """Proportional set size in bytes, 0 when the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    plain(Path(sys.argv[1]), int(sys.argv[2]), check="--unchecked" not in sys.argv)
