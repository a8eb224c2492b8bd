"""Average precision of oriented objects on cases small enough for a pencil."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from transformers_tcm.evaluation.oriented import DotaEvaluation

NAMES = ["plane", "ship"]


def square(x: float, y: float = 0.0, side: float = 10.0) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float32)


def objects(
    corners: list[float],
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    ignored: list[bool] | None = None,
) -> SimpleNamespace:
    return SimpleNamespace(
        polygons=[square(x) for x in corners],
        labels=np.array([0] * len(corners) if labels is None else labels, np.int64),
        scores=None if scores is None else np.array(scores),
        ignored=np.array([False] * len(corners) if ignored is None else ignored, bool),
    )


def evaluated(truth: SimpleNamespace, found: SimpleNamespace, **settings: str | float) -> dict:
    metric = DotaEvaluation(NAMES, **settings)
    metric.update(truth, found)
    return metric.compute().to_dict()


def test_exact_detections_are_worth_one_and_none_are_worth_zero() -> None:
    truth = objects([0, 20, 40], [0, 0, 1])
    assert evaluated(truth, objects([0, 20, 40], [0, 0, 1], [0.9, 0.8, 0.7]))["mean_average_precision"] == 1
    assert evaluated(truth, objects([], [], []))["mean_average_precision"] == 0


@pytest.mark.parametrize(("form", "expected"), [("11points", (6 * 1 + 5 * 2 / 3) / 11), ("area", (1 + 2 / 3) / 2)])
def test_precision_falls_with_a_wrong_detection_in_between(form: str, expected: float) -> None:
    result = evaluated(objects([0, 20]), objects([0, 100, 20], scores=[0.9, 0.8, 0.7]), form=form)
    assert result["average_precision"]["plane"] == pytest.approx(expected)


def test_the_second_detection_of_an_object_is_wrong() -> None:
    metric = DotaEvaluation(NAMES)
    metric.update(objects([0]), objects([1, 0], scores=[0.9, 0.8]))
    one = metric.compute().classes["plane"]
    assert one.precision.tolist() == [1, 0.5]
    assert one.recall.tolist() == [1, 1]


def test_only_the_best_object_is_tried_even_if_it_is_taken() -> None:
    # The second detection overlaps both objects enough, but more that one which the first has found.
    truth = objects([0, 3])
    metric = DotaEvaluation(NAMES, iou_threshold=0.3)
    metric.update(truth, objects([0, 1], scores=[0.9, 0.8]))
    assert metric.compute().classes["plane"].precision.tolist() == [1, 0.5]


def test_overlap_must_exceed_the_threshold() -> None:
    truth, found = objects([0]), objects([0], scores=[0.9])
    found.polygons = [np.array([[0, 0], [5, 0], [5, 10], [0, 10]], np.float32)]
    assert evaluated(truth, found)["mean_average_precision"] == 0
    assert evaluated(truth, found, iou_threshold=0.49)["mean_average_precision"] == 1


def test_difficult_objects_neither_help_nor_hurt_unless_they_count() -> None:
    truth = objects([0, 20], ignored=[False, True])
    found = objects([20, 0], scores=[0.9, 0.8])
    assert evaluated(truth, found)["mean_average_precision"] == 1
    missed = objects([0], scores=[0.9])
    assert evaluated(truth, missed)["mean_average_precision"] == 1
    assert evaluated(truth, missed, difficult="count", form="area")["mean_average_precision"] == 0.5


def test_classes_and_images_do_not_mix() -> None:
    metric = DotaEvaluation(NAMES)
    metric.update(objects([0]), objects([0], [1], [0.9]))
    metric.update(objects([50], [1]), objects([0], [0], [0.9]))
    assert metric.compute().mean_average_precision == 0


def test_classes_without_ground_truth_are_left_out_and_named() -> None:
    result = evaluated(objects([0]), objects([0, 50], [0, 1], [0.9, 0.8]))
    assert result["without_ground_truth"] == ["ship"]
    assert result["mean_average_precision"] == 1
    assert json.loads(json.dumps(evaluated(objects([]), objects([], [], []))))["mean_average_precision"] is None
    assert math.isnan(DotaEvaluation(NAMES).compute().mean_average_precision)


def test_reset_forgets_all_images() -> None:
    metric = DotaEvaluation(NAMES)
    metric.update(objects([0]), objects([50], scores=[0.9]))
    metric.reset()
    metric.update(objects([0]), objects([0], scores=[0.9]))
    assert metric.compute().mean_average_precision == 1


@pytest.mark.parametrize("settings", [{"form": "12points"}, {"difficult": "skip"}, {"class_names": []}])
def test_settings_without_sense_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        DotaEvaluation(**{"class_names": NAMES, **settings})


def test_incomplete_objects_are_refused() -> None:
    metric = DotaEvaluation(NAMES)
    with pytest.raises(ValueError, match="`scores`"):
        metric.update(objects([0]), objects([0]))
    with pytest.raises(ValueError, match="`class_names`"):
        metric.update(objects([0], [2]), objects([], [], []))
    unlabelled = objects([0])
    unlabelled.labels = None
    with pytest.raises(ValueError, match="`labels`"):
        metric.update(unlabelled, objects([], [], []))
