"""How precision and recall change with the lowest score that a detection needs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..instances import TextInstances
from .iou import DetectionIoU
from .matching import greedy_pairs
from .scores import harmonic_mean

__all__ = ["ScoreCurve", "score_curve"]


@dataclass(frozen=True)
class ScoreCurve:
    """Totals of `DetectionIoU` at every score as the threshold, and the scores that they come from.

    Args:
        thresholds: the T scores that occur, falling; a detection is kept that scores at least as much.
        precision: (T,) with that threshold.
        recall: (T,) with that threshold.
        matched: (A,) scores of the detections that match a label when all are kept.
        unmatched: (B,) scores of the others, those that do not count left out.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    matched: np.ndarray
    unmatched: np.ndarray

    def best(self) -> tuple[float, float] | None:
        """The threshold with the highest hmean, and that hmean; `None` without detections.

        Optimistic: the threshold is chosen on the very images that are judged with it.
        """
        if not len(self.thresholds):
            return None
        hmeans = [harmonic_mean(*pair) for pair in zip(self.precision, self.recall, strict=True)]
        best = int(np.argmax(hmeans))
        return float(self.thresholds[best]), float(hmeans[best])


def score_curve(images: Iterable[tuple[TextInstances, TextInstances]]) -> ScoreCurve:
    """Judge (ground truth, detections) of all images at every threshold.

    Raises:
        ValueError: if detections have no scores.
    """
    steps, matched, unmatched, words = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0)], 0
    for ground_truth, detections in images:
        if detections.scores is None:
            raise ValueError("the detections have no `scores`, which a curve over thresholds needs")
        candidates = DetectionIoU().candidates(ground_truth, detections)
        scores = detections.scores.astype(np.float64)
        steps.append(_steps(candidates.allowed, candidates.judged, scores))
        hit = np.zeros(len(scores), dtype=bool)
        hit[[j for _, j in greedy_pairs(candidates.allowed)]] = True
        matched.append(scores[hit])
        unmatched.append(scores[candidates.judged & ~hit])
        words += int(candidates.wanted.sum())
    thresholds, pairs, kept = _accumulate(np.concatenate(steps))
    recall = pairs / max(words, 1)
    return ScoreCurve(thresholds, pairs / kept, recall, np.concatenate(matched), np.concatenate(unmatched))


def _steps(allowed: np.ndarray, judged: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What each threshold (K, 3) adds to one image: the threshold, matches, detections that count."""
    thresholds = np.unique(scores[judged])[::-1]
    # A detection may take the label of another one, so every threshold is matched anew.
    totals = [
        (len(list(greedy_pairs(allowed & (scores >= threshold)))), int((judged & (scores >= threshold)).sum()))
        for threshold in thresholds
    ]
    added = np.diff(np.array([(0, 0), *totals], dtype=np.float64), axis=0)  # (K, 2)
    return np.column_stack([thresholds, added])


def _accumulate(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Falling thresholds (T,) of all images, and the matches and detections there are with each."""
    steps = steps[np.argsort(-steps[:, 0], kind="stable")]
    totals = np.cumsum(steps[:, 1:], axis=0)
    last = np.append(steps[1:, 0] != steps[:-1, 0], True)[: len(steps)]
    return steps[last, 0], totals[last, 0], totals[last, 1]
