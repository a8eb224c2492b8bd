"""Loss terms by hand."""

import math

import pytest
import torch

from transformers_tcm.models.tcm.losses_tcm import balanced_binary_cross_entropy, dice_loss


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


PROBABILITIES = maps(0.9, 0.8, 0.5, 0.4, 0.1, 0.7)
TARGETS = maps(1, 0, 0, 0, 0, 0)
MASK = maps(1, 1, 1, 1, 1, 0)


@pytest.mark.parametrize(("ratio", "hardest"), [(1, [0.8]), (2, [0.8, 0.5]), (3, [0.8, 0.5, 0.4])])
def test_the_hardest_negatives_count(ratio: float, hardest: list[float]) -> None:
    """For one positive, `ratio` negatives of the highest loss; what is masked out is none of them."""
    expected = -(math.log(0.9) + sum(math.log(1 - p) for p in hardest)) / (1 + ratio)
    loss = balanced_binary_cross_entropy(PROBABILITIES, TARGETS, MASK, ratio)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_more_negatives_than_there_are() -> None:
    expected = -sum(math.log(p) for p in (0.9, 0.2, 0.5, 0.6, 0.9)) / 5
    assert balanced_binary_cross_entropy(PROBABILITIES, TARGETS, MASK, 100).item() == pytest.approx(expected, rel=1e-5)


def test_easy_negatives_get_no_gradient() -> None:
    probabilities = PROBABILITIES.clone().requires_grad_()
    balanced_binary_cross_entropy(probabilities, TARGETS, MASK, 2).backward()
    assert (probabilities.grad != 0).flatten().tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize(("targets", "mask"), [(TARGETS * 0, MASK), (TARGETS, MASK * 0)])
def test_nothing_to_learn_from(targets: torch.Tensor, mask: torch.Tensor) -> None:
    probabilities = PROBABILITIES.clone().requires_grad_()
    loss = balanced_binary_cross_entropy(probabilities, targets, mask, 3)
    loss.backward()
    assert loss.item() == 0
    assert not probabilities.grad.any()


def test_dice_looks_at_the_whole_batch() -> None:
    expected = 1 - 2 * 0.9 / (0.9 + 0.8 + 0.5 + 0.4 + 0.1 + 1)
    assert dice_loss(PROBABILITIES, TARGETS, MASK).item() == pytest.approx(expected, rel=1e-5)
