"""`transformers_tcm.evaluation.CLEval` as a module of the `evaluate` library."""

from typing import Any

import evaluate

from transformers_tcm.evaluation import CLEval
from transformers_tcm.evaluation.evaluate_support import image_features, score_images

__all__ = ["TextSpottingCLEval"]

_DESCRIPTION = """Character-level precision, recall and hmean of text detection and reading on quads."""

_INPUTS = """
Args:
    predictions: for each image a dict with `polygons`, a list of [[x, y], ...] in pixels, and `texts`.
    references: for each image a dict with `polygons`, `texts` and `ignore`, a list of bool: regions that do not count.
Returns:
    `detection` and `end_to_end`, each with `precision`, `recall`, `hmean`, totals in characters and `images`, and the
    counts `splits`, `merges`, `overlapped_characters`.
"""

_CITATION = """@inproceedings{baek2020cleval,
  title={{CLEval}: Character-Level Evaluation for Text Detection and Recognition Tasks},
  author={Baek, Youngmin and Nam, Daehyun and Park, Sungrae and Lee, Junyeop and Shin, Seung and Baek, Jeonghun and
    Lee, Chae Young and Lee, Hwalsuk},
  booktitle={CVPR Workshops}, year={2020}
}"""


class TextSpottingCLEval(evaluate.Metric):
    """`evaluate` wrapper of `CLEval`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=image_features(texts=True),
        )

    def _compute(self, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
        return score_images(CLEval(), predictions, references)
