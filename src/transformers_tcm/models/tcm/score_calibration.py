"""How likely what a spotter read is right, from all that speaks for it: logistic regression on its scores."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from huggingface_hub.errors import StrictDataclassError

from .strict_tcm import strict_frozen

__all__ = ["ScoreCalibration"]

# Scores closer to 0 or 1 are as good as these.
_LEAST = 1e-3


@strict_frozen
@dataclass(frozen=True)
class ScoreCalibration:
    """Logarithmic odds that a reading is right, as a weighted sum (J. Platt, Probabilistic Outputs for Support Vector
    Machines, 1999, with three inputs in place of one).

    A word of many letters that all look likely is hardly chance, a single letter often is; and where the detector is
    sure, so is the reading. `benchmarks/calibrate_scores.py` fits the weights.

    Args:
        bias: logarithmic odds of a single letter with both scores at a half.
        text_score: weight of the log odds that the recogniser gives its reading.
        score: weight of the log odds of the detection.
        length: weight of the natural logarithm of the number of characters.
    """

    bias: float | int
    text_score: float | int
    score: float | int
    length: float | int

    @classmethod
    def of(cls, weights: Any) -> "ScoreCalibration":
        """The calibration of a mapping of its fields.

        Raises:
            ValueError: if it is none, or has other fields or something else than finite numbers in them.
        """
        try:
            calibration = cls(**weights)
        except (TypeError, StrictDataclassError):
            calibration = None
        is_usable = calibration is not None and np.isfinite(list(asdict(calibration).values())).all()
        if calibration is None or not is_usable or calibration.text_score <= 0:
            names = ", ".join(field.name for field in fields(cls))
            raise ValueError(
                f"`score_calibration` is {weights!r}; expected numbers for {names}, the second of them positive, as "
                "`benchmarks/calibrate_scores.py` fits them"
            )
        return calibration

    def __call__(self, text_scores: np.ndarray, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The probabilities (N,) of N readings that they are right; all arguments (N,), lengths in characters."""
        sums = self.bias + evidence(text_scores, scores, lengths) @ [self.text_score, self.score, self.length]
        return 1 / (1 + np.exp(-sums))

    def least_text_scores(self, probability: float, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The `text_scores` (N,) from which on N readings are right with a probability; the other way round."""
        with np.errstate(divide="ignore"):  # of certainty, either way
            wanted = np.log(probability) - np.log1p(-probability)
        others = evidence(np.full(len(scores), 0.5), scores, lengths) @ [0.0, self.score, self.length]
        return 1 / (1 + np.exp((self.bias + others - wanted) / self.text_score))


def evidence(text_scores: np.ndarray, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What the weights of a `ScoreCalibration` other than its bias count, (N, 3); all arguments (N,)."""
    looks = np.stack([text_scores, scores]).clip(_LEAST, 1 - _LEAST)  # (2, N)
    return np.stack([*np.log(looks / (1 - looks)), np.log(np.maximum(lengths, 1))], axis=1)
