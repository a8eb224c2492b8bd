"""Rotated boxes: overlaps against shapely, gradients against finite differences, suppression against its definition."""

import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.rotated_boxes import (
    boxes_to_quads,
    pairwise_rotated_iou,
    quads_to_boxes,
    regularize_boxes,
    rotated_iou,
    rotated_nms,
    wrap_angle,
)

PAIRS = 1000
KINDS = [
    "anywhere",
    "identical",
    "other_notation",
    "contained",
    "touching_side",
    "touching_corner",
    "thin",
    "tiny",
    "nearly_parallel",
    "far_from_origin",
]


def random_boxes(count: int, generator: np.random.Generator) -> np.ndarray:
    center, sides = generator.uniform(0, 60, (count, 2)), generator.uniform(4, 50, (count, 2))
    return np.hstack([center, sides, generator.uniform(-4, 4, (count, 1))])


def beside(boxes: np.ndarray, along: float, across: float) -> np.ndarray:
    """The same boxes, moved by multiples of their sides along their own axes."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    x, y = along * boxes[:, 2], across * boxes[:, 3]
    return boxes + np.stack([cos * x - sin * y, sin * x + cos * y, 0 * x, 0 * x, 0 * x], axis=1)


def pairs_of(kind: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(KINDS.index(kind))
    first, second = random_boxes(PAIRS, generator), random_boxes(PAIRS, generator)
    if kind == "identical":
        second = first.copy()
    elif kind == "other_notation":
        second = first[:, [0, 1, 3, 2, 4]] + [0, 0, 0, 0, math.pi / 2]
        second[::2, 2:4], second[::2, 4] = first[::2, 2:4], first[::2, 4] + math.pi
    elif kind == "contained":
        second = first * [1, 1, 0.3, 0.4, 1] + generator.uniform(-0.5, 0.5, (PAIRS, 5))
    elif kind == "touching_side":
        second = beside(first, 1, 0)
    elif kind == "touching_corner":
        second = beside(first, 1, 1)
    elif kind == "thin":
        first[:, 3], second[:, 3] = generator.uniform(0.01, 0.5, (2, PAIRS))
    elif kind == "tiny":
        first[:, :4], second[:, :4] = first[:, :4] * 1e-2, second[:, :4] * 1e-2
    elif kind == "nearly_parallel":
        second = beside(first, 0.3, 0)
        second[:, 4] += generator.choice([-1, 1], PAIRS) * 10 ** generator.uniform(-12, -3, PAIRS)
    elif kind == "far_from_origin":
        first[:, :2], second[:, :2] = first[:, :2] + 1e5, second[:, :2] + 1e5
    return first, second


def exact_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shapes = [shapely.polygons(boxes_to_quads(torch.from_numpy(boxes)).numpy()) for boxes in (first, second)]
    shared = shapely.area(shapely.intersection(*shapes))
    return shared / (shapely.area(shapes[0]) + shapely.area(shapes[1]) - shared)


@pytest.mark.parametrize("kind", KINDS)
def test_iou_of_ten_thousand_pairs_equals_shapely(kind: str) -> None:
    first, second = pairs_of(kind)
    # Shapely now and then finds nothing shared by outlines that are equal but for rounding.
    expected = np.ones(PAIRS) if kind in ("identical", "other_notation") else exact_iou(first, second)
    for one, other in ((first, second), (second, first)):
        iou = rotated_iou(torch.from_numpy(one), torch.from_numpy(other)).numpy()
        np.testing.assert_allclose(iou, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ["identical", "other_notation"])
def test_equal_regions_in_single_precision_have_iou_one(kind: str) -> None:
    first, second = (torch.from_numpy(boxes).float() for boxes in pairs_of(kind))
    np.testing.assert_allclose(rotated_iou(first, second), 1, rtol=0, atol=2e-6)


def test_iou_has_exact_gradients() -> None:
    first, second = (torch.from_numpy(boxes[:40]).requires_grad_() for boxes in pairs_of("anywhere"))
    assert torch.autograd.gradcheck(rotated_iou, (first, second), eps=1e-6, atol=1e-6)


def test_iou_of_parallel_boxes_has_exact_gradients() -> None:
    first = torch.tensor([[0, 0, 10, 8, 0.3], [0, 0, 10, 8, 0.3], [5, 1, 6, 2, 0.0]], dtype=torch.float64)
    moved = torch.tensor([[3, 2, 0, 0, 0], [4, 1, 1, -5, math.pi / 2], [1, 1, 9, 3, math.pi]], dtype=torch.float64)
    leaves = first.requires_grad_(), (first.detach() + moved).requires_grad_()
    assert torch.autograd.gradcheck(rotated_iou, leaves, eps=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_everywhere(kind: str) -> None:
    first, second = (torch.from_numpy(boxes).float().requires_grad_() for boxes in pairs_of(kind))
    rotated_iou(first, second).sum().backward()
    for leaf in (first, second):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("sides", [(0.0, 3.0), (0.0, 0.0), (-1.0, 3.0)])
def test_boxes_without_an_area_overlap_nothing(sides: tuple[float, float]) -> None:
    flat = torch.tensor([[5.0, 5.0, *sides, 0.3]], requires_grad=True)
    iou = rotated_iou(flat, torch.tensor([[5.0, 5.0, 10.0, 10.0, 0.0]]))
    iou.sum().backward()
    assert iou.item() == 0
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_pairwise_iou_equals_that_of_each_pair() -> None:
    first, second = (torch.from_numpy(boxes) for boxes in pairs_of("anywhere"))
    expected = rotated_iou(first[:50].repeat_interleave(30, dim=0), second[:30].repeat(50, 1)).view(50, 30)
    np.testing.assert_allclose(pairwise_rotated_iou(first[:50], second[:30]), expected, rtol=0, atol=1e-12)
    assert pairwise_rotated_iou(first[:0], second[:30]).shape == (0, 30)
    assert pairwise_rotated_iou(first[:3], second[:0]).shape == (3, 0)


@given(st.floats(-1e3, 1e3))
def test_wrapped_angles_are_the_same_direction_in_range(angle: float) -> None:
    for dtype in (torch.float32, torch.float64):
        wrapped = wrap_angle(torch.tensor(angle, dtype=dtype)).item()
        assert -math.pi / 2 - 1e-6 <= wrapped < math.pi / 2
        assert abs(math.sin(wrapped - torch.tensor(angle, dtype=dtype).item())) < 1e-3


def test_regularized_boxes_are_le90_and_the_same_regions() -> None:
    boxes = torch.from_numpy(random_boxes(500, np.random.default_rng(7)))
    regular = regularize_boxes(boxes)
    assert (regular[:, 2] >= regular[:, 3]).all()
    assert (regular[:, 4].abs() <= math.pi / 2).all()
    np.testing.assert_allclose(rotated_iou(boxes, regular), 1, rtol=0, atol=1e-9)
    torch.testing.assert_close(regularize_boxes(regular), regular)


def test_squares_are_turned_by_a_right_angle() -> None:
    square = torch.tensor([[0.0, 0.0, 4.0, 4.0, 0.0], [0.0, 0.0, 4.0, 4.0, -math.pi / 2]])
    np.testing.assert_allclose(regularize_boxes(square)[:, 4], [-math.pi / 2, 0], atol=1e-6)


def test_corners_run_clockwise_from_the_top_left_one() -> None:
    quad = boxes_to_quads(torch.tensor([10.0, 20.0, 6.0, 4.0, 0.0]))
    assert quad.tolist() == [[7, 18], [13, 18], [13, 22], [7, 22]]
    turned = boxes_to_quads(torch.tensor([0.0, 0.0, 6.0, 4.0, math.pi / 2]))
    np.testing.assert_allclose(turned[0], [2, -3], atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_quads_of_boxes_give_the_boxes_back(reverse: bool) -> None:
    boxes = regularize_boxes(torch.from_numpy(random_boxes(300, np.random.default_rng(3))))
    quads = np.roll(boxes_to_quads(boxes).numpy()[:, :: -1 if reverse else 1], 1, axis=1)
    np.testing.assert_allclose(quads_to_boxes(quads)[:, :4], boxes[:, :4], rtol=0, atol=1e-9)
    turned = wrap_angle(torch.from_numpy(quads_to_boxes(quads))[:, 4] - boxes[:, 4])
    np.testing.assert_allclose(turned, 0, atol=1e-9)


def test_the_smallest_rectangle_is_no_larger_than_that_of_opencv() -> None:
    import cv2

    points = np.random.default_rng(5).uniform(0, 100, (200, 4, 2)).astype(np.float32)
    areas = quads_to_boxes(points)[:, 2:4].astype(np.float64).prod(axis=1)
    theirs = np.array([np.prod(cv2.minAreaRect(quad)[1]) for quad in points])
    np.testing.assert_allclose(areas, theirs, rtol=1e-4)


def test_points_on_a_line_and_no_points_make_boxes_too() -> None:
    line = np.array([[[0, 0], [2, 2], [4, 4], [1, 1]]], np.float32)
    np.testing.assert_allclose(quads_to_boxes(line), [[2, 2, 32**0.5, 0, math.pi / 4]], atol=1e-5)
    np.testing.assert_allclose(quads_to_boxes(np.full((1, 4, 2), 3.0))[0, :4], [3, 3, 0, 0])
    assert quads_to_boxes(np.zeros((0, 4, 2), np.float32)).shape == (0, 5)


def suppressed_one_by_one(iou: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if all(labels[other] != labels[index] or iou[other, index] <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("block", [7, 1000])
def test_nms_keeps_what_no_better_box_of_its_class_overlaps(
    threshold: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers_tcm.rotated_boxes.BLOCK", block)
    generator = np.random.default_rng(11)
    boxes = random_boxes(200, generator) * [2, 2, 1, 0.5, 0.1]
    # Scores in steps, so that many are equal.
    scores, labels = generator.integers(0, 20, 200) / 20, generator.integers(0, 3, 200)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels)
    iou = pairwise_rotated_iou(tensors[0], tensors[0]).numpy()
    kept = rotated_nms(*tensors, threshold).tolist()
    assert kept == suppressed_one_by_one(iou, scores, labels, threshold)
    assert 20 < len(kept) < 200


def test_nms_of_nothing_keeps_nothing() -> None:
    assert rotated_nms(torch.zeros(0, 5), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []
