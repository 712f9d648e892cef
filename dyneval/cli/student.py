"""The student of a verb: the flags that say which one scores, and how, and what loads it.

All verbs that score have these flags from here, so that a student is named alike everywhere, and none of them imports
torch before a student is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval.checkpoints.names import DEFAULT, NAMES
from dyneval.flags import Parser, add_flags, arg
from dyneval.registry import EngineChoice
from dyneval.replies import ReplyLimits
from dyneval.scorer.settings import ScorerSettings
from dyneval.scorer.students.registry import STUDENTS

if TYPE_CHECKING:
    from dyneval.cli.score_first import StudentConfig
    from dyneval.scorer import Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentOptions:
    """Which student scores, and how."""

    checkpoint: Annotated[
        str | None, arg(f"{', '.join(NAMES)}, a checkpoint folder, or a Hub repository (@revision)")
    ] = None
    subfolder: Annotated[str | None, arg("folder of the student inside the checkpoint")] = None
    engine: Annotated[EngineChoice, arg("what computes", part=STUDENTS)] = STUDENTS.default
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"] | None, arg("default: bfloat16 on a GPU, float32 on the CPU")
    ] = None
    min_pixels: Annotated[int | None, arg("smallest image area; default: the checkpoint's")] = None
    max_pixels: Annotated[int | None, arg("largest image area; default: the checkpoint's")] = None
    settings: Annotated[ScorerSettings, arg("", heading="scoring")] = field(default_factory=ScorerSettings)
    questions: Annotated[
        Path | None, arg("JSONL with T2IA questions of prompts; the student is asked for those of others")
    ] = None
    max_questions: Annotated[
        int | None, arg("cap on questions, objects and relations in a reply; default: none", ge=1)
    ] = None
    max_text: Annotated[int | None, arg("cap on the characters of each text in a reply; default: none", ge=1)] = None

    # A wrong option of an engine is a wrong command line, not an error of the run.
    def __post_init__(self) -> None:
        STUDENTS.options(self.engine.name, **self.engine.options)

    def loader(self) -> Callable[..., Scorer]:
        """What loads the student, on the device that it is given, if any; before, nothing heavy is imported."""
        return partial(_load, self)

    def named(self) -> StudentConfig | None:
        """The student, for a verb that can do without; None without --checkpoint."""
        from dyneval.cli.score_first import StudentConfig

        if self.checkpoint is None:
            return None
        return StudentConfig(Path(self.subfolder or self.checkpoint).name, self.loader())


def student_flags() -> list[str]:
    """Names, in what is parsed, of all flags that say which student scores and how."""
    parser = Parser(add_help=False, config=False)
    add_flags(parser, StudentOptions)
    return [action.dest for action in parser._actions]


def _load(options: StudentOptions, device: str | None = None) -> Scorer:
    from dyneval.scorer import Scorer
    from dyneval.scorer.run import read_questions

    # Read before the student is loaded: a wrong file is told at once.
    given = read_questions(options.questions) if options.questions else {}
    scorer = Scorer.from_pretrained(
        DEFAULT if options.checkpoint is None else options.checkpoint,
        options.subfolder,
        engine=options.engine.name,
        dtype=options.dtype,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        settings=replace(options.settings, limits=ReplyLimits().capped(options.max_questions, options.max_text)),
        **dict(options.engine.options) | ({} if device is None else {"device": device}),
    )
    scorer.give_questions(given)
    return scorer
