"""Every schema that is sent to a server, checked by the llguidance that servers run.

vLLM 0.32 and 0.33 pin one below 1.8. It refuses a request with an option that it does not know, and a reply that it
cannot admit is never written.
"""

import json
import subprocess

import pytest

from dyneval import replies
from dyneval.prompts import categories, llm_labels
from dyneval.records import PARTS
from dyneval.replies import REPLY_FORMS, QuestionItem, ReplyLimits
from dyneval.scorer.students.served import guided
from dyneval.teacher.replies import BOUNDS, answers_schema, questions_schema, scene_schema

from .test_replies import FREE, answer

CHECK_BY_ENGINE = """
import json, sys
import llguidance
print(llguidance.__version__)
vocabulary = llguidance.LLTokenizer("byte")
for line in sys.stdin:
    case = json.loads(line)
    source = llguidance.LLMatcher.grammar_from_json_schema(case["schema"])
    matcher = llguidance.LLMatcher(vocabulary, source, log_level=0)
    tokens = vocabulary.tokenize_str(case["text"])
    taken = matcher.try_consume_tokens(tokens)
    print(json.dumps([matcher.get_error(), taken == len(tokens) and matcher.is_accepting()]))
"""


@pytest.fixture(scope="module")
def judged(environment):
    """What the engine says of schemas and texts: judged([(schema, text), ...]) -> [(error, admitted), ...]."""

    def judge(cases):
        rows = "".join(json.dumps({"schema": schema, "text": text}) + "\n" for schema, text in cases)
        command = [environment("llguidance-1.7"), "-c", CHECK_BY_ENGINE]
        done = subprocess.run(command, input=rows, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        version, *found = done.stdout.splitlines()
        assert version.startswith("1.7.")
        return [tuple(json.loads(line)) for line in found]

    return judge


def test_the_students_schemas_admit_what_is_trained(judged):
    two = [answer(reasoning='A "sign"\\,\n\t\x08\x0c\r\x01 é 熊 🐻'), answer('Ist "é" da?', "", "no", False, "", 1)]
    questions = [one.question for one in two]
    items = [QuestionItem("  Is it\n so?", "no")]
    cases = [
        (replies.evaluation_schema(form, part, questions, limits), replies.write(written, part, two, 2.5))
        for written in REPLY_FORMS
        for form in (written, "either")
        for part in PARTS
        for limits in (FREE, ReplyLimits().capped(9, 99))
    ]
    graphs = ({}, [], {"nodes": [{"id": 1, "z": None}], "x": 1.5}, {"raw_response": "a\nb"})
    cases += [(replies.scene_schema(FREE), replies.write_scene(graph, items)) for graph in graphs]
    cases += [(replies.questions_schema(FREE), replies.write_questions(items))]
    found = judged([(guided(schema), text) for schema, text in cases])
    assert found == [("", True)] * len(cases)


def test_the_teachers_and_the_labellers_schemas_are_taken(judged):
    """Also what a teacher would reply to them, as it is read."""
    question = {"question": "Is it red?", "answer": "yes"}
    t2ia = {"question": "Is it red?", "reasoning": "It is.", "score": 5}
    node = {"id": "n1", "label": "cat", "attributes": ["grey"]}
    scene = {"scene_graph": {"nodes": [node], "edges": []}, "questions": [question] * 12}
    cases = [
        (questions_schema(BOUNDS.alignment), {"questions": [question] * 9}),
        (questions_schema(BOUNDS.distortion), {"questions": [question] * 5}),
        (scene_schema(), scene),
        (answers_schema("t2ia", 1), {"answers": [t2ia]}),
        (answers_schema("iqa", 1), {"answers": [{"question": "Q?", "reasoning": "So.", "answer": "no", "score": 1}]}),
        (llm_labels.schema(categories.load()), {"categories": list(categories.load().names)[:3]}),
    ]
    found = judged([(schema, json.dumps(value, separators=(",", ":"))) for schema, value in cases])
    assert found == [("", True)] * len(cases)
