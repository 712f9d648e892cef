"""Flags that every verb with a student takes, and what they become."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.checkpoints.names import DEFAULT, NAMES
from dyneval.flags import Parser
from dyneval.replies import REPLY_FORMS, ReplyLimits
from dyneval.scorer.settings import MEANS, MODES, TEMPLATES, ScorerSettings
from dyneval.scorer.students.registry import STUDENTS
from dyneval.work.batches import BatchLimit

if TYPE_CHECKING:
    from dyneval.cli.score_first import Student
    from dyneval.scorer import Scorer


def add_student(parser: argparse.ArgumentParser, checkpoint: str | None = None) -> None:
    """Add the flags that say which student is loaded, and how; `checkpoint` describes the flag of that name."""
    group = parser.add_argument_group("student")
    add = group.add_argument
    what = f"{', '.join(NAMES)}, a checkpoint folder, or a Hub repository"
    add("--checkpoint", help=f"{checkpoint}: {what}" if checkpoint else f"{what}; default: {DEFAULT}")
    add("--subfolder", help="folder of the student inside the checkpoint")
    STUDENTS.add_engine(group, "what computes")
    add("--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16 on a GPU, float32 on the CPU")
    add("--min-pixels", type=int, help="smallest image area; default: the checkpoint's")
    add("--max-pixels", type=int, help="largest image area; default: the checkpoint's")
    STUDENTS.add_flags(group)


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line of a verb with a student, which may be behind an engine of one's own."""
    return STUDENTS.parse(parser, argv)


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how pairs are scored."""
    defaults = ScorerSettings()
    add = parser.add_argument_group("scoring").add_argument
    add(
        "--mode",
        choices=MODES,
        default=defaults.mode,
        help="full; fast: without the reasons that stand behind a score; or one half only; default: %(default)s",
    )
    add("--mean", choices=MEANS, default=defaults.mean, help="of a half's question scores; default: %(default)s")
    add("--questions", type=Path, help="JSONL with T2IA questions of prompts; the student is asked for those of others")
    trained = "auto: as the student was trained, by its own word or by what it writes; default: %(default)s"
    add("--template", choices=TEMPLATES, default=defaults.template, help=f"human turns; {trained}")
    add("--reply-form", choices=("auto", *REPLY_FORMS), default=defaults.reply_form, help=f"evaluations; {trained}")
    add("--alpha", type=float, default=defaults.alpha, help="weight of IQA in overall; default: %(default)s")
    add("--beta", type=float, default=defaults.beta, help="weight of T2IA in overall; default: %(default)s")
    add(
        "--batch-size",
        type=_batch_size,
        default=defaults.batch_size,
        help="pairs at a time, or auto: as many as fit; default: %(default)s",
    )
    add("--max-new-tokens", type=int, default=defaults.max_new_tokens, help="limit on a reply; default: %(default)s")
    add("--max-questions", type=int, help="cap on questions, objects and relations in a reply; default: none")
    add("--max-text", type=int, help="cap on the characters of each text in a reply; default: none")


def student_flags() -> list[str]:
    """Names, in what is parsed, of all flags that say which student scores and how."""
    parser = argparse.ArgumentParser(add_help=False)
    add_student(parser)
    add_scoring(parser)
    return [action.dest for action in parser._actions]


def _batch_size(text: str) -> BatchLimit:
    return "auto" if text == "auto" else int(text)


def loader(arguments: argparse.Namespace) -> Callable[[], Scorer]:
    """Return what loads the student that `arguments` describe; nothing heavy is imported before it is called.

    Raises:
        SettingError: a setting is out of its range, or an option goes with another engine.
    """
    settings = ScorerSettings(
        mode=arguments.mode,
        mean=arguments.mean,
        template=arguments.template,
        reply_form=arguments.reply_form,
        alpha=arguments.alpha,
        beta=arguments.beta,
        batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens,
        limits=ReplyLimits().capped(arguments.max_questions, arguments.max_text),
    )
    options = STUDENTS.given(arguments)
    STUDENTS.options(arguments.engine, **options)
    return partial(_load, arguments, settings, options)


def student(arguments: argparse.Namespace) -> Student | None:
    """Return the student that `arguments` describe, for a verb that can do without; None without --checkpoint.

    Raises:
        SettingError: a setting is out of its range.
    """
    from dyneval.cli.score_first import Student

    if arguments.checkpoint is None:
        return None
    return Student(Path(arguments.subfolder or arguments.checkpoint).name, loader(arguments))


def _load(arguments: argparse.Namespace, settings: ScorerSettings, options: dict[str, Any]) -> Scorer:
    from dyneval.scorer import Scorer
    from dyneval.scorer.run import read_questions

    given = read_questions(arguments.questions) if arguments.questions else {}
    scorer = Scorer.from_pretrained(
        DEFAULT if arguments.checkpoint is None else arguments.checkpoint,
        arguments.subfolder,
        engine=arguments.engine,
        dtype=arguments.dtype,
        min_pixels=arguments.min_pixels,
        max_pixels=arguments.max_pixels,
        settings=settings,
        **options,
    )
    scorer.give_questions(given)
    return scorer
