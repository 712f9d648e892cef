"""Overall score of every pair that is scored on both parts: alpha * IQA + beta * T2IA, as JSON or CSV.

The answers decide; pairs that lack them, or have bad ones, are listed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dyneval.errors import DataFileError, SettingError
from dyneval.files.atomic import atomic_write, write_json
from dyneval.files.pairs import read_pairs
from dyneval.instruct.annotations import AnnotatedPair, Annotations
from dyneval.records import PairRecord, Reject, normalised_score
from dyneval.structs import Row

_FIELDS = ("pair_id", "prompt_id", "generation_model", "tier", "t2ia", "iqa", "overall", "normalised_overall")


@dataclass(frozen=True, kw_only=True, slots=True)
class OverallConfig:
    """Where the scores come from, how they are weighed, where they go.

    `alpha` weighs image quality, `beta` alignment; together they are 1, so that the overall score is on 1-5 too.
    `output` ends in .json or .csv; beside a CSV the missing pairs are listed in `<stem>.missing.csv`.
    """

    metadata: Path
    annotations: Path
    output: Path
    alpha: float = 0.5
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and self.beta >= 0 and abs(self.alpha + self.beta - 1) <= 1e-9):  # NaN too
            raise SettingError(f"alpha {self.alpha} and beta {self.beta}: expected weights from 0 to 1 that sum to 1")
        if self.output.suffix not in (".json", ".csv"):
            raise SettingError(f"{self.output}: expected a name that ends in .json or .csv")


def compute_overall_scores(config: OverallConfig) -> Row:
    """Write the scores; return counts and means.

    Raises:
        DataFileError: a file is missing, or no pair has both scores (then nothing is written).
    """
    scores: list[Row] = []
    missing: list[dict[str, str]] = []
    with Annotations(config.annotations, config.metadata.parent) as annotations:

        def reject(row: Reject) -> None:
            missing.append({"pair_id": row.key, "reason": row.reason})

        for pair in read_pairs(config.metadata, PairRecord, reject):
            item = annotations.of(pair)
            t2ia, iqa = item.t2ia, item.iqa
            if t2ia is None or iqa is None:
                missing.append({"pair_id": pair.pair_id, "reason": _why(item)})
            else:
                scores.append(_row(config, pair, t2ia, iqa))
    if not scores:
        raise DataFileError(f"{config.annotations}: no pair has T2IA and IQA answers ({len(missing)} lack them)")
    summary = {
        "alpha": config.alpha,
        "beta": config.beta,
        "pairs": len(scores),
        "missing": len(missing),
        "mean": {name: round(sum(row[name] for row in scores) / len(scores), 4) for name in ("t2ia", "iqa", "overall")},
    }
    _write(config.output, summary, scores, missing)
    return summary


def _why(item: AnnotatedPair) -> str:
    """What is in the way of a pair's scores."""
    found = [problem.reason for problem in item.problems if problem.workflow in ("t2ia_answers", "iqa_answers")]
    return "; ".join(found) or "its IQA answers have no score and are neither correct nor wrong"


def _row(config: OverallConfig, pair: PairRecord, t2ia: float, iqa: float) -> Row:
    overall = config.alpha * iqa + config.beta * t2ia
    return {
        "pair_id": pair.pair_id,
        "prompt_id": pair.prompt_id,
        "generation_model": pair.generation_model,
        "tier": pair.tier,
        "t2ia": round(t2ia, 4),
        "iqa": round(iqa, 4),
        "overall": round(overall, 4),
        "normalised_overall": round(normalised_score(overall), 4),
    }


def _write(output: Path, summary: Row, scores: list[Row], missing: list[dict[str, str]]) -> None:
    if output.suffix == ".json":
        write_json(output, {**summary, "scores": scores, "missing_pairs": missing})
        return
    _write_csv(output, _FIELDS, scores)
    _write_csv(output.with_suffix(".missing.csv"), ("pair_id", "reason"), missing)


def _write_csv(path: Path, fields: Sequence[str], rows: Iterable[Row]) -> None:
    with atomic_write(path) as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
