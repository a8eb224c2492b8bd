"""Boxes: overlaps against those of shapely, suppression against the definition, the focal loss by hand."""

import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.models.tcm.heads.boxes import box_iou, focal_loss, generalized_box_iou, nms


def test_generalised_iou_by_hand() -> None:
    one = torch.tensor([[0.0, 0, 10, 10]])
    for other, expected in (
        ([0.0, 0, 10, 10], 1),
        ([5.0, 0, 15, 10], 1 / 3),
        ([5.0, 5, 15, 15], 25 / 175 - 50 / 225),
        ([20.0, 0, 30, 10], -1 / 3),
    ):
        assert float(generalized_box_iou(one, torch.tensor([other]))) == pytest.approx(expected, abs=1e-6)


def test_pairs_are_broadcast() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    pairs = generalized_box_iou(boxes[:, None], boxes)
    assert pairs.shape == (3, 3)
    assert torch.allclose(pairs.diagonal(), torch.ones(3))
    assert torch.allclose(pairs, pairs.T)
    np.testing.assert_allclose(box_iou(boxes.numpy(), boxes.numpy())[0], [1, 1 / 3, 0], atol=1e-6)


def test_focal_loss_by_hand() -> None:
    losses = focal_loss(torch.zeros(2), torch.tensor([1.0, 0.0]))
    np.testing.assert_allclose(losses, [0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)], rtol=1e-6)
    assert float(focal_loss(torch.tensor(10.0), torch.tensor(1.0))) < 1e-8


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 20)] * 2), max_size=25),
    st.sampled_from([0.0, 0.3, 0.7]),
)
def test_nms_is_the_greedy_one(rows: list[tuple[int, int, int, int]], max_overlap: float) -> None:
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in rows], np.float32).reshape(-1, 4)
    kept: list[int] = []
    for index, box in enumerate(boxes):
        first = shapely.box(*box)
        others = [shapely.box(*boxes[other]) for other in kept]
        if all(first.intersection(one).area <= max_overlap * first.union(one).area + 1e-9 for one in others):
            kept.append(index)
    assert nms(boxes, np.linspace(1, 0.1, len(boxes)), max_overlap).tolist() == kept
