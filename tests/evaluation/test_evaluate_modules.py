"""The protocols as modules of the `evaluate` library."""

from dataclasses import asdict

import pytest

from transformers_tcm.evaluation import (
    CLEval,
    DetectionIoU,
    DotaEvaluation,
    EndToEnd,
    WordRecognition,
    WordSpotting,
    load_evaluate_module,
)
from transformers_tcm.instances import OrientedInstances

pytest.importorskip("evaluate")


@pytest.mark.parametrize(
    ("name", "metric_class", "texts"),
    [
        ("text_detection_iou", DetectionIoU, []),
        ("text_spotting_end_to_end", EndToEnd, ["texts"]),
        ("text_spotting_word_spotting", WordSpotting, ["texts"]),
        ("text_spotting_cleval", CLEval, ["texts"]),
    ],
)
def test_image_module_equals_the_class(golden_cases, name, metric_class, texts):
    images, _ = golden_cases[0]
    module, metric = load_evaluate_module(name), metric_class()
    for ground_truth, detections in images:
        metric.update(ground_truth, detections)
        found, truth = detections.to_json(), ground_truth.to_json()
        module.add_batch(
            predictions=[{key: found[key] for key in ["polygons", *texts]}],
            references=[{key: truth[key] for key in ["polygons", "ignore", *texts]}],
        )
    assert module.compute() == metric.compute().to_dict()


def test_dota_task1_equals_the_class():
    square = [[0, 0], [10, 0], [10, 10], [0, 10]]
    truth = {"polygons": [square, square], "labels": [0, 1], "ignore": [False, False]}
    found = {"polygons": [square, [[x + 8, y] for x, y in square]], "labels": [0, 1], "scores": [0.9, 0.8]}
    module, metric = load_evaluate_module("dota_task1"), DotaEvaluation(["ship", "car", "plane"])
    module.add_batch(predictions=[found], references=[truth])
    metric.update(OrientedInstances.from_json(truth), OrientedInstances.from_json(found))
    result = module.compute(class_names=["ship", "car", "plane"])
    assert result == metric.compute().to_dict()
    assert result["average_precision"] == {"ship": 1.0, "car": 0.0}


def test_word_recognition_equals_the_class():
    module, metric = load_evaluate_module("word_recognition"), WordRecognition()
    references, predictions = ["Sale", "Hello"], ["sale", "Hell"]
    module.add_batch(references=references, predictions=predictions)
    metric.update(references, predictions)
    assert module.compute() == asdict(metric.compute())


def test_image_without_detections_and_another_threshold():
    module = load_evaluate_module("text_detection_iou")
    quad = [[0, 0], [10, 0], [10, 10], [0, 10]]
    module.add_batch(
        predictions=[{"polygons": []}, {"polygons": [[[0, 0], [6, 0], [6, 10], [0, 10]]]}],
        references=[{"polygons": [quad], "ignore": [False]}] * 2,
    )
    result = module.compute(iou_threshold=0.7)
    assert (result["ground_truths"], result["detections"], result["found"]) == (2, 1, 0)


def test_unknown_module():
    with pytest.raises(ValueError, match=r"no evaluate module 'bleu'; there are .*text_detection_iou"):
        load_evaluate_module("bleu")
