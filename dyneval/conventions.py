"""What a student was trained to be asked, to write and to see: template, reply form, pixel limits.

Training notes them in `dyneval.json` beside the weights, as its samples show them. A checkpoint without that file, such
as the published ones, says nothing of itself; `dyneval.scorer.probing` then looks at what it writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from dyneval.errors import CheckpointError
from dyneval.files.atomic import write_json
from dyneval.replies import REPLY_FORMS, ReplyForm, form_of
from dyneval.tokens import EVALUATION, TEMPLATE_VERSIONS, TemplateVersion, template_of

FILE = "dyneval.json"
"""Name of the note in a checkpoint folder."""
_Name = TypeVar("_Name", bound=str)


class Conventions(NamedTuple):
    """What a checkpoint says of itself; None where it is not known."""

    template: TemplateVersion | None = None
    reply_form: ReplyForm | None = None
    min_pixels: int | None = None
    """Smallest and largest image area that it was trained with; a student shown other sizes judges something else."""
    max_pixels: int | None = None
    demo: bool | None = None
    """True for the demo's students, which know the demo's world alone."""
    untrained: bool | None = None
    """True for a student that was never taught to rate, until training does: its scores mean nothing."""


def conventions_of(samples: Iterable[tuple[str, str]], base: Conventions) -> Conventions:
    """What a student is taught by training samples, (human turn, answer) each; the rest is as its `base` says.

    Where they show nothing, what its base was taught stays; where they contradict each other, nothing is known.
    Answers of neither form are passed over: in published data some are spoilt.
    """
    templates: set[TemplateVersion] = set()
    forms: set[ReplyForm] = set()
    for turn, answer in samples:
        if (template := template_of(turn)) is not None:
            templates.add(template)
        elif EVALUATION in turn and (form := form_of(answer)) is not None:
            forms.add(form)
    return base._replace(
        template=_only(templates, base.template), reply_form=_only(forms, base.reply_form), untrained=None
    )


def _only(shown: set[_Name], base: _Name | None) -> _Name | None:
    return next(iter(shown), base) if len(shown) < 2 else None


def write_conventions(folder: Path, known: Conventions) -> None:
    """Note in a checkpoint folder what is known."""
    write_json(folder / FILE, {name: value for name, value in known._asdict().items() if value is not None})


def read_conventions(content: bytes | None) -> Conventions:
    """What a checkpoint says of itself in its `dyneval.json`; nothing where it has none.

    Raises:
        CheckpointError: it is not JSON, or says what no student can do.
    """
    if content is None:
        return Conventions()
    try:
        said: Any = orjson.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{FILE}: is not JSON ({error})") from error
    if not isinstance(said, dict):
        raise CheckpointError(f"{FILE}: expected an object, got {type(said).__name__}")
    known: dict[str, tuple[str, ...]] = {"template": TEMPLATE_VERSIONS, "reply_form": REPLY_FORMS}
    for name, values in known.items():
        if said.get(name) not in (None, *values):
            raise CheckpointError(f"{FILE}: expected {name} to be one of {', '.join(values)}")
    for name in ("min_pixels", "max_pixels"):
        value = said.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise CheckpointError(f"{FILE}: expected {name} to be a whole number of pixels, at least 1")
    for name in ("demo", "untrained"):
        if said.get(name) not in (None, True, False):
            raise CheckpointError(f"{FILE}: expected {name} to be true or false")
    return Conventions(**{name: said.get(name) for name in Conventions._fields})
