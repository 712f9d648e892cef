"""What a student was trained with: the wording of its turns, the form of its replies, the pixel limits of its images.

Training writes this into `dyneval.json` beside the weights, and scoring reads it. A student that is asked in another
wording, or held to another form, still answers, but its scores are wrong: held to the form of the README, a student of
the release form gives 5.0 for everything. A checkpoint without the file, such as the published ones, says nothing about
itself; `dyneval.scorer.probing` then looks at what the student writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from dyneval.errors import CheckpointError
from dyneval.files.atomic import write_json
from dyneval.replies import REPLY_FORMS, ReplyForm, form_of
from dyneval.tokens import EVALUATION, TEMPLATE_VERSIONS, TemplateVersion, template_of

FILE = "dyneval.json"
"""Name of the file in a checkpoint folder."""


class Conventions(NamedTuple):
    """What a checkpoint says about itself; None where it is not known."""

    template: TemplateVersion | None = None
    reply_form: ReplyForm | None = None
    min_pixels: int | None = None
    """Smallest and largest image area, in pixels, that it was trained with. A student judges other sizes badly."""
    max_pixels: int | None = None
    demo: bool | None = None
    """True for the demo's students, which know nothing but the demo's drawings."""
    untrained: bool | None = None
    """True for a student that was never taught to rate, until training does: its scores mean nothing."""


def conventions_of(samples: Iterable[tuple[str, str]], base: Conventions) -> Conventions:
    """Find out what training samples teach a student.

    Args:
        samples: (human turn, answer) each. Answers of neither form are skipped: in published data some are broken.
        base: what the checkpoint was taught before, which stays where the samples show nothing.

    Returns:
        Template and reply form of the samples, None where the samples contradict each other; the rest from `base`.
    """
    templates: set[TemplateVersion] = set()
    forms: set[ReplyForm] = set()
    for turn, answer in samples:
        if (template := template_of(turn)) is not None:
            templates.add(template)
        elif EVALUATION in turn and (form := form_of(answer)) is not None:
            forms.add(form)
    return base._replace(
        template=None if len(templates) > 1 else next(iter(templates), base.template),
        reply_form=None if len(forms) > 1 else next(iter(forms), base.reply_form),
        untrained=None,  # what is trained now is no longer untrained, whatever its base was
    )


def write_conventions(folder: Path, known: Conventions) -> None:
    """Write what is known into a checkpoint folder; what is None is left out.

    Raises:
        OSError: the file cannot be written; one that is there stays as it is.
    """
    write_json(folder / FILE, {name: value for name, value in known._asdict().items() if value is not None})


def read_conventions(content: bytes | None) -> Conventions:
    """Read what a checkpoint says about itself.

    Args:
        content: bytes of its `dyneval.json`; None where it has none, and nothing is known.

    Raises:
        CheckpointError: the content is not JSON, or holds a value that no student can have.
    """
    if content is None:
        return Conventions()
    try:
        values: Any = orjson.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{FILE}: is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{FILE}: expected an object, got {type(values).__name__}")
    choices: dict[str, tuple[str, ...]] = {"template": TEMPLATE_VERSIONS, "reply_form": REPLY_FORMS}
    for name, allowed in choices.items():
        if values.get(name) not in (None, *allowed):
            raise CheckpointError(f"{FILE}: expected {name} to be one of {', '.join(allowed)}")
    for name in ("min_pixels", "max_pixels"):
        value = values.get(name)
        # `type`, not isinstance: to Python true is the number 1.
        if value is not None and (type(value) is not int or value < 1):
            raise CheckpointError(f"{FILE}: expected {name} to be a whole number of pixels, at least 1")
    for name in ("demo", "untrained"):
        if values.get(name) not in (None, True, False):
            raise CheckpointError(f"{FILE}: expected {name} to be true or false")
    # Other keys are ignored, so that older versions can read what a newer one writes.
    return Conventions(**{name: values.get(name) for name in Conventions._fields})
