"""The counts of a run, and what is made of them: the progress bar's text and `<run>.summary.json`.

The summary is what a user reads to see whether a run is complete and what it cost, so every pair that a run looked at
must be counted once: as annotated, as finished before, or as rejected with its kind.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dyneval.files.atomic import write_summary
from dyneval.llm.chat import TokenTally
from dyneval.records import RunSummary
from dyneval.structs import Row
from dyneval.teacher.prompts import prompt_version

if TYPE_CHECKING:
    from dyneval.teacher.runner import AnnotateConfig, Files


@dataclass(kw_only=True, slots=True)
class RunCounts:
    """Counts of one run."""

    pairs: int = 0
    """Pairs gone through, finished before or now."""
    annotated: int = 0
    """Pairs that were not finished before."""
    bad_rows: int = 0
    """Rows of the metadata that are no pairs."""
    rejected: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Rejects by workflow and kind: reply, refused, engine, image, dependency."""
    started: float = field(default_factory=time.monotonic)
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def by_kind(self) -> Counter[str]:
        """Rejects by kind over all workflows."""
        return sum(self.rejected.values(), Counter())

    @property
    def seconds(self) -> float:
        """Time since the start, never 0: rates are divided by it."""
        return max(time.monotonic() - self.started, 1e-9)


def postfix(counts: RunCounts, tally: TokenTally) -> str:
    """Return the right end of the progress bar.

    Args:
        counts: for the seconds and the rejects by kind.
        tally: for tokens a second in and out, and replies that were asked for again.
    """
    parts = [
        f"in {tally.prompt_tokens / counts.seconds:.0f} tok/s",
        f"out {tally.completion_tokens / counts.seconds:.0f} tok/s",
    ]
    if unusable := sum(tally.unusable.values()):
        parts.append(f"asked again {unusable}")
    kinds = counts.by_kind()
    # A dependency reject only follows from another one, which is shown.
    parts += [f"{kind} {kinds[kind]}" for kind in ("reply", "refused", "engine", "image") if kinds[kind]]
    return ", ".join(parts)


def summarise(
    counts: RunCounts,
    tally: TokenTally,
    asked: tuple[str, str],
    notes: Sequence[str],
    config: AnnotateConfig,
    files: Files,
) -> Row:
    """Write the numbers of a run to `<run>.summary.json` in the output folder.

    Args:
        counts: pairs and rejects.
        tally: requests and tokens of all workers.
        asked: names of the engine and of the model that gave the answers.
        notes: what the engines found out about their servers.
        config: of the run.
        files: its open files.

    Returns:
        The summary. Of a workflow, "stale" counts rows whose pair has another prompt or image today.
    """
    seconds, stores = counts.seconds, files.stores
    summary: Row = {
        "engine": asked[0],
        "model": asked[1],
        "notes": list(notes),
        "started": counts.started_at,
        "seconds": round(seconds, 3),
        "pairs": counts.pairs,
        "pairs_annotated": counts.annotated,
        "pairs_per_second": round(counts.annotated / seconds, 3),
        "bad_rows": counts.bad_rows,
        "requests": tally.requests,
        "unusable_replies": tally.unusable,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "prompt_tokens_per_second": round(tally.prompt_tokens / seconds, 1),
        "completion_tokens_per_second": round(tally.completion_tokens / seconds, 1),
        "gpu_hours": round(config.gpus * seconds / 3600, 4),
        "workflows": {
            name: {
                "prompt_version": prompt_version(name),
                "written": store.written,
                "in_file": len(store.done),
                "stale": files.stale.counts[name],
                "rejected": dict(counts.rejected.get(name, {})),
            }
            for name, store in stores.items()
        },
    }
    rejected = counts.bad_rows + counts.by_kind().total()
    made = sum(store.written for store in stores.values())
    before = sum(len(store.done) for store in stores.values()) - made
    run = RunSummary(made=made, there_before=max(0, before), rejected=rejected, seconds=round(seconds, 3))
    return write_summary(config.folder / f"{config.name}.summary.json", run, summary)
