"""Protocols by name, in the form in which figures on each data set are published.

DetEval has one form for ICDAR 2013 and another for Total-Text. Lines of CTW1500 all count when detection alone is
judged, illegible ones too. Words of Total-Text count end to end as in word spotting, without digits and short words:
the script of ABCNet (Y. Liu et al., CVPR 2020), which papers on spotting use, sets that flag for this set alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias

from ..instances import TextInstances
from .cleval import CLEval, CLEvalResult
from .deteval import DetEvalICDAR2013, DetEvalTotalText
from .end_to_end import EndToEnd, WordSpotting
from .iou import BestOfThresholdsIoU, BestOfThresholdsResult, DetectionIoU, EveryLineIoU
from .pascal import PascalTotalText
from .scores import EvaluationResult

__all__ = [
    "CONVENTIONS",
    "READING_PROTOCOLS",
    "Judge",
    "Protocols",
    "figures_of",
]


class Judge(Protocol):
    """What every protocol can do."""

    def update(self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int | None = None) -> Any:
        """Add an image."""

    def compute(self) -> Any:
        """Totals over the images so far."""


Protocols: TypeAlias = Mapping[str, Callable[[], Judge]]

_DETECTION: Protocols = {"iou": DetectionIoU, "best-iou": BestOfThresholdsIoU}
_GENERAL: Protocols = {
    **_DETECTION,
    "cleval": CLEval,
    "e2e": EndToEnd,
    "word-spotting": WordSpotting,
}
# By the first data set that has them; a set names the one that it follows.
CONVENTIONS: Mapping[str, Protocols] = {
    "icdar2015": _GENERAL,
    "icdar2013": {**_GENERAL, "deteval": DetEvalICDAR2013},
    "total-text": {
        **_DETECTION,
        "deteval": DetEvalTotalText,
        "pascal": PascalTotalText,
        "e2e": WordSpotting,
    },
    "ctw1500": {
        "iou": EveryLineIoU,
        "best-iou": partial(BestOfThresholdsIoU, metric_class=EveryLineIoU),
        "e2e": EndToEnd,
    },
    "td500": _DETECTION,
}
# Those that judge what was read, beside detection.
READING_PROTOCOLS = {"e2e": "end_to_end", "word-spotting": "word_spotting"}


def figures_of(name: str, judge: Judge) -> tuple[dict[str, EvaluationResult], str]:
    """The totals of a protocol by what they are of, and its rule for the record.

    Args:
        name: what its figures are of; CLEval has its own for detection and end to end.
        judge: the protocol, after all images.

    Returns:
        The totals, and the name of the class, with the score threshold where it was chosen on the very photos.
    """
    result, rule = judge.compute(), type(judge).__name__
    if isinstance(result, CLEvalResult):
        return {"detection": result.detection, "end_to_end": result.end_to_end}, rule
    if isinstance(result, BestOfThresholdsResult):
        return {name: result.best}, f"{rule}, threshold {result.threshold:g} chosen on these photos"
    return {name: result}, rule
