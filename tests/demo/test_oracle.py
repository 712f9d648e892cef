import asyncio
import json
from random import Random
from statistics import fmean

import pytest
from PIL import Image

from dyneval.demo.knowledge import make_truth
from dyneval.demo.prompts import demo_prompts, scene_from_prompt
from dyneval.demo.truth import truth_path
from dyneval.errors import ImageError
from dyneval.llm.chat import ChatError
from dyneval.llm.registry import make_engine
from dyneval.records import PairRecord, pair_id, prompt_id
from dyneval.teacher import prompts, workflows
from dyneval.teacher.asking import Teacher

PROMPTS = [prompt for prompt in demo_prompts(40, seed=5) if len(prompt) >= 30]


def pair_of(prompt, folder):
    image = folder / "a.png"
    Image.new("RGB", (32, 32), "red").save(image)
    truth = make_truth(prompt=prompt, model="demo", seed=0, size=32, drawn=scene_from_prompt(prompt), faults=())
    truth_path(image).write_bytes(truth.encode())
    name = prompt_id(prompt)
    pair = PairRecord(
        file_name="a.png",
        pair_id=pair_id(name, "demo"),
        prompt_id=name,
        prompt=prompt,
        tier=1,
        categories=[],
        generation_model="demo",
        seed=0,
        width=32,
        height=32,
        settings={},
        sha256="0" * 64,
    )
    return pair, image, truth


async def annotated(pair, image):
    teacher = Teacher(engine=make_engine("oracle", "any"), attempts=1)
    picture = workflows.Picture(image.parent, pair)
    t2ia = await workflows.t2ia_questions(teacher, pair.prompt_id, pair.prompt)
    t2ia_answers = await workflows.t2ia_answers(teacher, pair, picture, t2ia.questions)
    iqa = await workflows.iqa_questions(teacher, pair, picture)
    iqa_answers = await workflows.iqa_answers(teacher, pair, picture, iqa.questions)
    return t2ia, t2ia_answers, iqa, iqa_answers


@pytest.mark.parametrize("prompt", Random(0).sample(PROMPTS, 12))
def test_oracle_annotates_a_demo_pair_at_the_first_attempt(prompt, tmp_path):
    pair, image, truth = pair_of(prompt, tmp_path)
    t2ia, t2ia_answers, iqa, iqa_answers = asyncio.run(annotated(pair, image))
    for record in (t2ia, t2ia_answers, iqa, iqa_answers):
        assert record.provenance.model == record.provenance.engine == "oracle"
        type(record).from_dict(record.to_dict())
    assert {question.kind for question in t2ia.questions} == {"alignment", "distortion"}
    assert fmean(answer.score for answer in t2ia_answers.answers) == pytest.approx(truth.truth_t2ia, abs=0.5)
    assert iqa_answers.score == pytest.approx(truth.truth_iqa, abs=0.5)
    assert all(answer.correct for answer in iqa_answers.answers), "a faultless picture meets every target"


def test_replies_come_bare_fenced_and_with_a_sentence():
    engine = make_engine("oracle", "any")

    async def replies():
        return [(await engine.chat(prompts.alignment_request(prompt))).text for prompt in PROMPTS]

    texts = asyncio.run(replies())
    assert texts == asyncio.run(replies())
    assert any(text.startswith("```") for text in texts) and any(text.startswith("Here") for text in texts)
    assert sum(text.startswith('{"') for text in texts) > len(texts) // 3


def test_what_is_not_the_demos_is_refused(tmp_path):
    engine = make_engine("oracle", "any")
    with pytest.raises(ChatError, match="only what the demo made"):
        asyncio.run(engine.chat(prompts.alignment_request("an epic portrait of a wizard, trending on artstation")))
    with pytest.raises(ImageError, match="no such image"):
        asyncio.run(engine.chat(prompts.scene_request(tmp_path / "a.png")))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(ChatError, match=r"b\.truth\.json"):
        asyncio.run(engine.chat(prompts.scene_request(tmp_path / "b.png")))
    (tmp_path / "b.truth.json").write_text(json.dumps({"scene": 1}))
    with pytest.raises(ChatError, match="only what the demo made"):
        asyncio.run(engine.chat(prompts.scene_request(tmp_path / "b.png")))
