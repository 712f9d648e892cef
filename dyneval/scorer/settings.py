"""What can be set about scoring, and the limits that a reply is held to. Light: imported by `--help`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from dyneval.tokens import DEFAULT_TEMPLATE, TEMPLATE_VERSIONS, TemplateVersion

Mode = Literal["full", "fast", "t2ia-only", "iqa-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
Mean = Literal["arithmetic", "geometric"]
MEANS: tuple[Mean, ...] = get_args(Mean)
BatchLimit = int | Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyLimits:
    """Upper bounds written into the grammar, so that a model that never closes a list or a string still ends.

    All are at least 1. The defaults leave room: images of 16-20 objects get 67 quality questions on average.
    """

    questions: int = 160
    nodes: int = 64
    edges: int = 128
    attributes: int = 16
    question_chars: int = 300
    label_chars: int = 80
    reasoning_chars: int = 800

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"limit {name} is {value}, expected at least 1")

    def capped(self, items: int | None = None, chars: int | None = None) -> Self:
        """The same limits with every count at most `items` and every text length at most `chars`."""
        caps = {name: chars if name.endswith("_chars") else items for name in asdict(self)}
        return type(self)(**{name: min(value, caps[name] or value) for name, value in asdict(self).items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    """How pairs are scored; kept in every ScoreRecord.

    Attributes:
        mode: "full"; "fast" leaves the reasoning out of the evaluations; "t2ia-only" and "iqa-only" give one half.
        mean: how the scores of a half's questions become its score; "geometric" lets one failed question weigh more.
        template: version of the human turns, see `dyneval.tokens`.
        alpha: weight of IQA in the overall score, 0-1.
        beta: weight of T2IA in the overall score; alpha + beta = 1, so that overall stays within 1-5.
        max_new_tokens: limit on one reply; a reply that reaches it is an error of its pair.
        max_prompt_tokens: limit on one prompt; prompts are never truncated, a longer one is an error of its pair.
        batch_size: pairs scored together, or "auto": what fits into the GPU, 8 on a CPU. Scores do not depend on it.
        limits: bounds of the replies' lists and texts.
    """

    mode: Mode = "full"
    mean: Mean = "arithmetic"
    template: TemplateVersion = DEFAULT_TEMPLATE
    alpha: float = 0.5
    beta: float = 0.5
    max_new_tokens: int = 8192
    max_prompt_tokens: int = 4096
    batch_size: BatchLimit = "auto"
    limits: ReplyLimits = field(default_factory=ReplyLimits)

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("mean", MEANS), ("template", TEMPLATE_VERSIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown, expected one of {', '.join(known)}")
        if min(self.alpha, self.beta) < 0 or abs(self.alpha + self.beta - 1) > 1e-6:
            raise ValueError(
                f"alpha {self.alpha} and beta {self.beta}: expected two weights of at least 0 that add up to 1"
            )
        for name in ("max_new_tokens", "max_prompt_tokens", "batch_size"):
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")

    def shaping(self) -> dict[str, Any]:
        """The settings that a score depends on; a file of scores holds rows of one such set only."""
        return {name: value for name, value in asdict(self).items() if name not in ("batch_size", "template")}
