import torch
from PIL import Image
from transformers import LogitsProcessor

from dyneval import tokens
from dyneval.processing import Turn
from dyneval.replies import ReplyLimits, evaluation_schema, questions_schema, scene_schema
from dyneval.scorer.decoder import Decoder, ReplyRow

LIMITS = ReplyLimits().capped(3, 10)
QUESTIONS = ["Is there a red circle?", 'Is "x" sharp?']


class Held(LogitsProcessor):
    """The plain way, to compare with: one token at a time through `generate`."""

    def __init__(self, grammar, constraint, end):
        self.grammar, self.constraint, self.end = grammar, constraint, end
        self.forced = constraint.forced()
        self.chosen = False

    def __call__(self, input_ids, scores):
        if self.chosen:
            self.constraint.accept(int(input_ids[0, -1]))
            self.forced = self.constraint.forced()
        self.chosen = not self.forced and not self.constraint.done
        if self.forced:
            allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
            allowed[self.forced.pop(0)] = True
        elif self.constraint.done:
            allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
            allowed[self.end] = True
        else:
            allowed = torch.from_numpy(self.grammar.allowed([self.constraint])[0])
        return scores.masked_fill(~allowed, -torch.inf)


def conversations(processor, pictures):
    """(turn, schema, image) of each kind, for three images."""
    for number in range(3):
        image = Image.open(pictures / f"{number}.png").convert("RGB")
        yield tokens.t2ia_turn(f"a red circle, {number}"), questions_schema(LIMITS), None
        yield tokens.iqa_turn(), scene_schema(LIMITS), image
        asked = QUESTIONS[: 1 + number % 2]
        yield tokens.evaluation_turn("a circle", asked), evaluation_schema("readme", "t2ia", asked, LIMITS), image


def plain(model, processor, grammar, turn, schema, image):
    encoded = processor.encode([Turn("user", turn, int(image is not None))], [image] if image else [], True)
    held = Held(grammar, grammar.constraint(schema), processor.tokenizer.eos_token_id)
    model.generate(**encoded.model_inputs(), logits_processor=[held], max_new_tokens=400, do_sample=False)
    return held.constraint.tokens


def test_batches_with_shared_images_and_forced_text_equal_plain_generate(loaded, grammar, pictures):
    model, processor = loaded
    cases = list(conversations(processor, pictures))
    expected = [plain(model, processor, grammar, *case) for case in cases]

    decoder = Decoder(model, grammar)
    text, seen = cases[::3], [case for case in cases if case[2]]
    rows = [ReplyRow(ids(processor, turn, []), grammar.constraint(schema)) for turn, schema, _ in text]
    list(decoder.decode(rows, 400))
    assert [row.constraint.tokens for row in rows] == expected[::3]

    images = [case[2] for case in cases[1::3]]
    encoded = [processor.encode([Turn("user", tokens.iqa_turn(), 1)], [image], True) for image in images]
    counts = [sum(one.mm_token_type_ids) for one in encoded]
    lengths = [one.input_ids.index(tokens.TASK_TOKEN_IDS[tokens.IQA]) for one in encoded]
    calls = []
    hook = model.model.visual.register_forward_hook(lambda *_: calls.append(1))
    prefix = decoder.read_images(encoded, lengths)
    rows = [
        ReplyRow(
            ids(processor, turn, [counts[number // 2]])[lengths[number // 2] :],
            grammar.constraint(schema, verdicts=tokens.EVALUATION in turn),
            number // 2,
        )
        for number, (turn, schema, _) in enumerate(seen)
    ]
    list(decoder.decode(rows, 400, prefix))
    hook.remove()
    assert [row.constraint.tokens for row in rows] == [tokens for n, tokens in enumerate(expected) if n % 3]
    assert len(calls) == 1
    assert [len(row.probabilities) for row in rows] == [0, 1, 0, 2, 0, 1]
    assert all(abs(sum(weights) - 1) < 1e-5 for row in rows for weights in row.probabilities)


def ids(processor, turn, counts):
    return processor.layout([Turn("user", turn, len(counts))], counts, add_generation_prompt=True)[0]


def test_a_reply_over_the_limit_is_a_failure_and_leaves_the_others_alone(loaded, grammar):
    model, processor = loaded
    turn = ids(processor, tokens.t2ia_turn("a cat"), [])
    short = evaluation_schema("readme", "t2ia", ["Is it?"], ReplyLimits().capped(1, 1))
    rows = [ReplyRow(turn, grammar.constraint(schema)) for schema in (questions_schema(ReplyLimits()), short)]
    list(Decoder(model, grammar).decode(rows, 30))
    assert "not complete after 30 tokens" in rows[0].failure
    assert rows[1].failure is None and '"question": "Is it?"' in rows[1].constraint.text


def test_a_grammar_that_cannot_be_compiled_fails_its_own_job(loaded, grammar):
    model, processor = loaded
    turn = ids(processor, tokens.t2ia_turn("a cat"), [])
    rows = [
        ReplyRow(turn, grammar.constraint(schema))
        for schema in ({"pattern": "(?=a)b", "type": "string"}, {"const": "x"})
    ]
    list(Decoder(model, grammar).decode(rows, 30))
    assert "grammar engine" in rows[0].failure
    assert rows[1].constraint.text == '"x"'


def test_nothing_to_decode(loaded, grammar):
    assert list(Decoder(loaded[0], grammar).decode([], 10)) == []
