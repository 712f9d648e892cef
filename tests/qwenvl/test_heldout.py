"""The loss on held-out data is that of its targets, however they are batched and shared out."""

import pytest
import torch

from dyneval.processing import IGNORE
from qwenvl.data import DatasetSource, split_list
from qwenvl.data.collator import Collator, dummy_example
from qwenvl.data.dataset import InstructDataset, RankShare
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import load_model
from qwenvl.train.parsing import TrainingArguments
from qwenvl.train.trainer import DynEvalTrainer


@pytest.fixture
def source(instruct_data):
    return DatasetSource(name="t2ia", annotation=instruct_data.t2ia, data=instruct_data.root)


@pytest.fixture
def build(source, processor, tmp_path):
    def build(**options):
        held_out = split_list([source], "heldout")
        return InstructDataset(held_out, processor, model_max_length=8192, cache=tmp_path / "cache", **options)

    return build


@pytest.fixture
def trainer_of(tiny_checkpoint, processor, tmp_path):
    def trainer_of(dataset, flatten=True, batch_size=4, max_bad_samples=0):
        arguments = ModelArguments(model_name_or_path=str(tiny_checkpoint))
        model = load_model(arguments, torch.float32, 2, flat=flatten)
        output = {"output_dir": str(tmp_path / "run"), "use_cpu": True, "report_to": "none"}
        sizes = {"per_device_eval_batch_size": batch_size, "dataloader_num_workers": 0}
        return DynEvalTrainer(
            model=model,
            args=TrainingArguments(**output, **sizes, eval_split="heldout"),
            train_dataset=dataset,
            eval_dataset=dataset,
            data_collator=Collator(
                model.model.get_rope_index, dummy_example(processor), processor.tokenizer.pad_token_id, flatten
            ),
            processing_class=processor,
            max_bad_samples=max_bad_samples,
        )

    return trainer_of


def losses_one_by_one(model, dataset):
    """Token losses by task from the plain logits of each sample alone."""
    found = {}
    for index in range(len(dataset)):
        for example in dataset[index]:
            with torch.no_grad():
                logits = model(**example.encoded.model_inputs()).logits[0, :-1]
            targets = torch.tensor(example.encoded.labels[1:])
            losses = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
            found.setdefault(example.task, []).extend(losses[targets != IGNORE].tolist())
    return found


@pytest.mark.parametrize(
    ("packing", "flatten", "batch_size"), [(False, True, 1), (False, True, 4), (False, False, 2), (True, True, 1)]
)
def test_the_loss_does_not_depend_on_batches(packing, flatten, batch_size, build, trainer_of):
    trainer = trainer_of(build(packing=packing), flatten, batch_size)
    expected = losses_one_by_one(trainer.model.eval(), build())
    metrics = trainer.evaluate()
    every = [loss for losses in expected.values() for loss in losses]
    assert metrics["eval_loss"] == pytest.approx(sum(every) / len(every), rel=1e-5)
    assert metrics["eval_loss_t2ia"] == pytest.approx(sum(expected[1]) / len(expected[1]), abs=6e-5)
    assert metrics["eval_loss_evaluation"] == pytest.approx(sum(expected[3]) / len(expected[3]), abs=6e-5)
    assert metrics["eval_target_tokens"] == len(every)
    assert trainer.meter.totals().counts["samples"] == 0, "held-out samples are no training"


def test_each_sample_is_evaluated_by_one_rank_in_equally_many_batches(build):
    dataset = build()
    shares = [RankShare(dataset, rank, 2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [2, 2]
    items = [share[index] for index in range(2) for share in shares]
    assert [len(item) for item in items] == [1, 1, 1, 0]
    assert [item[0].encoded.input_ids for item in items[:3]] == [
        dataset[index][0].encoded.input_ids for index in range(3)
    ]
    assert RankShare(dataset, 3, 4)[0] == []


def test_unreadable_held_out_samples_are_counted_against_the_cap(build, trainer_of, instruct_data, tmp_path):
    image = instruct_data.root / "images" / "0.png"
    image.write_bytes(image.read_bytes()[:-40])
    trainer = trainer_of(build(), max_bad_samples=1)
    for _ in range(2):
        assert trainer.evaluate()["eval_target_tokens"] > 0
    rejects = (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()
    assert len(rejects) == 1 and "t2ia_heldout.json, sample 0" in rejects[0]
    with pytest.raises(TrainingInputError, match="allows no more"):
        trainer_of(build()).evaluate()


def test_a_split_is_a_file_beside_the_training_file(source, instruct_data):
    (found,) = split_list([source], "heldout%50")
    assert (found.annotation.name, found.rate, found.data) == ("t2ia_heldout.json", 0.5, instruct_data.root)
    with pytest.raises(TrainingInputError, match=r"split 'test' of t2ia: no such file: .*t2ia_test\.json"):
        split_list([source], "test")
    with pytest.raises(TrainingInputError, match="is no name of a split"):
        split_list([source], "../other")


def test_an_evaluation_without_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="name a split by --eval_split"):
        TrainingArguments(output_dir=str(tmp_path), use_cpu=True, eval_strategy="steps")
