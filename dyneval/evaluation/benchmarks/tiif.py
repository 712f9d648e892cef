"""TIIF-Bench (Wei et al. 2025, arXiv 2506.02161): prompts short and long, yes/no questions with target answers.

Source: https://github.com/A113N-W3I/TIIF-Bench: `data/test_prompts/*.jsonl`, `data/test_eval_prompts/*.jsonl` with the
questions of the same lines, and the answers of a judge that it releases, `eval-results/*/*_<judge>/<model>/<type>/
<short|long>/<line>.json` with `questions`, `gt_answers` and `model_pred`; the rating is the share that equals the
target. The number of an answer counts the lines of test_prompts from 0, though the released answers are called those of
the "testmini subset": beside testmini_prompts many would get another prompt, so the questions are compared.
People's answers are expected in that same form. No file of human ratings of TIIF-Bench was found in public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage
from dyneval.files import tables
from dyneval.files.atomic import read_json

# Names of the folders: where the user laid them beside the answers, and in a clone of the repository.
_PROMPTS = ("prompts", "data/test_prompts")
_QUESTIONS = ("eval_prompts", "data/test_eval_prompts")


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of a folder of answers; the folders of prompts lie in it or in one above it."""
    prompt_folder, folder = _above(path, _PROMPTS), _above(path, _QUESTIONS)
    if prompt_folder is None:
        raise LookupError(f"neither {path} nor a folder above it has {' or '.join(_PROMPTS)}")
    prompts = _by_type(prompt_folder)
    questions = _by_type(folder) if folder else {}
    answers = path / "answers" if (path / "answers").is_dir() else path
    for file in sorted(answers.glob("*/*/*/*.json")):
        if not file.stem.isdecimal() or file.parts[-2] not in ("short", "long"):
            continue
        model, kind, length, number = file.parts[-4], file.parts[-3], file.parts[-2], int(file.stem)
        row = read_json(file)
        given, wanted = row["model_pred"], row["gt_answers"]
        if len(given) != len(wanted) or not wanted:
            raise LookupError(f"{file.relative_to(path)} answers {len(given)} of {len(wanted)} questions")
        right = sum(a.strip().lower() == b.strip().lower() for a, b in zip(given, wanted, strict=True))
        prompt = _line(prompts, kind, number, file)
        asked = _line(questions, kind, number, file)["yn_question_list"] if folder else prompt.get("yn_question_list")
        # The number of an answer may count the lines of another edition: its score would then go to another prompt, and
        # nothing would look wrong. Blanks make no difference.
        if asked is not None and [q.split() for q in asked] != [q.split() for q in row["questions"]]:
            raise LookupError(
                f"{file.relative_to(path)} answers other questions than line {number + 1} of {kind} asks; "
                "the prompts have to be those of data/test_prompts, not of data/testmini_prompts"
            )
        yield RatedImage(
            item_id=f"{model}/{kind}/{length}/{number}",
            image=f"{kind}/{model}/{length}_description/{number}.png",
            prompt=prompt[f"{length}_description"],
            ratings=(right / len(wanted),),
            model=model,
            categories=(kind, length),
        )


def _line(rows: dict[str, list[dict[str, Any]]], kind: str, number: int, file: Path) -> dict[str, Any]:
    if kind not in rows:
        raise LookupError(f"there are no prompts of type {kind!r}, only {', '.join(sorted(rows))}")
    if number >= len(rows[kind]):
        raise LookupError(
            f"{file.name} counts lines to {number}, and there are {len(rows[kind])} prompts of type {kind!r}; "
            "the numbers are those of data/test_prompts, not of data/testmini_prompts"
        )
    return rows[kind][number]


def _above(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first of `names` that is a folder in `path` or in one of the four above it, as in a clone."""
    folders = [path, *path.resolve().parents[:4]]
    return next((folder / name for folder in folders for name in names if (folder / name).is_dir()), None)


def _by_type(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each file by the type that its first row names. LookupError: two files have one type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        rows = list(tables.rows(file))
        if rows and rows[0]["type"] in found:
            raise LookupError(f"two files of {folder} hold prompts of type {rows[0]['type']!r}")
        if rows:
            found[rows[0]["type"]] = rows
    return found


BENCHMARK = Benchmark(
    name="tiif-bench",
    title="TIIF-Bench",
    source="https://github.com/A113N-W3I/TIIF-Bench",
    layout="a folder with prompts/*.jsonl ({type, short_description, long_description} a line), eval_prompts/*.jsonl "
    "(their yn_question_list; may be missing) and answers/<model>/<type>/<short|long>/<line>.json ({questions, "
    "gt_answers, model_pred}); or, in a clone, eval-results/*/*_<judge>; images as "
    "<type>/<model>/<short|long>_description/<line>.png",
    size="2,538 prompts; answers of judges",
    fields={"followed": Field("share of questions answered as wanted", 0, 1)},
    read=read,
)
