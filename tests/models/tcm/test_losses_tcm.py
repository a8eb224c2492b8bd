"""Loss terms by hand."""

import math

import pytest
import torch

from transformers_tcm.models.tcm import losses_tcm
from transformers_tcm.models.tcm.losses_tcm import (
    balanced_binary_cross_entropy,
    dice_loss,
    kth_largest,
    sum_of_largest,
)


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


def test_losses_by_image_are_the_mean_of_those_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 1, 8, 8, generator=generator)
    targets = (torch.rand(3, 1, 8, 8, generator=generator) > torch.tensor([0.9, 0.5, 1.0])[:, None, None, None]).float()
    mask = (torch.rand(3, 1, 8, 8, generator=generator) > 0.3).float()
    for loss in (lambda *one, **how: balanced_binary_cross_entropy(*one, 3, **how), dice_loss):
        apart = [loss(*image) for image in zip(*(x.split(1) for x in (probabilities, targets, mask)), strict=True)]
        together = loss(probabilities, targets, mask, by_image=True)
        assert together.item() == pytest.approx(float(torch.stack(apart).mean()), rel=1e-6)


VALUES = torch.tensor([[-3.5, 2.0, 0.0, 2.0, -torch.inf, 1e-30, 7.0], [-1.0, -2.0, -0.5, -1.0, -1.0, -8.0, -1e-9]])


@pytest.mark.parametrize("counts", [[1, 1], [3, 3], [7, 4], [5, 7]])
def test_the_kth_largest_without_knowing_k_is_that_of_topk(counts: list[int]) -> None:
    expected = [row.topk(count).values[-1].item() for row, count in zip(VALUES, counts, strict=True)]
    assert kth_largest(VALUES, torch.tensor(counts)).tolist() == expected
    # As on an accelerator.
    found = losses_tcm._bisected(losses_tcm._ordered(VALUES), torch.tensor(counts))
    assert losses_tcm._ordered(found.view(torch.float32)).view(torch.float32).tolist() == expected


def test_nothing_is_among_the_largest_none() -> None:
    values = VALUES[:, 1:4].clone().requires_grad_()
    assert kth_largest(values.detach(), torch.tensor([0, 2])).tolist() == [torch.inf, -1.0]
    sums = sum_of_largest(values, torch.tensor([0, 2]))
    assert sums.tolist() == [0.0, -1.5]
    sums.sum().backward()
    assert values.grad.tolist() == [[0, 0, 0], [0, 1, 1]]


def test_equal_values_share_the_gradient_of_those_that_are_left() -> None:
    values = torch.tensor([[5.0, 2.0, 2.0, 1.0]], requires_grad=True)
    sums = sum_of_largest(values, torch.tensor([2]))
    sums.sum().backward()
    assert sums.tolist() == [7.0]
    assert values.grad.tolist() == [[1, 0.5, 0.5, 0]]
