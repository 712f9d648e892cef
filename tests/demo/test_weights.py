"""The shipped students: small, whole, ordinary checkpoints, and told apart from a real one."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from dyneval.conventions import FILE, conventions_of
from dyneval.demo import weights
from dyneval.demo.prompts import demo_prompts
from dyneval.errors import CheckpointError
from dyneval.processing import Processor
from dyneval.tokens import TASK_TOKEN_IDS
from tests import processes

TABLE = "model.language_model.embed_tokens.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "base"
    weights.write_base(folder)
    return folder


@pytest.fixture(scope="module")
def judge(demo_judge):
    return demo_judge


def test_what_is_shipped_is_small():
    assert weights.BASE.stat().st_size <= 8_000_000
    assert weights.JUDGE.stat().st_size <= 4_000_000


def test_the_base_is_an_ordinary_checkpoint_without_task_tokens(base):
    from transformers import AutoModelForImageTextToText, Qwen3VLForConditionalGeneration

    model = AutoModelForImageTextToText.from_pretrained(base)
    assert isinstance(model, Qwen3VLForConditionalGeneration)
    assert model.dtype == torch.bfloat16
    assert model.get_input_embeddings().weight.shape == (151_936, 128)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert Processor.from_pretrained(base).added_task_tokens


def test_the_table_is_rebuilt_with_one_row_for_all_words_that_are_not_the_demos(base):
    shipped = load_file(weights.BASE)
    table = load_file(base / "model.safetensors")[TABLE]
    used = shipped["rows.used"].long()
    assert torch.equal(table[used], shipped["rows"])
    others = torch.ones(len(table), dtype=torch.bool)
    others[used] = False
    assert torch.equal(table[others], shipped["rows.others"].expand(int(others.sum()), -1))
    known = set(used.tolist())
    processor = Processor.from_pretrained(base)
    for prompt in demo_prompts(200, 0):
        if not prompt.isupper():
            assert set(processor.tokenizer(prompt)["input_ids"]) <= known, prompt


def test_students_to_score_with_know_the_task_tokens(judge, tmp_path):
    weights.write_base(tmp_path / "untrained", task_tokens=True)
    for folder, untrained in ((judge, None), (tmp_path / "untrained", True)):
        processor = Processor.from_pretrained(folder)
        assert not processor.added_task_tokens
        assert processor.conventions == ("readme", "readme", weights.PIXELS, weights.PIXELS, True, untrained)
        assert conventions_of([], processor.conventions).untrained is None
    table = load_file(tmp_path / "untrained" / "model.safetensors")[TABLE]
    rows = [table[token] for token in TASK_TOKEN_IDS.values()]
    assert not torch.equal(rows[0], rows[1]) and not torch.equal(rows[1], rows[2])


def test_limits_travel_and_a_checkpoint_with_others_is_refused(judge, tmp_path, caplog):
    import shutil

    other = shutil.copytree(judge, tmp_path / "other")
    config = json.loads((other / "preprocessor_config.json").read_text())
    config["size"] = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    (other / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match="trained with images of 16,384 to 16,384 pixels, and would be shown 65,536"
    ):
        Processor.from_pretrained(other)
    assert Processor.from_pretrained(judge, max_pixels=50_176).max_pixels == 50_176
    assert "it was trained with images of 16,384 to 16,384 pixels" in caplog.text
    assert Processor.for_training(other).limits == (weights.PIXELS, weights.PIXELS)


def test_a_base_whose_other_rows_differ_is_not_packed(tmp_path):
    model = weights.load_base()
    used = load_file(weights.BASE)["rows.used"].tolist()
    weights.pack_base(model, used, tmp_path / "again.safetensors", weights.read_facts(weights.BASE))
    assert (tmp_path / "again.safetensors").read_bytes() == weights.BASE.read_bytes()
    with torch.no_grad():
        model.get_input_embeddings().weight[max(set(range(1000)) - set(used))] += 1
    with pytest.raises(ValueError, match="rows of unused words differ"):
        weights.pack_base(model, used, tmp_path / "other.safetensors", {})


def test_only_a_student_of_the_base_is_packed(tiny_checkpoint, judge, tmp_path):
    with pytest.raises(CheckpointError, match="no student of the demo's base"):
        weights.pack_judge(tiny_checkpoint, tmp_path / "x.safetensors", {})
    weights.pack_judge(judge, tmp_path / "again.safetensors", {})
    again, shipped = load_file(tmp_path / "again.safetensors"), load_file(weights.JUDGE)
    assert all(torch.equal(again[name], value) for name, value in shipped.items())
    assert (tmp_path / "again.safetensors").stat().st_size <= 4_000_000


def test_a_file_that_fits_no_model_is_refused(tmp_path):
    damaged = {name: value for name, value in load_file(weights.BASE).items() if not name.endswith("q_proj.weight")}
    save_file(damaged, tmp_path / "x.safetensors", {"facts": json.dumps(weights.read_facts(weights.BASE))})
    with pytest.raises(CheckpointError, match=r"does not fit its own model: \['model\.language_model"):
        weights.load_base(tmp_path / "x.safetensors")


@pytest.mark.parametrize("content", ["[]", '{"min_pixels": 0}', '{"max_pixels": true}', '{"demo": "yes"}', "{"])
def test_what_a_checkpoint_says_of_itself_is_checked(judge, tmp_path, content):
    import shutil

    other = shutil.copytree(judge, tmp_path / "other")
    (other / FILE).write_text(content)
    with pytest.raises(CheckpointError, match=FILE):
        Processor.from_pretrained(other)


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "dyneval.demo.weights"]
    processes.run([*command, "base", "--output", str(tmp_path / "base")], check=True, capture_output=True)
    assert json.loads((tmp_path / "base" / FILE).read_text()) == {
        "min_pixels": weights.PIXELS,
        "max_pixels": weights.PIXELS,
        "demo": True,
        "untrained": True,
    }
    no_checkpoint = processes.run([*command, "pack-judge", "--output", "x"], capture_output=True, text=True)
    assert no_checkpoint.returncode == 2
    assert "pack-judge needs --checkpoint" in no_checkpoint.stderr
