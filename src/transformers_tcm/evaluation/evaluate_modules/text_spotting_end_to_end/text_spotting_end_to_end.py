"""`transformers_tcm.evaluation.EndToEnd` as a module of the `evaluate` library."""

from typing import Any

import evaluate

from transformers_tcm.evaluation import EndToEnd
from transformers_tcm.evaluation.evaluate_support import image_features, score_images

__all__ = ["TextSpottingEndToEnd"]

_DESCRIPTION = (
    """Precision, recall and hmean of words that are found (IoU > 0.5) and read, as ICDAR 2015 evaluates them."""
)

_INPUTS = """
Args:
    predictions: for each image a dict with `polygons`, a list of [[x, y], ...] in pixels, and `texts`.
    references: for each image a dict with `polygons`, `texts` and `ignore`, a list of bool: regions that do not count.
Returns:
    `precision`, `recall`, `hmean`, the totals `found`, `correct`, `ground_truths`, `detections`, and `images`, the
    same with the matched `pairs` for each image.
"""

_CITATION = """@inproceedings{karatzas2015icdar,
  title={{ICDAR} 2015 Competition on Robust Reading},
  author={Karatzas, Dimosthenis and Gomez-Bigorda, Lluis and Nicolaou, Anguelos and others},
  booktitle={ICDAR}, pages={1156--1160}, year={2015}
}"""


class TextSpottingEndToEnd(evaluate.Metric):
    """`evaluate` wrapper of `EndToEnd`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=image_features(texts=True),
        )

    def _compute(self, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
        return score_images(EndToEnd(), predictions, references)
