"""`transformers_tcm.evaluation.WordRecognition` as a module of the `evaluate` library."""

from dataclasses import asdict
from typing import Any

import datasets
import evaluate

from transformers_tcm.evaluation import WordRecognition

__all__ = ["WordRecognitionMetric"]

_DESCRIPTION = """Word accuracy, 1-NED (normalised edit distance) and character error rate of read words."""

_INPUTS = """
Args:
    predictions: the words that were read.
    references: the true words.
Returns:
    `accuracy`, `accuracy_ignore_case`, `one_minus_ned`, `character_error_rate` and the number of `words`.
"""


class WordRecognitionMetric(evaluate.Metric):
    """`evaluate` wrapper of `WordRecognition`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        metric = WordRecognition()
        metric.update(references, predictions)
        return asdict(metric.compute())
