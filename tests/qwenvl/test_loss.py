"""The loss is the model's own, but no table of logits larger than a piece is ever made."""

import pytest
import torch

from dyneval.processing import IGNORE
from qwenvl.train.loss import target_losses


@pytest.fixture
def states():
    torch.manual_seed(0)
    hidden = torch.randn(2, 50, 16, requires_grad=True)
    labels = torch.randint(0, 1000, (2, 50))
    labels[torch.rand(2, 50) < 0.6] = IGNORE
    head = torch.nn.Linear(16, 1000, bias=False)
    return hidden, labels, head


def plain(hidden, labels, head):
    logits = head(hidden[:, :-1]).flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("chunks", [1, 3, 8, 200])
def test_values_and_gradients_equal_the_plain_loss(chunks, states):
    hidden, labels, head = states
    expected = torch.autograd.grad(plain(*states), [hidden, head.weight])
    losses, mask = target_losses(hidden, labels, head, chunks)
    assert losses.shape == (int(mask.sum()),)
    assert losses.sum().item() == pytest.approx(plain(*states).item(), rel=1e-6)
    for ours, theirs in zip(torch.autograd.grad(losses.sum(), [hidden, head.weight]), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_head_is_called_equally_often_whatever_the_number_of_targets(states):
    """Under ZeRO-3 each call gathers weights from all ranks: a rank with fewer calls would leave the others waiting."""
    hidden, labels, head = states
    calls = []
    head.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[0]))
    target_losses(hidden, labels, head, 8)
    full, calls[:] = list(calls), []
    losses, _ = target_losses(hidden, torch.full_like(labels, IGNORE), head, 8)
    assert len(calls) == len(full) == 8
    assert max(full) - min(full) <= 1 and sum(full) == (labels[:, 1:] != IGNORE).sum()
    losses.sum().backward()
    assert not hidden.grad.any()
    assert not head.weight.grad.any()
