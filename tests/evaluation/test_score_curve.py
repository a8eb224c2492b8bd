"""The curve over the scores, worked out by hand and against the protocol at every threshold."""

import numpy as np
import pytest

from transformers_tcm.evaluation import DetectionIoU
from transformers_tcm.evaluation.score_curve import score_curve
from transformers_tcm.instances import TextInstances


def row(*lefts: float, scores: list[float] | None = None, ignore: list[bool] | None = None) -> TextInstances:
    """Boxes of 40 x 20."""
    boxes = [[[left, 0], [left + 40, 0], [left + 40, 20], [left, 20]] for left in lefts]
    return TextInstances(boxes, scores=scores, ignore=ignore)


def test_by_hand() -> None:
    images = [
        # A hit at 0.75, nothing at 0.5, nothing that counts at 0.875.
        (row(0, 100, 200, ignore=[False, False, True]), row(0, 300, 200, scores=[0.75, 0.5, 0.875])),
        # A hit at 0.5, nothing at 0.75.
        (row(0), row(0, 300, scores=[0.5, 0.75])),
    ]
    curve = score_curve(images)
    assert curve.thresholds.tolist() == [0.75, 0.5]
    assert curve.precision.tolist() == [1 / 2, 2 / 4]
    assert curve.recall.tolist() == [1 / 3, 2 / 3]
    assert sorted(curve.matched) == [0.5, 0.75]
    assert sorted(curve.unmatched) == [0.5, 0.75]
    assert curve.best() == (0.5, pytest.approx(4 / 7))


def test_a_detection_that_loses_its_label_to_another_one_is_matched_above_that_ones_score() -> None:
    # Both lie on the label; the protocol takes the first of those that are left.
    curve = score_curve([(row(0), row(1, 0, scores=[0.5, 0.75]))])
    assert curve.recall.tolist() == [1, 1]
    assert curve.precision.tolist() == [1, 0.5]
    assert (curve.matched.tolist(), curve.unmatched.tolist()) == ([0.5], [0.75])


def test_every_point_is_the_protocol_with_that_threshold(golden_cases) -> None:
    compared = 0
    for images, _ in golden_cases:
        curve = score_curve(images)
        for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
            metric = DetectionIoU()
            for ground_truth, detections in images:
                metric.update(ground_truth, detections.select(detections.scores >= np.float32(threshold)))
            result = metric.compute()
            assert (precision, recall) == pytest.approx((result.precision, result.recall))
            compared += 1
    assert compared > 100


def test_nothing_found_and_nothing_to_find() -> None:
    for images in ([], [(row(0), row(scores=[]))]):
        curve = score_curve(images)
        assert len(curve.thresholds) == len(curve.recall) == len(curve.matched) == len(curve.unmatched) == 0
        assert curve.best() is None
    curve = score_curve([(row(), row(0, scores=[0.5]))])
    assert (curve.precision.tolist(), curve.recall.tolist()) == ([0], [0])


def test_scores_are_needed() -> None:
    with pytest.raises(ValueError, match="no `scores`"):
        score_curve([(row(0), row(0))])
