"""Which template and which reply form a student was trained with, found from what it writes.

A checkpoint that was trained here says so itself (`dyneval.conventions`). Of others, three small drawings are asked
about. The form shows in the first key behind a question about alignment: `score` in the form `readme`, `target_answer`
in `release`. (Behind one about quality it would be `answer` there; but that key also follows each question that a
student asks, so a weak one of either form is drawn to it.) The template shows less: a student is asked for questions
about three prompts in each wording; where one makes it much surer of what it writes, it was trained with that.

A wrong guess would be silent: held to the JSON of the form `readme`, a student of the form `release` gives 5.0 to
every image.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from PIL import Image, ImageDraw

from dyneval import replies, tokens
from dyneval.llm.chat import TokenChoice
from dyneval.records import student_json
from dyneval.replies import ReplyForm, ReplyLimits
from dyneval.scorer.settings import Form, ScorerSettings
from dyneval.scorer.students.base import AnyStudent, Ask, NoReply
from dyneval.tokens import DEFAULT_TEMPLATE, TEMPLATE_VERSIONS, TemplateVersion

logger = logging.getLogger(__name__)
_Name = TypeVar("_Name", bound=str)

SURE = 0.9
"""A form is sure when its key has this share of the probability of both forms' keys."""
# Measured: 0.04 to 0.7 for small students, 0.00001 untrained.
LEAST = 0.01
"""Together the keys have at least this probability, or the student writes neither form."""
# Measured: 1.0 to 1.3 times for students that take the wordings for the same, 190 times for one that has learned its
# samples by heart.
CLEAR = 2.0
"""A template is clear when the other surprises the student, in nats a character, so many times as much."""
_KEYS: dict[ReplyForm, str] = {"readme": "score", "release": "target_answer"}
_FORM_TOKENS, _TEMPLATE_TOKENS = 40, 64
"""Tokens of a reply that are looked at: the key stands within the first 40, two or three questions within 64."""


class Probe(NamedTuple):
    """What a student's own writing says about its training. The likelihoods are means over the samples."""

    forms: Mapping[ReplyForm, float]
    """Probability of each form's key, 0-1; those of a student without any form are low. Empty: not asked for."""
    templates: Mapping[TemplateVersion, float]
    """Log-likelihood a character of what it writes in each wording; empty where it was not asked for."""

    @property
    def form(self) -> ReplyForm | None:
        """The form that is sure; None where none is."""
        least = SURE * max(sum(self.forms.values()), LEAST)
        return next((form for form, likely in self.forms.items() if likely >= least), None)

    @property
    def template(self) -> TemplateVersion | None:
        """The wording that is clearly the better known; None on a near tie."""
        best, *others = sorted(self.templates, key=lambda version: -self.templates[version])
        ahead = all(self.templates[other] <= CLEAR * self.templates[best] for other in others)
        return best if ahead else None

    def __str__(self) -> str:
        shares = [f"{form} {likely:.3f}" for form, likely in self.forms.items()]
        surer = [f"{version} {likely:.4f}" for version, likely in self.templates.items()]
        told = [f"reply form: {', '.join(shares)}"] * bool(shares)
        told += [f"template, log-likelihood a character: {', '.join(surer)}"] * bool(surer)
        return "; ".join(told)


def settle(settings: ScorerSettings, student: AnyStudent) -> tuple[ScorerSettings, str]:
    """Replace "auto" in template and reply form by what the student was trained with.

    Args:
        settings: as they were asked for; what they name is kept.
        student: what its checkpoint says of itself comes first, and only what is still open is asked.

    Returns:
        The settings, and how they came about, in words for people.
    """
    said = student.processor.conventions
    template = settings.template if settings.template != "auto" else said.template
    form: Form | None = settings.reply_form if settings.reply_form != "auto" else said.reply_form
    for name, asked, trained in (
        ("template", settings.template, said.template),
        ("reply form", settings.reply_form, said.reply_form),
    ):
        if trained and asked not in ("auto", trained):
            logger.warning("%s %s was asked for, but the student was trained with %s", name, asked, trained)
    if template and form:
        source = "asked for" if "auto" not in (settings.template, settings.reply_form) else "as its training noted"
        return replace(
            settings, template=template, reply_form=form
        ), f"template {template}, reply form {form}, {source}"
    probe = look(student, forms=form is None, templates=template is None)
    if form is None:
        form = probe.form or "either"
        if form == "either":
            logger.warning(
                "the student does not clearly write one reply form (%s): each reply may have either; name one with "
                "--reply-form if you know it",
                probe,
            )
    if template is None:
        follows: TemplateVersion = "release" if form == "release" else DEFAULT_TEMPLATE
        template = probe.template or follows
        if probe.template is None:
            logger.warning(
                "both wordings of the T2IA turn suit the student (%s): taking %s, which goes with the reply form; "
                "name one with --template if you know it",
                probe,
                template,
            )
    found = f"template {template}, reply form {form}, from what the student writes ({probe})"
    logger.info("%s", found)
    return replace(settings, template=template, reply_form=form), found


def look(student: AnyStudent, forms: bool = True, templates: bool = True) -> Probe:
    """Ask a student about the samples.

    Args:
        student: any; replies of a weak one need not be complete.
        forms: whether its reply form is looked for.
        templates: whether its template is looked for.
    """
    return Probe(_forms(student) if forms else {}, _templates(student) if templates else {})


def branch(choices: Sequence[TokenChoice], texts: Mapping[_Name, str]) -> dict[_Name, float]:
    """Return the probabilities of the texts that a reply might go on with, where they part.

    Args:
        choices: the tokens of a reply from its beginning, with what might have stood there.
        texts: by name, texts that the reply might begin with; none is the beginning of another.

    Returns:
        By name, together at most 1. All are 0 where the reply does not come to the place.
    """
    written = ""
    for choice in choices:
        if not all(text.startswith(written + choice.text) for text in texts.values()):
            # Every token counts after which the reply may still become the text: tokens end in the middle of a key, or
            # hold its quotes as well.
            wholes = {written + token: math.exp(logprob) for token, logprob in choice.alternatives.items()}
            return {
                name: sum(mass for whole, mass in wholes.items() if text.startswith(whole) or whole.startswith(text))
                for name, text in texts.items()
            }
        written += choice.text
    return dict.fromkeys(texts, 0.0)


def _forms(student: AnyStudent) -> dict[ReplyForm, float]:
    """Return the mean probability of each form's key behind the first question."""
    images = student.read([student.prepare(image) for _, image, _ in _SAMPLES])
    asks: dict[Ask[Any], str] = {}
    for (prompt, _, question), image in zip(_SAMPLES, images, strict=True):
        schema = replies.evaluation_schema("either", "t2ia", [question], ReplyLimits())
        asks[Ask("evaluation", tokens.evaluation_turn(prompt, [question]), schema, image, True)] = question
    found = []
    for ask, reply in student.answer(list(asks), _FORM_TOKENS):
        # As a student writes it, so that the question's own quotes are escaped as in the reply.
        begin = f'{{"answers": [{{"question": {student_json(asks[ask])}, "'
        choices = () if isinstance(reply, NoReply) else reply.choices
        found.append(branch(choices, {form: f'{begin}{key}"' for form, key in _KEYS.items()}))
    return {form: fmean(one[form] for one in found) for form in found[0]}


def _templates(student: AnyStudent) -> dict[TemplateVersion, float]:
    """Return the mean log-likelihood of what a student writes in each wording, in nats a character."""
    schema = replies.questions_schema(ReplyLimits())
    found = []
    for prompt, _, _ in _SAMPLES:
        asks: dict[Ask[Any], TemplateVersion] = {
            Ask("t2ia", tokens.t2ia_turn(prompt, version), schema, for_choices=True): version
            for version in TEMPLATE_VERSIONS
        }
        likelihoods = {}
        for ask, reply in student.answer(list(asks), _TEMPLATE_TOKENS):
            choices = () if isinstance(reply, NoReply) else reply.choices
            # A character and not a token: replies in the two wordings may differ in length.
            length = max(1, sum(len(choice.text) for choice in choices))
            likelihoods[asks[ask]] = sum(choice.logprob for choice in choices) / length
        found.append(likelihoods)
    return {version: fmean(one[version] for one in found) for version in found[0]}


def _drawing(draw: str, colour: str) -> Image.Image:
    image = Image.new("RGB", (256, 256), "white")
    getattr(ImageDraw.Draw(image), draw)((56, 72, 200, 184), fill=colour)
    return image


_SAMPLES = (
    ("a red ellipse on white", _drawing("ellipse", "red"), "Is a red ellipse visible?"),
    ("a blue rectangle", _drawing("rectangle", "blue"), "Is there a blue rectangle?"),
    ("two green circles", _drawing("ellipse", "green"), "Are there two circles?"),
)
"""Prompt, picture and question; the answer to the last one is no."""
