"""The protocols as modules of the `evaluate` library."""

import pytest

from transformers_tcm.evaluation import DetectionIoU, load_evaluate_module

pytest.importorskip("evaluate")


def test_text_detection_iou_equals_the_class(golden_cases):
    images, _ = golden_cases[0]
    module, metric = load_evaluate_module("text_detection_iou"), DetectionIoU()
    for ground_truth, detections in images:
        metric.update(ground_truth, detections)
        module.add_batch(
            predictions=[{"polygons": detections.to_json()["polygons"]}],
            references=[{name: ground_truth.to_json()[name] for name in ("polygons", "ignore")}],
        )
    assert module.compute() == metric.compute().to_dict()


def test_text_detection_iou_without_detections():
    module = load_evaluate_module("text_detection_iou")
    module.add_batch(
        predictions=[{"polygons": []}], references=[{"polygons": [[[0, 0], [9, 0], [9, 9]]], "ignore": [False]}]
    )
    result = module.compute(iou_threshold=0.7)
    assert (result["ground_truths"], result["detections"], result["hmean"]) == (1, 0, 0.0)


def test_unknown_module():
    with pytest.raises(ValueError, match=r"no evaluate module 'bleu'; there are .*text_detection_iou"):
        load_evaluate_module("bleu")
