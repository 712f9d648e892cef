import asyncio
import json

import pytest

from dyneval.llm.chat import ChatReply, ChatRequest, Message, RejectedReply, UnusableReply
from dyneval.records import Question
from dyneval.teacher.asking import Teacher
from dyneval.teacher.replies import parse_questions

GOOD = json.dumps([{"question": "Is it red?", "answer": "yes"}])


class Scripted:
    """An engine that gives the replies it is made with and keeps what it was asked."""

    name = model = "scripted"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked = []

    async def chat(self, request):
        self.asked.append(request)
        reply = self.replies.pop(0)
        return (
            ChatReply(text=reply, finish_reason="stop", prompt_tokens=10, completion_tokens=1)
            if isinstance(reply, str)
            else reply
        )

    async def close(self):
        pass


def ask(engine, attempts=3, text="Which?"):
    teacher = Teacher(engine=engine, attempts=attempts)
    request = ChatRequest(task="questions", messages=(Message(role="user", text=text),), max_tokens=77)
    return teacher, lambda: asyncio.run(teacher.ask(request, lambda reply: parse_questions(reply, 5)))


def test_asks_again_with_the_error_until_the_reply_is_valid():
    engine = Scripted("sorry", "[]", GOOD)
    teacher, run = ask(engine)
    answer = run()
    assert answer.value == [Question(question="Is it red?", answer="yes")]
    assert (answer.attempts, answer.prompt_tokens, answer.completion_tokens) == (3, 30, 3)
    assert "no JSON" in engine.asked[1].messages[-1].text
    assert len(engine.asked[2].messages) == 3, "only the last failure is told, the conversation does not grow"
    assert teacher.tally.unusable == {"questions": 2} and teacher.tally.requests == 3


def test_a_reply_cut_at_the_limit_is_a_failure_even_where_it_parses():
    engine = Scripted(ChatReply(text=GOOD, finish_reason="length"), GOOD)
    assert ask(engine)[1]().attempts == 2
    assert "cut off at 77 tokens" in engine.asked[1].messages[-1].text


def test_gives_up_with_the_raw_text():
    with pytest.raises(RejectedReply, match="2 replies could not be used") as caught:
        ask(Scripted("first", "last \ud800" + "x" * 99_999), attempts=2)[1]()
    assert caught.value.raw.startswith("last ?xxx") and len(caught.value.raw) == 20_000 and caught.value.attempts == 2


def test_a_task_token_is_never_sent():
    engine = Scripted(GOOD)
    with pytest.raises(ValueError, match="holds a task token"):
        ask(engine, text="a <|T2IA|> b")[1]()
    assert engine.asked == []


def test_errors_of_the_parser_itself_are_not_taken_for_bad_replies():
    engine = Scripted(GOOD)
    teacher, _ = ask(engine)
    request = ChatRequest(task="x", messages=(Message(role="user", text="?"),))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(teacher.ask(request, lambda reply: 1 // 0))
    assert issubclass(UnusableReply, ValueError)
