"""Everything that decides what Step 1 writes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dyneval.prompts import dedup, tiers
from dyneval.prompts.clean import Limits


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """Configuration of one run; saved in summary.json."""

    inputs: tuple[str, ...]
    """Files, globs, folders or Hugging Face dataset ids."""
    output: Path
    column: str = "prompt"
    """Column or key that holds the prompt, in inputs and exclusion files."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    limits: Limits = field(default_factory=Limits)
    dedup: float | None = dedup.DEFAULT_THRESHOLD
    """Jaccard similarity from which prompts are near-duplicates; None keeps near-duplicates."""
    exclude: tuple[str, ...] = ()
    """Benchmark prompts that no kept prompt may be near to: files, globs, folders or dataset ids."""
    label: bool = True
    """Whether to assign categories."""
    tiering: tiers.TierMode = "threshold"
    tau_1: float = tiers.TAU_1
    tau_2: float = tiers.TAU_2
    seed: int = 42
    jsonl: bool = False
    write_dropped: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.dedup is not None:
            dedup.bands_for(self.dedup)
        if self.tau_1 <= self.tau_2:
            raise ValueError(f"tau_1 = {self.tau_1:g} has to be above tau_2 = {self.tau_2:g}")

    @property
    def near(self) -> float:
        """Similarity from which a prompt is taken out because of an exclusion file."""
        return self.dedup or dedup.DEFAULT_THRESHOLD

    def to_dict(self) -> dict[str, Any]:
        """The configuration as it stands in summary.json."""
        return asdict(self) | {"output": str(self.output)}
