"""What a demo run showed: `summary.json`, `summary.md` and `summary.html` in its folder, and a table on the terminal.

    $ python -m dyneval.demo.summary shuffle --output output/demo      before scoring: the control's pairs
    $ python -m dyneval.demo.summary show --output output/demo         after it

Everything is about the held-out pairs, whose prompts no training saw. A correlation alone proves little: a student may
go by the prompt, or by luck. So the trained student stands beside two others. The untrained one is the base with the
task tokens; the control is the trained student, shown the picture of another prompt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from msgspec.structs import replace
from tabulate import tabulate

from dyneval.demo.page import write_page
from dyneval.demo.scenes import kept_back
from dyneval.demo.truth import Truth, truth_path
from dyneval.errors import DataFileError, UserError
from dyneval.evaluation.correlation import agreement, spearman
from dyneval.files.atomic import atomic_write, read_json, write_json
from dyneval.files.jsonl import read_jsonl, to_line
from dyneval.records import PairRecord, ScoreName, ScoreRecord
from dyneval.structs import Row

SCORES: tuple[ScoreName, ...] = ("overall", "t2ia", "iqa")
STUDENTS = {"trained": "trained", "untrained": "baseline", "shuffled": "shuffled"}
"""Name of a student here -> stem of its score file."""
STAGES = {"stage 1 (T2IA)": "dyneval_2b_stage1_t2ia", "stage 2 (IQA)": "dyneval_2b_stage2_iqa"}
# A short run (2 x 25 steps) was measured at 0.66, its base at -0.08 (MODEL_CARD.md): these leave room for another seed.
LEARNED, GAINED, FEWEST = 0.5, 0.25, 40
"""What `--check` asks of a short run: the student's overall correlation, its lead over the base, the pairs for it."""
WHAT_IT_IS = (
    "The student starts from a base that has seen this world's pictures and can describe them, but never rated one. "
    "Two stages of Step 4 taught it to judge. It knows the demo's world alone: of a photograph it can say nothing."
)


def true_scores(truth: Truth) -> dict[ScoreName, float]:
    """Return the true scores of a picture, 1-5, by name."""
    return {"overall": 0.5 * (truth.truth_t2ia + truth.truth_iqa), "t2ia": truth.truth_t2ia, "iqa": truth.truth_iqa}


class HeldOutScore(NamedTuple):
    """A held-out pair, what a student said of its picture, and the truth."""

    pair: PairRecord
    record: ScoreRecord
    truth: Truth

    @property
    def true(self) -> dict[ScoreName, float]:
        """The true scores, 1-5."""
        return true_scores(self.truth)

    @property
    def said(self) -> dict[ScoreName, float]:
        """The student's soft scores, 1-5."""
        assert self.record.soft is not None
        return dict(self.record.soft)


# ---------------------------------------------------------------------------
# The control


def shuffle(output: Path, seed: int = 0) -> Path:
    """Write `scores/shuffled_pairs.jsonl`, every held-out pair with the picture of another prompt; returns its path.

    The true scores of a pair's two pictures must not go together, or the control would measure that: both may be by the
    best of the three models. So of a thousand shuffles the one is taken in which they correlate least.
    """
    pairs = [PairRecord.from_dict(row) for row in read_jsonl(output / "instruct" / "heldout.jsonl")]
    true = [true_scores(_truth(output, pair)) for pair in pairs]
    # 2.0 is above every correlation, so the first shuffle that works is taken at least.
    rng, best, least = Random(seed), list(range(len(pairs))), 2.0
    for _ in range(1000):
        order = _mended(rng.sample(range(len(pairs)), len(pairs)), pairs, rng)
        if order is None:
            continue
        together = max(
            abs(spearman([one[score] for one in true], [true[other][score] for other in order])) for score in SCORES
        )
        if together < least:
            best, least = order, together
    path = output / "scores" / "shuffled_pairs.jsonl"
    swapped = (replace(pair, file_name=pairs[other].file_name) for pair, other in zip(pairs, best, strict=True))
    with atomic_write(path, "wb") as file:
        file.writelines(to_line(pair.to_dict()) for pair in swapped)
    return path


def _mended(order: list[int], pairs: Sequence[PairRecord], rng: Random) -> list[int] | None:
    """Return `order` with every pair that kept its own prompt exchanged with another one; None where that failed."""
    # At most twenty tries a pair: with pictures of a single prompt no try can succeed.
    for mine in range(len(order)):
        for _ in range(20):
            if pairs[mine].prompt_id != pairs[order[mine]].prompt_id:
                break
            other = rng.randrange(len(order))
            order[mine], order[other] = order[other], order[mine]
    kept = any(pairs[mine].prompt_id == pairs[other].prompt_id for mine, other in enumerate(order))
    return None if kept else order


# ---------------------------------------------------------------------------
# Figures


def summarise(output: Path, seconds: int | None = None) -> Row:
    """Collect the figures of the five steps of the run in `output`.

    Args:
        output: folder of a finished demo run.
        seconds: duration of the run, if known.

    Returns:
        JSON values, as they are written to summary.json.

    Raises:
        DataFileError: a step left no result; the message names the missing file.
    """
    prompts = read_json(output / "prompts" / "summary.json")
    images = read_json(output / "gendb" / "summary.json")
    annotations = read_json(output / "annotations" / "annotate.summary.json")
    instruct = read_json(output / "instruct" / "summary.json")
    trained = list(read_scored(output, "trained"))
    # Pictures with a kind in a colour that the base never met: a student that learned pictures by heart fails on them.
    unseen = [
        one for one in trained if any(kept_back(group) for group in one.truth.drawn.groups + one.truth.asked.groups)
    ]
    rejects = [output / "scores" / f"{stem}.rejects.jsonl" for stem in STUDENTS.values()]
    logs = {name: read_json(output / "train" / folder / "training_log.json") for name, folder in STAGES.items()}
    return {
        **figures(trained),
        **{name: figures(list(read_scored(output, STUDENTS[name]))) for name in ("untrained", "shuffled")},
        "unseen": figures(unseen),
        "models": rank_models(trained),
        "same_prompt": same_prompt(trained),
        "seconds": seconds,
        "steps": {
            "prompts": {"read": prompts["rows_read"], "kept": prompts["kept"], "dropped": prompts["dropped"]},
            "images": images["made"] + images["existing"],
            "annotated_pairs": annotations["pairs_annotated"],
            "curation_dropped": instruct["dropped"],
            "samples": instruct["samples"],
            "rejects": {
                "images": images["rejected_prompts"],
                "annotations": sum(sum(flow["rejected"].values()) for flow in annotations["workflows"].values()),
                "samples": sum(instruct["rejected"].values()),
                "scores": sum(len(list(read_jsonl(path))) for path in rejects if path.exists()),
            },
        },
        "training": {
            name: {key: log[key] for key in ("steps", "loss_first", "loss_last")} for name, log in logs.items()
        },
    }


def read_scored(output: Path, stem: str) -> Iterator[HeldOutScore]:
    """Yield the held-out pairs of a score file; the truth is that of the pair, also where the picture was another's.

    Args:
        output: folder of the demo run.
        stem: of the file in `scores/`, such as "trained".

    Raises:
        DataFileError: it has scored none.
    """
    pairs = {row["pair_id"]: PairRecord.from_dict(row) for row in read_jsonl(output / "instruct" / "heldout.jsonl")}
    path = output / "scores" / f"{stem}.jsonl"
    rows = list(read_jsonl(path))
    if not rows:
        raise DataFileError(f"{path}: holds no score")
    for row in rows:
        pair = pairs[row["pair_id"]]
        yield HeldOutScore(pair, ScoreRecord.from_dict(row), _truth(output, pair))


def figures(scored: Sequence[HeldOutScore]) -> Row:
    """Return the number of pairs, and of each soft score the Spearman correlation with the truth and its interval.

    The intervals are 95 %, from a bootstrap over prompts: the pictures of one prompt are not independent.
    """
    prompts = [one.pair.prompt_id for one in scored]
    found: dict[ScoreName, list[float | None]] = {}
    for score in SCORES:
        said, true = [one.said[score] for one in scored], [one.true[score] for one in scored]
        srcc = agreement(said, true, prompts, pairs=False).srcc
        found[score] = [None if value is None else round(value, 3) for value in (srcc.value, srcc.low, srcc.high)]
    return {
        "n": len(scored),
        "srcc": {score: values[0] for score, values in found.items()},
        "interval": {score: values[1:] for score, values in found.items()},
    }


def rank_models(scored: Sequence[HeldOutScore]) -> list[Row]:
    """Return the mean overall score of each image model, by the student and in truth, best first by the student."""
    slugs = sorted({one.pair.generation_model for one in scored})
    of = {slug: [one for one in scored if one.pair.generation_model == slug] for slug in slugs}
    rows = [
        {
            "model": slug,
            "n": len(own),
            "score": round(fmean(one.said["overall"] for one in own), 3),
            "truth": round(fmean(one.true["overall"] for one in own), 3),
        }
        for slug, own in of.items()
    ]
    return sorted(rows, key=lambda row: -float(row["score"]))


def ranked_table(models: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of a table of what `rank_models` found."""
    rows = [[row["model"], row["n"], f"{row['score']:.2f}", f"{row['truth']:.2f}"] for row in models]
    return ["model", "pairs", "student", "truth"], rows


def same_prompt(scored: Sequence[HeldOutScore]) -> Row:
    """Return how often the better one of two pictures of a prompt scores higher, of those half a point or more apart.

    This is what a leaderboard needs: the correlation over all pictures may come from easy and hard prompts alone.
    """
    pairs = list(_pairs_of_prompts(scored))
    right = sum(better.said["overall"] > worse.said["overall"] for better, worse in pairs)
    return {"pairs": len(pairs), "right": right}


def _pairs_of_prompts(scored: Sequence[HeldOutScore]) -> Iterator[tuple[HeldOutScore, HeldOutScore]]:
    """Yield two pictures of one prompt, the better one first, where it is better by half a point or more."""
    for better in scored:
        for worse in scored:
            if better.pair.prompt_id == worse.pair.prompt_id and better.true["overall"] >= worse.true["overall"] + 0.5:
                yield better, worse


def example(scored: Sequence[HeldOutScore]) -> tuple[HeldOutScore, HeldOutScore] | None:
    """Return the two pictures of a prompt that differ most, of those that T2IA and IQA both order rightly, or None."""
    found, widest = None, 0.0
    for better, worse in _pairs_of_prompts(scored):
        gap = min(better.true[score] - worse.true[score] for score in ("t2ia", "iqa"))
        if gap > widest and all(better.said[score] > worse.said[score] for score in ("t2ia", "iqa")):
            found, widest = (better, worse), gap
    return found


def _truth(output: Path, pair: PairRecord) -> Truth:
    return Truth.load(truth_path(output / "gendb" / pair.file_name))


# ---------------------------------------------------------------------------
# Telling


def tables(summary: Row) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return the tables of a summary by title, each as header and rows."""
    steps, rejects = summary["steps"], summary["steps"]["rejects"]
    students = {
        "fine-tuned": summary,
        "of these, kind and colour new to the base": summary["unseen"],
        "base, before fine-tuning": summary["untrained"],
        "fine-tuned, shown other pictures": summary["shuffled"],
    }
    return {
        "Spearman correlation of soft scores with the truth (95 % interval)": (
            ["student", "pairs", "overall", "T2IA", "IQA"],
            [[name, of["n"], *(_cell(of, score) for score in SCORES)] for name, of in students.items()],
        ),
        "Image models by the student, overall": ranked_table(summary["models"]),
        "What the steps did": (
            ["step", "result", "left out; loss"],
            [
                ["1 filter prompts", f"{steps['prompts']['kept']} prompts", sum(steps["prompts"]["dropped"].values())],
                ["2 generate images", f"{steps['images']} images", rejects["images"]],
                ["3 annotate", f"{steps['annotated_pairs']} pairs", rejects["annotations"]],
                [
                    "3 build",
                    f"{sum(steps['samples'].values())} samples",
                    sum(steps["curation_dropped"].values()) + rejects["samples"],
                ],
                *(
                    [f"4 {name}", f"{log['steps']} steps", f"{log['loss_first']:.2f} to {log['loss_last']:.2f}"]
                    for name, log in summary["training"].items()
                ),
                ["5 score", f"{summary['n']} held-out pairs, three times", rejects["scores"]],
            ],
        ),
    }


def _cell(of: Row, score: ScoreName) -> str:
    value, (low, high) = of["srcc"][score], of["interval"][score]
    if value is None:
        return "undefined"
    return f"{value:.2f}" if low is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def to_markdown(summary: Row, commands: Sequence[str]) -> str:
    """Return the summary as a page of text."""
    two = summary["same_prompt"]
    parts = ["# DynEval demo", WHAT_IT_IS]
    for title, (header, rows) in tables(summary).items():
        parts += [f"## {title}", tabulate(rows, header, tablefmt="github", disable_numparse=True)]
        if title.startswith("Image models"):
            parts.append(
                f"Of {two['pairs']} pairs of pictures of one prompt, the better one scored higher in {two['right']}."
            )
    if summary["seconds"] is not None:
        parts.append(f"All in {summary['seconds']} seconds.")
    parts += ["Next:", "\n".join(f"    {command}" for command in commands)]
    return "\n\n".join(parts)


def next_commands(output: Path) -> list[str]:
    """Return commands to try with the student of a run."""
    student, gendb = output / "train" / STAGES["stage 2 (IQA)"], output / "gendb"
    return [
        f"dyneval serve --checkpoint {student}",
        f'dyneval score YOUR.png --prompt "a red cat on a beach" --checkpoint {student}',
        f"dyneval leaderboard {output / 'scores' / 'trained.jsonl'} --metadata {gendb} --images {gendb} "
        f"--output {output / 'board'}",
    ]


def check(summary: Row) -> str | None:
    """Return what is wrong with what a short run taught its student; None where it learned."""
    trained, untrained, pairs = summary["srcc"]["overall"], summary["untrained"]["srcc"]["overall"] or 0.0, summary["n"]
    if pairs < FEWEST:
        return f"only {pairs} held-out pairs were scored, expected {FEWEST} or more"
    if trained is None or trained < LEARNED or trained < untrained + GAINED:
        return (
            f"the student did not learn to judge: its overall scores correlate {trained} with the truth, the base's "
            f"{untrained}; expected {LEARNED} or more, and {GAINED} more than the base's"
        )
    return None


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Summarise a demo run.")
    parser.add_argument("what", choices=("shuffle", "show"))
    parser.add_argument("--output", type=Path, required=True, help="folder of the demo run")
    parser.add_argument("--seconds", type=int, help="duration of the run")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless the student learned to judge")
    arguments = parser.parse_args()
    output: Path = arguments.output
    try:
        if arguments.what == "shuffle":
            shuffle(output)
            return 0
        summary = summarise(output, arguments.seconds)
        write_json(output / "summary.json", summary)
        told = to_markdown(summary, next_commands(output))
        with atomic_write(output / "summary.md") as file:
            file.write(told + "\n")
        trained = list(read_scored(output, "trained"))
        losses = [list(read_jsonl(output / "train" / folder / "train_log.jsonl")) for folder in STAGES.values()]
        write_page(
            output / "summary.html",
            lead=WHAT_IT_IS,
            tables=tables(summary),
            scatter=[(one.true["overall"], one.said["overall"], one.pair.generation_model) for one in trained],
            losses=dict(zip(STAGES, losses, strict=True)),
            example=[(one.record, one.truth, output / "gendb" / one.pair.file_name) for one in example(trained) or ()],
            commands=next_commands(output),
        )
    except (UserError, OSError) as error:
        raise SystemExit(f"summary: {error}; did all five steps run?") from error
    sys.stdout.write(f"{told}\n\nTo look at: {output / 'summary.html'}\n")
    problem = check(summary) if arguments.check else None
    if problem:
        sys.stderr.write(f"summary: {problem}\n")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main())
