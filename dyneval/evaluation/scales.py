"""Every rating of a benchmark against every part of a score: does T2IA go with alignment, and IQA with quality?

RichHF has four ratings of an image, EvalMi and AGIQA-3K one of alignment and one of quality. If IQA agreed with
alignment better than T2IA does, the two parts would not measure what they are named for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, load
from dyneval.evaluation.bootstrap import ONE_PROMPT
from dyneval.evaluation.correlation import agreement
from dyneval.evaluation.scores import ScoreTable, align, is_record, read_scores
from dyneval.evaluation.tables import Table, estimate
from dyneval.files.tables import rows

ALL = "all"
"""In place of the name of a rating."""
PARTS = ("t2ia", "iqa", "overall")
_DASH = "–"


def scales_table(
    benchmark: Benchmark,
    annotations: Path,
    scores: Sequence[tuple[str, Path]],
    field: str = "overall",
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Table:
    """One row for each rating and evaluator: SRCC and PLCC of its T2IA, its IQA and its overall score.

    A table that has one score alone, in the column `score` or `field`, is shown under overall.

    Args:
        benchmark: each of its fields that is no preference gets rows.
        annotations: its file or folder; it is read once for each of them.
        scores: names of evaluators, each with its file.
        field: column of a table that is no file of ScoreRecords.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Raises:
        LayoutError, DataFileError, RatingError: an input cannot be used.
    """
    tables = {name: _parts(name, path, field) for name, path in scores}
    body = []
    is_of_one_prompt = False
    for rating, scale in benchmark.fields.items():
        # Preferences order images within a group; a correlation over all images would mean nothing.
        if scale.is_preference:
            continue
        items = load(benchmark, annotations, rating).items
        ratings, prompts = [item.rating for item in items], [item.cluster for item in items]
        for name, parts in tables.items():
            found = {
                part: agreement(align(items, table), ratings, prompts, resamples=resamples, seed=seed, pairs=False)
                for part, table in parts.items()
            }
            cells = [estimate(found[part].srcc) if part in found else _DASH for part in PARTS]
            cells += [estimate(found[part].plcc) if part in found else _DASH for part in PARTS]
            # A part may be missing in some rows; the row of the table counts the images that any part has.
            images = max(one.items for one in found.values())
            is_of_one_prompt |= any(one.srcc.reason == ONE_PROMPT for one in found.values())
            body.append([rating, name, f"{images:,}", *cells])
    headings = ["rating", "evaluator", "images"]
    headings += [f"{measure} {part}" for measure in ("SRCC", "PLCC") for part in ("T2IA", "IQA", "overall")]
    return Table(headings, body, (ONE_PROMPT,) if is_of_one_prompt else ())


def _parts(name: str, path: Path, field: str) -> dict[str, ScoreTable]:
    """The parts of an evaluator's score that its file holds."""
    first = next(rows(path), {})
    # A record of which one part was scored has no overall score.
    held = {part: part for part in PARTS if part in first}
    if not is_record(first) and field not in held:
        held.setdefault("overall", field)
    return {part: read_scores(path, column, name) for part, column in held.items()}
