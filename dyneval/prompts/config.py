"""Everything that decides what Step 1 writes.

The command line fills `FilterConfig`, the run reads it, and summary.json keeps it; two runs of one configuration on the
same inputs write the same files. What a setting may be is checked here, before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dyneval.errors import SettingError, without_secrets
from dyneval.prompts import complexity, dedup, selection
from dyneval.prompts.clean import Limits

Json = dict[str, Any]
"""An object as it stands in a JSON file."""
LabellerName = Literal["rules", "llm", "none"]
LABELLERS: tuple[LabellerName, ...] = ("rules", "llm", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmConfig:
    """The language model that labels, where one does."""

    engine: str = "openai"
    """As dyneval.llm.registry.make_engine takes it."""
    model: str = "Qwen/Qwen3-VL-4B-Instruct"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the engine, such as base_urls."""
    concurrency: int = 64
    """Requests in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """Configuration of one run; saved in summary.json."""

    inputs: tuple[str, ...]
    """Files, globs, folders or Hugging Face dataset ids."""
    output: Path
    column: str = "prompt"
    """Column or key that holds the prompt."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    limits: Limits = field(default_factory=Limits)
    filters: tuple[str, ...] = ()
    """Filters beside the limits, NAME[=VALUE] as `filters.parse` takes them; they see a prompt in this order."""
    dedup: float | None = dedup.DEFAULT_THRESHOLD
    """Jaccard similarity from which prompts are near-duplicates; None keeps near-duplicates."""
    exclude: tuple[str, ...] = ()
    """Benchmark prompts that no kept prompt may be near to: files, globs, folders or dataset ids."""
    exclude_column: str | None = None
    """Column or key that holds the prompt in exclusion files; None means the same as `column`."""
    labeller: LabellerName = "rules"
    """Who assigns categories. The model labels what is kept at the end; selection goes by the rules even then."""
    llm: LlmConfig = field(default_factory=LlmConfig)
    tiering: complexity.TierMode = "threshold"
    tau_1: float = complexity.TAU_1
    tau_2: float = complexity.TAU_2
    count: int | None = None
    """How many prompts to select; None keeps all."""
    balance: tuple[selection.Balance, ...] = selection.BALANCES
    """What a selection is spread over evenly."""
    seed: int = 42
    jsonl: bool = False
    write_dropped: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.dedup is not None:
            dedup.bands_for(self.dedup)  # raises SettingError for a threshold that no bands can find
        if self.tau_1 <= self.tau_2:
            raise SettingError(f"tau_1 = {self.tau_1:g} has to be above tau_2 = {self.tau_2:g}")
        if self.count is not None and self.count < 1:
            raise SettingError(f"count = {self.count}: select at least one prompt, or leave it out to keep all")
        if self.count is not None and "category" in self.balance and self.labeller == "none":
            raise SettingError("a selection balanced by category needs categories; balance by tier only, or label")
        if unknown := set(self.balance) - set(selection.BALANCES):
            raise SettingError(f"balance: {', '.join(sorted(unknown))}: expected {', '.join(selection.BALANCES)}")

    def to_dict(self) -> Json:
        """The configuration as it stands in summary.json."""
        options = dict(self.llm.options)
        if "base_urls" in options:
            # An address may hold a password.
            options["base_urls"] = [without_secrets(url) for url in options["base_urls"]]
        llm = asdict(self.llm) | {"options": options}
        return asdict(self) | {"output": str(self.output), "llm": llm}
