"""Average precision of `transformers_tcm.evaluation.DotaEvaluation` as a module of the `evaluate` library."""

from typing import Any

import evaluate
from datasets import Features, List, Value

from transformers_tcm.evaluation import DotaEvaluation
from transformers_tcm.instances import OrientedInstances

__all__ = ["DotaTask1"]

_DESCRIPTION = """Average precision of oriented objects by polygons, as Task 1 of DOTA evaluates it (IoU > 0.5)."""

_INPUTS = """
Args:
    predictions: for each image a dict with `polygons`, a list of [[x, y], ...] in pixels, `labels` and `scores`.
    references: for each image a dict with `polygons`, `labels` and `ignore`, a list of bool: difficult objects.
    class_names (`list[str]`): the name of each label.
    iou_threshold (`float`, *optional*, defaults to 0.5): the IoU that a match must exceed.
    form (`str`, *optional*, defaults to `"11points"`): that, or `"area"` under the precision-recall curve.
Returns:
    `mean_average_precision`, `average_precision` of each class that has objects, `without_ground_truth`, the others.
"""

_CITATION = """@inproceedings{xia2018dota,
  title={{DOTA}: A Large-scale Dataset for Object Detection in Aerial Images},
  author={Xia, Gui-Song and Bai, Xiang and Ding, Jian and others},
  booktitle={CVPR}, year={2018}
}"""


class DotaTask1(evaluate.Metric):
    """`evaluate` wrapper of `DotaEvaluation`."""

    def _info(self) -> evaluate.MetricInfo:
        shared = {"polygons": List(List(List(Value("float32"), length=2))), "labels": List(Value("int64"))}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=Features(
                {
                    "predictions": {**shared, "scores": List(Value("float64"))},
                    "references": {**shared, "ignore": List(Value("bool"))},
                }
            ),
        )

    def _compute(
        self,
        predictions: list[dict[str, Any]],
        references: list[dict[str, Any]],
        class_names: list[str],
        iou_threshold: float = 0.5,
        form: str = "11points",
    ) -> dict[str, Any]:
        metric = DotaEvaluation(class_names, iou_threshold=iou_threshold, form=form)
        for detections, ground_truth in zip(predictions, references, strict=True):
            metric.update(OrientedInstances.from_json(ground_truth), OrientedInstances.from_json(detections))
        return metric.compute().to_dict()
