"""Evaluation protocols as plain classes: `update` with each image, `compute` at the end.

They agree with the scripts that published numbers come from. `load_evaluate_module` gives the same as modules of the
`evaluate` library.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from .cleval import CLEval, CLEvalResult
from .deteval import DetEvalICDAR2013, DetEvalTotalText
from .end_to_end import EndToEnd, WordSpotting
from .iou import BestOfThresholdsIoU, BestOfThresholdsResult, DetectionIoU, EveryLineIoU
from .oriented import DotaClassResult, DotaEvaluation, DotaEvaluationResult
from .pascal import PascalTotalText
from .recognition import RecognitionResult, WordRecognition, letters_and_digits
from .scores import EvaluationResult, ImageResult

if TYPE_CHECKING:
    from evaluate import EvaluationModule

__all__ = [
    "BestOfThresholdsIoU",
    "BestOfThresholdsResult",
    "CLEval",
    "CLEvalResult",
    "DetEvalICDAR2013",
    "DetEvalTotalText",
    "DetectionIoU",
    "DotaClassResult",
    "DotaEvaluation",
    "DotaEvaluationResult",
    "EndToEnd",
    "EvaluationResult",
    "EveryLineIoU",
    "ImageResult",
    "PascalTotalText",
    "RecognitionResult",
    "WordRecognition",
    "WordSpotting",
    "letters_and_digits",
    "load_evaluate_module",
]

_MODULES = Path(__file__).parent / "evaluate_modules"


def load_evaluate_module(name: str) -> "EvaluationModule":
    """Load a protocol as a module of the `evaluate` library (extra `train`).

    Args:
        name: `text_detection_iou`, `text_spotting_end_to_end`, `text_spotting_word_spotting`, `text_spotting_cleval`,
            `word_recognition` or `dota_task1`.

    Raises:
        ValueError: if there is no such module; the message lists those there are.
    """
    names = sorted(script.stem for script in _MODULES.glob("*/[!_]*.py"))
    if name not in names:
        raise ValueError(f"no evaluate module {name!r}; there are {', '.join(names)}")
    import evaluate

    return evaluate.load(str(_MODULES / name))
