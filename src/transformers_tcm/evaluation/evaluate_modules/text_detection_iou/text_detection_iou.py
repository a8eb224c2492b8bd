"""The ICDAR-2015 IoU protocol of `transformers_tcm.evaluation.DetectionIoU` as a module of the `evaluate` library."""

from typing import Any

import evaluate

from transformers_tcm.evaluation import DetectionIoU
from transformers_tcm.evaluation.evaluate_support import image_features, score_images

__all__ = ["TextDetectionIoU"]

_DESCRIPTION = """Precision, recall and hmean of text detection by polygons, as ICDAR 2015 evaluates it (IoU > 0.5)."""

_INPUTS = """
Args:
    predictions: for each image a dict with `polygons`, a list of [[x, y], ...] in pixels.
    references: for each image a dict with `polygons` and `ignore`, a list of bool: regions that do not count.
    iou_threshold (`float`, *optional*, defaults to 0.5): the IoU that a match must exceed.
    area_precision_threshold (`float`, *optional*, defaults to 0.5): the share of a detection inside an ignored region
        above which it does not count.
Returns:
    `precision`, `recall`, `hmean`, the totals `found`, `correct`, `ground_truths`, `detections`, and `images`, the
    same with the matched `pairs` for each image.
"""

_CITATION = """@inproceedings{karatzas2015icdar,
  title={{ICDAR} 2015 Competition on Robust Reading},
  author={Karatzas, Dimosthenis and Gomez-Bigorda, Lluis and Nicolaou, Anguelos and others},
  booktitle={ICDAR}, pages={1156--1160}, year={2015}
}"""


class TextDetectionIoU(evaluate.Metric):
    """`evaluate` wrapper of `DetectionIoU`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=image_features(texts=False),
        )

    def _compute(
        self,
        predictions: list[dict[str, Any]],
        references: list[dict[str, Any]],
        iou_threshold: float = 0.5,
        area_precision_threshold: float = 0.5,
    ) -> dict[str, Any]:
        return score_images(DetectionIoU(iou_threshold, area_precision_threshold), predictions, references)
