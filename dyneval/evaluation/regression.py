"""Has a T2I model become worse? Scores of a new run are compared with those of an earlier run of the same prompts.

`dyneval check` fails a build on the answer, so a drop must be both large enough and no chance. Means over prompts are
compared, and the bootstrap draws prompts: an image of one run has no partner in the other, but its prompt has. Scores
of 1-5 are compared as 0-1 (`normalised`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dyneval.errors import DataFileError, SettingError
from dyneval.evaluation.bootstrap import Estimate, mean_resamples
from dyneval.evaluation.scores import other_settings, read_records, refuse_other_field, score_of
from dyneval.evaluation.spelling import alike_prompt
from dyneval.evaluation.tables import Table, estimate, p_value

ALL = "all prompts"
LEVEL = 0.05
"""A drop counts where its p-value is below; those of groups are corrected for their number (Holm 1979)."""


@dataclass(frozen=True, slots=True)
class Change:
    """Mean of the new scores minus that of the old ones over the prompts of a group.

    Attributes:
        group: its name, or `ALL`.
        prompts: that both runs scored.
        before: mean of the baseline, 0-1.
        after: mean of the new scores, 0-1.
        change: after minus before, with its 95 % interval.
        p: one-sided: how likely as great a drop is without one.
        is_drop: the drop is more than was allowed, and no chance.
    """

    group: str
    prompts: int
    before: float
    after: float
    change: Estimate
    p: float
    is_drop: bool


@dataclass(frozen=True, slots=True)
class Regression:
    """Changes of all prompts and of groups.

    Attributes:
        changes: of all prompts first, then of the groups by name.
        missing: prompts of the baseline without a new score.
        added: how many prompts only the new run has.
        alone: groups of one prompt, of which nothing can be said.
    """

    changes: list[Change]
    missing: list[str]
    added: int
    alone: list[str]

    @property
    def is_worse(self) -> bool:
        """Whether any group dropped."""
        return any(change.is_drop for change in self.changes)


def compare_runs(
    scores: Path,
    baseline: Path,
    *,
    max_drop: float = 0.02,
    score: str = "overall",
    groups: Mapping[str, tuple[str, ...]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Regression:
    """Compare two runs' records.

    Args:
        scores: the new run's ScoreRecords.
        baseline: those of the run before.
        max_drop: of a mean, on the scale 0-1; a smaller one is no failure however sure it is.
        score: one of `dyneval.evaluation.scores.FIELDS`.
        groups: prompt -> groups that are looked at by themselves as well.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Raises:
        SettingError: the runs share no prompt, were not scored alike, or a value is off its range.
        SchemaError, DataFileError: a file holds no score records.
    """
    refuse_other_field(score)
    if not 0 <= max_drop < 1:
        raise SettingError(f"--max-drop {max_drop}: expected a part of the scale 0-1, such as 0.02")
    # One dictionary for both files: the runs must agree with each other and not only within themselves.
    seen: dict[str, object] = {}
    before, after = _by_prompt(baseline, score, seen), _by_prompt(scores, score, seen)
    shared = sorted(before.keys() & after.keys())
    if len(shared) < 2:
        raise SettingError(
            f"{scores} and {baseline} have {len(shared) or 'no'} prompt in common; "
            "they must be scores of the same prompts, two or more"
        )
    members: dict[str, list[str]] = {}
    groups_of = {alike_prompt(prompt): names for prompt, names in (groups or {}).items()}
    for prompt in shared:
        for name in groups_of.get(prompt, ()):
            members.setdefault(name, []).append(prompt)
    # The bootstrap of one prompt says nothing.
    alone = sorted(name for name, prompts in members.items() if len(prompts) < 2)
    members = {name: prompts for name, prompts in sorted(members.items()) if len(prompts) > 1}
    # Holm compares the smallest p with LEVEL / groups, and p is at least 1 / (resamples + 1).
    fewest = math.ceil(max(1, len(members)) / LEVEL)
    if resamples < fewest:
        raise SettingError(
            f"--resamples {resamples}: {fewest} or more are needed to be sure of {len(members) or 1} groups"
        )
    changes = []
    # A list and no dictionary: a group may be called as the whole is.
    for name, prompts in [(ALL, shared), *members.items()]:
        old, new = (np.array([side[prompt] for prompt in prompts], np.float64) for side in (before, after))
        drawn = mean_resamples(new - old, resamples, seed)
        # The share of resamples without a drop. One is added: a finite number of resamples never shows p = 0.
        p = float((np.sum(drawn[1:] >= 0) + 1) / len(drawn))
        change = Estimate.from_resamples(drawn, len(prompts))
        changes.append(Change(name, len(prompts), float(old.mean()), float(new.mean()), change, p, is_drop=False))
    # The mean over all prompts is the question that was asked, so it is not corrected for the number of groups.
    whole, *of_groups = changes
    sure = _holm({one.group: one.p for one in of_groups})
    changes = [
        replace(one, is_drop=is_sure and one.before - one.after > max_drop)
        for one, is_sure in [(whole, whole.p < LEVEL), *((one, one.group in sure) for one in of_groups)]
    ]
    return Regression(changes, sorted(before.keys() - after.keys()), len(after.keys() - before.keys()), alone)


def _by_prompt(path: Path, score: str, seen: dict[str, object]) -> dict[str, float]:
    """Mean score of each prompt, 0-1; `seen` holds the judge and settings of the records before."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in read_records(path):
        judge = {"model": record.revision or record.model, "template": record.template}
        if other := other_settings(seen, judge | dict(record.settings or {})):
            raise SettingError(f"{path}: the two runs were scored with {other}; score both alike")
        value = score_of(record, score)
        if value is None:
            raise SettingError(f"{path}: {record.pair_id} has no score {score}; choose another with --score")
        found[alike_prompt(record.prompt)].append((value - 1) / 4)
    if not found:
        raise DataFileError(f"{path}: holds no scores")
    return {prompt: sum(values) / len(values) for prompt, values in found.items()}


def _holm(values: Mapping[str, float]) -> set[str]:
    """The names whose p-value is below `LEVEL` by Holm's step-down procedure."""
    ordered = sorted((p, name) for name, p in values.items())
    sure: set[str] = set()
    for rank, (p, name) in enumerate(ordered):
        if p * (len(ordered) - rank) >= LEVEL:
            break
        sure.add(name)
    return sure


def table(found: Regression, max_drop: float) -> Table:
    """One row a group, the whole first."""
    rows = [
        [
            one.group,
            str(one.prompts),
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            estimate(one.change),
            p_value(one.p),
            "DROP" if one.is_drop else "",
        ]
        for one in found.changes
    ]
    notes = [f"a drop of more than {max_drop:g} on the scale 0-1 with p < {LEVEL:g} (Holm) is marked"]
    if found.missing:
        notes.append(
            f"{len(found.missing)} prompts of the baseline have no new score, such as {found.missing[0][:60]!r}"
        )
    if found.alone:
        notes.append(f"{len(found.alone)} groups have one prompt and are not tested, such as {found.alone[0]}")
    if found.added:
        notes.append(f"{found.added} prompts are new and not compared")
    return Table(["group", "prompts", "baseline", "now", "change", "p", "verdict"], rows, tuple(notes))
