"""`dyneval overall`: the teacher's overall score of every pair, alpha * IQA + beta * T2IA, as JSON or CSV.

The scores are computed from the answers, not taken from a file of scores. A pair that lacks the answers of a part, or
has bad ones, gets no score and is listed with the reason; half a score would shift every mean.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dyneval.errors import DataFileError, SettingError
from dyneval.files.atomic import atomic_write, write_json
from dyneval.files.pairs import read_pairs
from dyneval.instruct.annotations import Annotations
from dyneval.records import PairRecord, normalised_score
from dyneval.structs import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class OverallConfig:
    """Where the scores come from, how they are weighed, where they go.

    Attributes:
        metadata: metadata.jsonl of the pairs.
        annotations: folder of the annotation files.
        output: ends in .json or .csv; beside a CSV the missing pairs are listed in `<stem>.missing.csv`.
        alpha: weight of image quality, 0-1.
        beta: weight of alignment, 0-1; both sum to 1, so that the overall score is on 1-5 too.
    """

    metadata: Path
    annotations: Path
    output: Path
    alpha: float = 0.5
    beta: float = 0.5

    def __post_init__(self) -> None:
        # Decimal weights such as 0.7 and 0.3 need not sum to exactly 1 in binary.
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
        for pair in read_pairs(
            config.metadata, PairRecord, lambda row: missing.append({"pair_id": row.key, "reason": row.reason})
        ):
            item = annotations.of(pair)
            t2ia, iqa = item.t2ia, item.iqa
            if t2ia is None or iqa is None:
                reasons = [one.reason for one in item.problems if one.workflow in ("t2ia_answers", "iqa_answers")]
                reason = "; ".join(reasons) or "its IQA answers have no score and are neither correct nor wrong"
                missing.append({"pair_id": pair.pair_id, "reason": reason})
                continue
            overall = config.alpha * iqa + config.beta * t2ia
            scores.append(
                {
                    "pair_id": pair.pair_id,
                    "prompt_id": pair.prompt_id,
                    "generation_model": pair.generation_model,
                    "tier": pair.tier,
                    "t2ia": round(t2ia, 4),
                    "iqa": round(iqa, 4),
                    "overall": round(overall, 4),
                    "normalised_overall": round(normalised_score(overall), 4),
                }
            )
    if not scores:
        raise DataFileError(f"{config.annotations}: no pair has T2IA and IQA answers ({len(missing)} lack them)")
    summary = {
        "alpha": config.alpha,
        "beta": config.beta,
        "pairs": len(scores),
        "missing": len(missing),
        "mean": {name: round(sum(row[name] for row in scores) / len(scores), 4) for name in ("t2ia", "iqa", "overall")},
    }
    if config.output.suffix == ".json":
        write_json(config.output, {**summary, "scores": scores, "missing_pairs": missing})
    else:
        # Missing pairs have a file of their own, so that each line of the table of scores has scores.
        for path, fields, rows in (
            (config.output, list(scores[0]), scores),
            (config.output.with_suffix(".missing.csv"), ["pair_id", "reason"], missing),
        ):
            with atomic_write(path) as file:
                writer: csv.DictWriter[str] = csv.DictWriter(file, fields, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    return summary
