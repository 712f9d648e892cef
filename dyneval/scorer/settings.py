"""What can be set about scoring, and the key that says which scores a setting makes.

`dyneval score --help` imports this module to make flags from it, so it imports nothing heavy. A setting that changes
scores must change the key of a record (`score_key`); one that is forgotten there leaves old scores in a file that was
scored again with the new setting, and nobody sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

from dyneval.errors import SettingError
from dyneval.flags import arg
from dyneval.hashing import content_key
from dyneval.replies import REPLY_FORMS, AnyForm, ReplyLimits, as_in_key
from dyneval.tokens import TemplateVersion, prompt_line
from dyneval.work.batches import BatchLimit, batch_limit

Mode = Literal["full", "fast", "t2ia-only", "iqa-only"]
MODES: tuple[Mode, ...] = get_args(Mode)
Mean = Literal["arithmetic", "geometric"]
MEANS: tuple[Mean, ...] = get_args(Mean)
Template = Literal["auto", TemplateVersion]
TEMPLATES: tuple[Template, ...] = get_args(Template)
Form = Literal["auto", AnyForm]
FORMS: tuple[Form, ...] = get_args(Form)

_TRAINED = "auto: as the student was trained, which its checkpoint says or its replies show"
# Counting the tokens of 2 MB takes 8 s, so a prompt is measured in bytes first. Written text has about four a token.
BYTES_A_TOKEN = 16
"""A prompt of more bytes than this for each token that it may have is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    """How pairs are scored, also as flags; kept in every ScoreRecord.

    Attributes:
        mode: "full"; "fast" leaves out the reasons that stand behind a score (of the readme form); "t2ia-only" and
            "iqa-only" give one part.
        mean: how the scores of a part's questions become its score; "geometric" lets one failed question weigh more.
        template: version of the human turns, see `dyneval.tokens`; "auto": the one that the student was trained with.
        reply_form: form of the replies to EVALUATION, see `dyneval.replies`; "auto": the one that the student writes,
            "either": whichever it writes each time.
        alpha: weight of IQA in the overall score, 0-1.
        beta: weight of T2IA in the overall score; alpha + beta = 1, so that overall stays within 1-5.
        max_new_tokens: limit on one reply; a reply that reaches it is an error of its pair.
        max_prompt_tokens: limit on one prompt; prompts are never truncated, a longer one is an error of its pair.
        batch_size: pairs scored together, or "auto": what fits into the GPU, 8 on a CPU. Scores do not depend on it.
        limits: bounds of the replies' lists and texts; by default only `max_new_tokens` bounds them.
    """

    # Defaults are what the published scores were made with: arithmetic means, both parts with half of the weight.
    mode: Annotated[Mode, arg("full; fast: without the reasons that stand behind a score; or one part only")] = "full"
    mean: Annotated[Mean, arg("of a part's question scores")] = "arithmetic"
    template: Annotated[Template, arg(f"human turns; {_TRAINED}")] = "auto"
    reply_form: Annotated[Form, arg(f"evaluations; {_TRAINED}", choices=("auto", *REPLY_FORMS))] = "auto"
    alpha: Annotated[float, arg("weight of IQA in overall")] = 0.5
    beta: Annotated[float, arg("weight of T2IA in overall")] = 0.5
    batch_size: Annotated[BatchLimit, arg("pairs at a time, or auto: as many as fit", parse=batch_limit)] = "auto"
    max_new_tokens: Annotated[int, arg("limit on a reply", ge=1)] = 8192
    max_prompt_tokens: int = 4096
    limits: ReplyLimits = field(default_factory=ReplyLimits)

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("mean", MEANS), ("template", TEMPLATES), ("reply_form", FORMS)):
            if getattr(self, name) not in known:
                raise SettingError(f"{name} {getattr(self, name)!r} is unknown, expected one of {', '.join(known)}")
        # Written so that NaN, which is neither more nor less than anything, is refused too.
        if not (self.alpha >= 0 and self.beta >= 0 and abs(self.alpha + self.beta - 1) <= 1e-6):
            raise SettingError(
                f"alpha {self.alpha} and beta {self.beta}: expected two weights of at least 0 that add up to 1"
            )
        for name in ("max_new_tokens", "max_prompt_tokens", "batch_size"):
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}, expected at least 1")

    def score_settings(self) -> dict[str, Any]:
        """Return the settings that change scores.

        They are part of each record's key, so a pair is scored again when one changes. Batch size is left out, since it
        does not change scores; the template stands in a field of its own.
        """
        chosen = {name: value for name, value in asdict(self).items() if name not in ("batch_size", "template")}
        # Limits that are not set are left out, so that a new one leaves the keys of old scores as they are.
        return chosen | {"limits": {name: most for name, most in chosen["limits"].items() if most is not None}}


def score_key(
    prompt: str,
    image_hash: str,
    weights: str,
    template: str,
    settings: Mapping[str, Any],
    questions: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the name of a score by what it is made from, see `dyneval.hashing.content_key`.

    Args:
        prompt: as the user wrote it.
        image_hash: SHA-256 of the image's file, else of its pixels.
        weights: revision of the student, else its name.
        template: version of the human turns.
        settings: all else that the scores depend on, see `Scorer.score_settings`.
        questions: the T2IA questions that were given for the prompt.
    """
    # A student sees a prompt on one line, so prompts that differ in their line breaks alone have the same score.
    line = prompt_line(prompt)
    student = {"weights": weights, "template": template, **as_in_key(settings)}
    return content_key(prompt if line == prompt.strip() else line, image_hash, student, questions)
