"""Adapters train what the flags say, and merged they are the model that was trained."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from dyneval.errors import CheckpointError
from dyneval.processing import Processor
from dyneval.scorer.loading import load_student
from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.lora import add_adapters, merge_adapter
from qwenvl.train.memory import Sizes
from qwenvl.train.meter import Work
from qwenvl.train.modeling import freeze, load_model, part_of, trainable_names, trainable_report
from tests import processes

from .conftest import make_instruct_data
from .test_training import IN_ORDER, TORCHRUN, TRAIN, arguments, history, run, user_environment, weights

TOOL = Path(__file__).parents[2] / "Qwen3-VL" / "qwen-vl-finetune" / "tools" / "merge_lora.py"
Q_PROJ = "model.language_model.layers.0.self_attn.q_proj.weight"
ROWS = list(TASK_TOKEN_IDS.values())


def load(checkpoint):
    return load_model(ModelArguments(model_name_or_path=str(checkpoint)), torch.float32, 1)


def adapted(checkpoint, **flags):
    arguments = ModelArguments(model_name_or_path=str(checkpoint), lora_enable=True, lora_r=4, lora_alpha=8, **flags)
    return add_adapters(load_model(arguments, torch.float32, 1), arguments)


def trained_names(model):
    return {name.removeprefix("base_model.model.") for name, one in model.named_parameters() if one.requires_grad}


def inputs():
    """A text in which every task token is seen, and an image of four visual tokens."""
    ids = [1, 2, *ROWS, 151652, *[151655] * 4, 151653, 5, 6, *ROWS, 7]
    torch.manual_seed(1)
    types = torch.tensor([[1 if one == 151655 else 0 for one in ids]])
    pixels = {"pixel_values": torch.randn(16, 1536), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    return {"input_ids": torch.tensor([ids]), "mm_token_type_ids": types, **pixels}


def train_a_little(model):
    model.train()
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(3):
        batch = inputs()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def trained(tiny_checkpoint, tmp_path_factory):
    """A trained model with adapters, and the folder that it was saved to."""
    folder = tmp_path_factory.mktemp("adapter")
    model = train_a_little(adapted(tiny_checkpoint, tune_mm_vision=True))
    model.save_pretrained(folder)
    Processor.from_pretrained(tiny_checkpoint, min_pixels=784, max_pixels=9216).save_pretrained(folder)
    return model, folder


def test_what_is_trained_by_name(tiny_checkpoint):
    model = adapted(tiny_checkpoint)
    names = trained_names(model)
    layer = "model.language_model.layers.{}.self_attn.{}.lora_{}.default.weight"
    places = [(n, p, ab) for n in (0, 1) for p in ("q_proj", "k_proj", "v_proj", "o_proj") for ab in "AB"]
    assert {name for name in names if "lora" in name} == {layer.format(*place) for place in places}
    rest = {name for name in names if "lora" not in name}
    assert {name for name in rest if part_of(name) == "language"} == {"task_rows.modules_to_save.default.weight"}
    mergers = {name.split(".modules_to_save.")[0] for name in rest if part_of(name) == "merger"}
    lists = {f"model.visual.deepstack_merger_list.{number}" for number in (0, 1)}
    assert mergers == {"model.visual.merger", *lists}
    assert not any(part_of(name) == "vision" for name in names)


def test_the_tune_flags_hold_with_adapters(tiny_checkpoint):
    alone = trained_names(adapted(tiny_checkpoint, tune_mm_mlp=False))
    assert all("lora" in name or "task_rows" in name for name in alone)
    vision = trained_names(adapted(tiny_checkpoint, tune_mm_vision=True))
    visual = {name for name, _ in load(tiny_checkpoint).named_parameters() if ".visual." in name}
    assert {name.replace(".modules_to_save.default", "") for name in vision if ".visual." in name} == visual
    with pytest.raises(TrainingInputError, match="--tune_mm_llm False freezes"):
        adapted(tiny_checkpoint, tune_mm_llm=False)


def test_the_layers_that_are_adapted_can_be_chosen(tiny_checkpoint):
    names = trained_names(adapted(tiny_checkpoint, lora_modules="q_proj,down_proj"))
    assert {name.split(".lora_")[0].split(".")[-1] for name in names if ".lora_" in name} == {"q_proj", "down_proj"}
    with pytest.raises(TrainingInputError, match="--lora_modules qkv: no such layer; there are down_proj, gate"):
        adapted(tiny_checkpoint, lora_modules="q_proj,qkv")


def test_adapters_can_be_frozen_by_name(tiny_checkpoint):
    model = adapted(tiny_checkpoint)
    freeze(model, "*.layers.0.*,*.merger.*")
    layer = "model.language_model.layers.1.self_attn.{}.lora_{}.weight"
    expected = {layer.format(part, ab) for part in ("q_proj", "k_proj", "v_proj", "o_proj") for ab in "AB"}
    found = set(trainable_names(model))
    assert {name for name in found if "lora" in name} == expected
    assert not any(".merger." in name for name in found) and any("deepstack_merger_list.0-1" in name for name in found)


def test_the_summary_counts_adapters_and_no_copies(tiny_checkpoint):
    model = adapted(tiny_checkpoint)
    lines = {line.split()[0]: line for line in trainable_report(model).splitlines()}
    adapters = sum(one.numel() for name, one in model.named_parameters() if ".lora_" in name)
    asked = ModelArguments(model_name_or_path=str(tiny_checkpoint), lora_enable=True, lora_r=4)
    assert Sizes.of(load(tiny_checkpoint), asked).adapters == adapters
    assert f"{adapters + 3 * 64:,} of" in lines["language"]
    assert " 0 of" in lines["vision"]
    trained, total = (part.split()[-1] for part in lines["merger"].replace(" trained", "").split(" of "))
    assert trained == total != "0"
    assert not Work.of(model).language_trained


def test_the_untrained_model_is_its_base(tiny_checkpoint):
    base = load(tiny_checkpoint).eval()
    with torch.no_grad():
        found, expected = adapted(tiny_checkpoint).eval()(**inputs()).logits, base(**inputs()).logits
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_merged_checkpoint_is_the_trained_model(trained, tiny_checkpoint, tmp_path):
    from transformers import Qwen3VLForConditionalGeneration

    model, folder = trained
    command = [sys.executable, TOOL, "--checkpoint", folder, "--output", tmp_path / "merged"]
    done = processes.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    merged, report = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "merged" / name).read_bytes() == (tiny_checkpoint / name).read_bytes()
    texts = [
        json.loads((path / "config.json").read_text())["text_config"] for path in (tmp_path / "merged", tiny_checkpoint)
    ]
    for name in ("rope_parameters", "rope_scaling", "rope_theta"):  # for old readers and new ones
        assert texts[0][name] == texts[1][name]
    added = json.loads((tmp_path / "merged" / "added_tokens.json").read_text())
    assert list(added.values()) == list(range(151_643, 151_672))
    assert Processor.from_pretrained(tmp_path / "merged").max_pixels == 9216
    base = Qwen3VLForConditionalGeneration.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        expected, found = model(**inputs()).logits, merged.eval()(**inputs()).logits
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(base.eval()(**inputs()).logits, expected, atol=1e-2)
    table, before = merged.get_input_embeddings().weight, base.get_input_embeddings().weight
    assert (table != before).any(1).nonzero().flatten().tolist() == ROWS
    assert merged.lm_head.weight is table


def test_a_scorer_loads_adapters_as_they_are(trained, tiny_checkpoint, tmp_path):
    model, folder = trained
    student, processor = load_student(folder, device="cpu", dtype="float32")
    assert processor.max_pixels == 9216 and not processor.added_task_tokens
    with torch.no_grad():
        assert torch.allclose(student.eval()(**inputs()).logits, model(**inputs()).logits, atol=1e-5)
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(CheckpointError, match="gone"):
        load_student(other, device="cpu")


def test_what_cannot_be_merged_is_named(trained, tiny_checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="no adapter of a run with --lora_enable"):
        merge_adapter(tiny_checkpoint, tmp_path / "out")
    with pytest.raises(
        TrainingInputError, match=r"no base model of .*gone: no such model folder; name it by --model_name_or_path"
    ):
        merge_adapter(trained[1], tmp_path / "out", str(tmp_path / "gone"))


LORA = [*IN_ORDER, "--lora_enable", "True", "--lora_r", 4, "--lora_dropout", 0, "--save_steps", 2]


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, tmp_path_factory):
    """Environment and output of a run in one process, its checkpoints kept."""
    folder = tmp_path_factory.mktemp("lora")
    environment = user_environment(make_instruct_data(folder / "data"), tiny_checkpoint, folder / "output")
    more = ["--gradient_accumulation_steps", 2, "--save_total_limit", 2]
    run([sys.executable, *TRAIN, *arguments(tiny_checkpoint, folder / "run", *LORA, *more)], environment)
    return environment, folder / "run"


def test_a_run_keeps_adapters_and_ends_in_an_ordinary_checkpoint(alone, tiny_checkpoint):
    _, output = alone
    assert weights(output).keys() == weights(tiny_checkpoint).keys()
    assert not torch.equal(*(weights(folder)[Q_PROJ] for folder in (output, tiny_checkpoint)))
    for folder in (output / "checkpoint-2", output / "adapter"):
        assert json.loads((folder / "added_tokens.json").read_text()).items() >= TASK_TOKEN_IDS.items()
        assert (folder / "adapter_model.safetensors").stat().st_size < 2e6
        assert not (folder / "model.safetensors").exists()
    assert Processor.from_pretrained(output).max_pixels == 50_176


def test_a_resumed_run_equals_the_undisturbed_one(alone, tiny_checkpoint, tmp_path):
    environment, single = alone
    resumed = tmp_path / "run"
    shutil.copytree(single / "checkpoint-2", resumed / "checkpoint-2")
    shutil.copy(single / "run.json", resumed)
    more = ["--gradient_accumulation_steps", 2, "--save_total_limit", 2]
    done = run([sys.executable, *TRAIN, *arguments(tiny_checkpoint, resumed, *LORA, *more)], environment)
    assert f"resuming from {resumed / 'checkpoint-2'}" in done.stderr
    assert history(resumed) == history(single)
    one, two = weights(single), weights(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_ranks_equal_one_under_zero3(alone, tiny_checkpoint, tmp_path):
    environment, single = alone
    more = ["--deepspeed", "scripts/zero3.json", "--loss_chunks", 3]
    more += ["--gradient_accumulation_steps", 1, "--ddp_backend", "gloo"]
    run([sys.executable, *TORCHRUN, 2, *TRAIN, *arguments(tiny_checkpoint, tmp_path, *LORA, *more)], environment)
    assert history(tmp_path) == pytest.approx(history(single), rel=1e-5)
    one, two = weights(single), weights(tmp_path)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], atol=3e-3), name
        assert (one[name] - two[name]).abs().mean() < 2e-5, name
