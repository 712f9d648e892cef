"""A batch in one sequence, in bins or padded gives the logits and gradients of its samples one by one."""

import pytest
import torch

from dyneval.processing import IGNORE
from qwenvl.data import DatasetSource
from qwenvl.data.collator import Collator, dummy_example
from qwenvl.data.dataset import BadSample, InstructDataset
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import load_model, part_of, set_trainable

from .conftest import make_instruct_data


def fresh_model(checkpoint, attention="auto", chunks=2, **flags):
    arguments = ModelArguments(model_name_or_path=str(checkpoint), attn_implementation=attention, **flags)
    model = load_model(arguments, torch.float32, chunks)
    set_trainable(model, arguments)
    return model.train()


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return fresh_model(tiny_checkpoint, "sdpa", tune_mm_vision=True)


@pytest.fixture(scope="module")
def flat_model(tiny_checkpoint):
    return fresh_model(tiny_checkpoint, "packed_sdpa", tune_mm_vision=True)


@pytest.fixture
def instruct_data(tmp_path):
    return make_instruct_data(tmp_path / "data", pairs=3)


@pytest.fixture
def dataset(instruct_data, processor, tmp_path):
    source = DatasetSource(name="t2ia", annotation=instruct_data.t2ia, data=instruct_data.root)
    return InstructDataset([source], processor, model_max_length=8192, cache=tmp_path / "cache")


def collator(model, processor, flatten):
    return Collator(model.model.get_rope_index, dummy_example(processor), processor.tokenizer.pad_token_id, flatten)


def model_inputs(batch):
    return {name: value for name, value in batch.items() if name not in ("counts", "bad")}


def loss_and_gradients(model, batches, items):
    model.zero_grad()
    total = 0.0
    for batch in batches:
        output = model(**model_inputs(batch), num_items_in_batch=items)
        output.loss.backward()
        total += output.loss.item()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return total, gradients


def logits(model, batch):
    """Logits of all tokens that belong to samples, in order."""
    names = ("input_ids", "position_ids", "pixel_values", "image_grid_thw", "sample_lengths")
    inputs = {name: batch[name] for name in names if name in batch}
    mask = batch.get("attention_mask")
    with torch.no_grad():
        out = model(**inputs, attention_mask=mask, use_cache=False).logits
    return out[mask.bool()] if mask is not None else out[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager", "packed_sdpa"])
@pytest.mark.parametrize("flatten", [True, False], ids=["flat", "padded"])
def test_logits_equal_those_of_separate_samples(flatten, attention, dataset, processor, tiny_checkpoint):
    if attention == "packed_sdpa" and not flatten:
        pytest.skip("for flat batches only")
    model = fresh_model(tiny_checkpoint, attention).eval()
    items = [dataset[index] for index in range(4)]
    together = logits(model, collator(model, processor, flatten)(items))
    alone = []
    for item in items:
        (example,) = item
        inputs = {name: value for name, value in example.encoded.model_inputs().items()}
        with torch.no_grad():
            alone.append(model(**inputs).logits[0])
    assert torch.allclose(together, torch.cat(alone), atol=2e-5)


def test_a_flat_batch_without_restarting_positions_would_differ(dataset, processor, model):
    """The check above has teeth: row 0 of the positions is what keeps samples apart."""
    batch = collator(model, processor, True)([dataset[0], dataset[2]])
    right = logits(model.eval(), batch)
    batch["position_ids"] = batch["position_ids"][1:]
    assert (logits(model, batch) - right).abs().max() > 1e-3
    model.train()


@pytest.mark.parametrize("kind", ["flat", "flat, sample by sample", "padded"])
def test_gradients_equal_those_of_separate_samples(kind, dataset, processor, model, flat_model):
    separate_collate = collator(model, processor, True)
    together_model = flat_model if "sample by sample" in kind else model
    collate = collator(model, processor, kind != "padded")
    items = [dataset[index] for index in range(4)]
    batch = collate(items)
    targets = int((batch["labels"] != IGNORE).sum())
    loss, together = loss_and_gradients(together_model, [batch], targets)
    expected_loss, separate = loss_and_gradients(model, [separate_collate([item]) for item in items], targets)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert together.keys() == separate.keys()
    for name, gradient in together.items():
        assert torch.allclose(gradient, separate[name], atol=2e-6), name


def test_bins_equal_separate_samples(instruct_data, processor, tmp_path, dataset, model):
    source = DatasetSource(name="t2ia", annotation=instruct_data.t2ia, data=instruct_data.root)
    packed = InstructDataset([source], processor, model_max_length=700, packing=True, cache=tmp_path / "cache")
    collate = collator(model, processor, True)
    targets = sum(int((collate([dataset[index]])["labels"] != IGNORE).sum()) for index in range(len(dataset)))
    bins = [collate([packed[index]]) for index in range(len(packed))]
    assert len(bins) < len(dataset) / 2
    loss, _ = loss_and_gradients(model, bins, targets)
    expected, _ = loss_and_gradients(model, [collate([dataset[index]]) for index in range(len(dataset))], targets)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_images_still_runs_the_vision_tower(dataset, processor, model):
    """Every parameter gets a gradient, zero in the vision tower, and the loss is that of the text alone."""
    (text_only,) = (item for item in [dataset[1]] if item[0].encoded.pixel_values is None)
    for flatten in (True, False):
        batch = collator(model, processor, flatten)([text_only])
        assert batch["pixel_values"].shape == (4, 1536)
        assert batch["counts"].tolist()[0] == 1
        loss, gradients = loss_and_gradients(model, [batch], None)
        assert gradients.keys() == {name for name, _ in model.named_parameters()}
        vision = [gradient for name, gradient in gradients.items() if part_of(name) != "language"]
        assert all(not gradient.any() for gradient in vision)
        encoded = text_only[0].encoded
        with torch.no_grad():
            plain = model(input_ids=torch.tensor([encoded.input_ids])).logits[0, :-1]
        target = torch.tensor(encoded.labels[1:])
        expected = torch.nn.functional.cross_entropy(plain, target, ignore_index=IGNORE)
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_of_bad_samples_only_counts_them_and_changes_nothing(processor, model):
    batch = collator(model, processor, True)([[BadSample("a.json, sample 3: broken")]])
    assert batch["bad"] == ["a.json, sample 3: broken"]
    assert batch["counts"].tolist() == [0, 0, 0, 3]
    loss, gradients = loss_and_gradients(model, [batch], None)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


def test_attention_sample_by_sample_refuses_what_it_would_get_wrong(dataset, processor, flat_model):
    with pytest.raises(ValueError, match="packed_sdpa takes one sequence and no cache"):
        flat_model(**model_inputs(collator(flat_model, processor, False)([dataset[0], dataset[1]])))


def test_counts_and_tasks(dataset, processor, model):
    batch = collator(model, processor, True)([dataset[0], dataset[1]])
    samples, tokens, targets, padding = batch["counts"].tolist()
    assert (samples, padding) == (2, 0)
    assert tokens == batch["input_ids"].shape[1] == dataset.lengths[0] + dataset.lengths[1]
    assert targets == (batch["labels"] != IGNORE).sum()
    output = model(**model_inputs(batch))
    assert output.task_targets.sum() == targets
    assert output.task_targets[[0, 2]].tolist() == [0, 0]
    assert output.task_losses.sum() / targets == pytest.approx(output.loss.item(), rel=1e-5)
    padded = collator(model, processor, False)([dataset[0], dataset[1]])
    assert padded["counts"][3] == padded["input_ids"].numel() - tokens > 0
