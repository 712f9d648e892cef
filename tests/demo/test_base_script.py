"""The script that makes the demo's base, from pictures to the shipped form, in small."""

import pickle
import sys
from pathlib import Path

import pytest

from dyneval.demo.prompts import demo_prompts
from dyneval.demo.scenes import kept_back
from dyneval.demo.weights import BASE, load_base, read_facts
from tests import processes

SCRIPT = Path(__file__).parents[2] / "pipeline" / "demo_base" / "make.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("base")
    sizes = ["--prompts", "40", "--vision-steps", "2", "--language-steps", "3"]
    done = processes.run([sys.executable, SCRIPT, "--output", output, *sizes], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def test_its_result_is_a_base_that_says_how_it_was_made(made):
    model = load_base(made / "base.safetensors")
    assert model.get_input_embeddings().weight.shape == (151_936, 128)
    facts = read_facts(made / "base.safetensors")
    assert (facts["vision_steps"], facts["language_steps"]) == (2, 3)
    assert set(facts) == set(read_facts(BASE))


def test_only_the_five_digits_differ_from_what_was_taught(made):
    before, after = (load_base(made / name).state_dict() for name in ("before_neutral.safetensors", "base.safetensors"))
    table = "model.language_model.embed_tokens.weight"
    assert {name for name in before if not before[name].equal(after[name])} == {table, "lm_head.weight"}
    # "1" to "5" are the tokens 16 to 20 of Qwen's vocabulary.
    assert (before[table] != after[table]).any(1).nonzero().flatten().tolist() == [16, 17, 18, 19, 20]


def test_no_demo_prompt_and_no_kept_back_pair_is_shown(made):
    truths = pickle.loads((made / "truths.pickle").read_bytes())
    assert len(truths) > 60
    assert not {truth.prompt for truth in truths} & set(demo_prompts(4000, 0))
    assert not [group for truth in truths for group in truth.drawn.groups + truth.asked.groups if kept_back(group)]
