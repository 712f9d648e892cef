"""What a student was trained with, found from what it writes: real weights, taught a form in a few steps."""

import logging
import math

import pytest
import torch
from PIL import Image, ImageDraw

from dyneval import replies, tokens
from dyneval.cli import doctor
from dyneval.conventions import Conventions
from dyneval.llm.chat import TokenChoice
from dyneval.processing import IGNORE, Turn
from dyneval.scorer.loading import load_student
from dyneval.scorer.probing import branch, look, settle
from dyneval.scorer.settings import ScorerSettings
from dyneval.scorer.students.local import TransformersStudent

from ..test_replies import answer


def lessons(form):
    """Turn, answer and image of a few exchanges, none of them about the drawings that probing asks about."""
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).rectangle((20, 20, 70, 60), fill="orange")
    for part, prompt, question in [("t2ia", "a box", "Is a box visible?"), ("iqa", "one dog", "Is the dog sharp?")]:
        text = replies.write(form, part, [answer(question)], 5)
        yield tokens.evaluation_turn(prompt, [question]), text, image


def taught(student, form, steps=20):
    """A student that has learned a form."""
    model, processor = load_student(student, device="cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for _ in range(steps):
        for turn, text, image in lessons(form):
            encoded = processor.encode([Turn("user", turn, 1), Turn("assistant", text)], [image])
            labels = torch.tensor(encoded.labels[1:])
            hidden = model.model(**encoded.model_inputs()).last_hidden_state[0, :-1][labels != IGNORE]
            torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[labels != IGNORE]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return TransformersStudent(model.eval(), processor)


@pytest.fixture(scope="module", params=["readme", "release"])
def pupil(request, student):
    engine = taught(student, request.param)
    engine.processor.conventions = Conventions()
    return request.param, engine


def test_the_form_that_a_student_was_taught_is_found(pupil, caplog):
    form, engine = pupil
    probe = look(engine)
    assert probe.form == form, probe
    with caplog.at_level(logging.INFO):
        settings, found = settle(ScorerSettings(), engine)
    assert settings.reply_form == form
    assert f"reply form {form}, from what the student writes" in found and found in caplog.text


def test_what_the_checkpoint_says_of_itself_comes_first_and_a_flag_before_that(pupil, caplog):
    form, engine = pupil
    other = "release" if form == "readme" else "readme"
    engine.processor.conventions = Conventions(other, other)
    settings, found = settle(ScorerSettings(), engine)
    assert (settings.template, settings.reply_form) == (other, other) and "as its training noted" in found
    settings, found = settle(ScorerSettings(template=form, reply_form=form), engine)
    assert (settings.template, settings.reply_form) == (form, form) and "asked for" in found
    assert f"reply form {form} was asked for, but the student was trained with {other}" in caplog.text
    engine.processor.conventions = Conventions()


def test_a_student_without_a_form_may_write_either_and_the_log_says_so(engine, monkeypatch, caplog):
    monkeypatch.setattr(engine.processor, "conventions", Conventions())
    settings, _ = settle(ScorerSettings(), engine)
    assert settings.reply_form == "either"
    assert "does not clearly write one reply form" in caplog.text
    if settings.template != "release":
        assert look(engine).form is None


def test_probabilities_are_summed_where_the_texts_part():
    def choice(text, alternatives):
        return TokenChoice(text, 0.0, {name: math.log(share) for name, share in alternatives.items()})

    texts = {"score": 'x "score"', "target": 'x "target"', "answer": 'x "answer"'}
    written = [choice("x", {"x": 1}), choice(' "', {' "': 0.9, ' "s': 0.1})]
    parting = choice("target", {"target": 0.6, "score": 0.3, "tar": 0.05, "targets": 0.04})
    found = branch([*written, parting, choice('"', {'"': 1})], texts)
    assert found == pytest.approx({"score": 0.3, "target": 0.65, "answer": 0})
    assert branch(written, texts) == dict.fromkeys(texts, 0.0)


def test_doctor_shows_how_a_student_is_asked(student, capsys):
    flags = ["--checkpoint", str(student), "--device", "cpu", "--max-questions", "2", "--max-text", "8"]
    assert doctor.main(flags, "dyneval doctor") == 0
    assert "conventions  template readme, reply form readme, as its training noted" in capsys.readouterr().out
