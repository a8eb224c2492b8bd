"""DetEval: detection that also credits words found in pieces and several words found as one.

C. Wolf and J.-M. Jolion, Object count/area graphs for the evaluation of object detection and segmentation algorithms,
IJDAR 2006, in the two forms that text detection uses: the script of ICDAR 2013 (challenge 2, task 1) and the one of
Total-Text (C. K. Ch'ng et al., IJDAR 2020). Between a ground truth and a detection, recall is the share of the ground
truth that the detection covers, precision the share of the detection that lies in the ground truth.
"""

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from ..instances import TextInstances
from .matching import overlap
from .scores import EvaluationProtocol, ImageResult

__all__ = ["DetEvalICDAR2013", "DetEvalTotalText"]

# What a word found in pieces earns, and each of its pieces.
_SPLIT_CREDIT = 0.8


@dataclass
class _Ledger:
    """Shares of all pairs, who counts, who is still free, and the credits so far."""

    recall: np.ndarray  # (N, M)
    precision: np.ndarray  # (N, M)
    wanted: np.ndarray  # (N,) bool
    judged: np.ndarray  # (M,) bool
    found: float = 0.0
    correct: float = 0.0
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free_truths, self.free_detections = self.wanted.copy(), self.judged.copy()

    def match(self, truths: np.ndarray, detections: np.ndarray, found: float, correct: float) -> None:
        """Take indices of ground truths and of detections off the table, for that much credit."""
        self.free_truths[truths] = False
        self.free_detections[detections] = False
        self.found += found
        self.correct += correct
        self.pairs += [(int(truth), int(detection)) for truth in truths for detection in detections]


class _DetEval(EvaluationProtocol):
    """What both forms share: one-to-one matches first, then split words, then merged ones."""

    # Sums of shares reach a threshold from this far below it.
    tolerance = 0.0

    def __init__(
        self,
        recall_threshold: float,
        precision_threshold: float,
        merge_recall_threshold: float,
        merge_credit: float,
    ) -> None:
        super().__init__()
        self.recall_threshold = recall_threshold
        self.precision_threshold = precision_threshold
        self.merge_recall_threshold = merge_recall_threshold
        self.merge_credit = merge_credit

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        ledger = self._measure(ground_truth, detections)
        for truth, detection in self._singles(ground_truth, detections, ledger):
            ledger.match(np.array([truth]), np.array([detection]), 1.0, 1.0)
        self._match_splits(ledger)
        self._match_merges(ledger)
        counts = int(ledger.wanted.sum()), int(ledger.judged.sum())
        return ImageResult(image_id, ledger.found, ledger.correct, *counts, sorted(ledger.pairs))

    @abstractmethod
    def _measure(self, ground_truth: TextInstances, detections: TextInstances) -> _Ledger:
        """Shares, and what is left out."""

    @abstractmethod
    def _singles(
        self, ground_truth: TextInstances, detections: TextInstances, ledger: _Ledger
    ) -> list[tuple[int, int]]:
        """One-to-one matches."""

    def _match_splits(self, ledger: _Ledger) -> None:
        """Ground truths covered by several detections, each of them mostly inside."""
        touched = (ledger.recall[:, ledger.judged] > 0).sum(axis=1)
        for truth in np.flatnonzero(ledger.free_truths & (touched >= 2)):
            inside = ledger.precision[truth] >= self.precision_threshold
            pieces = np.flatnonzero(inside & ledger.free_detections)
            if ledger.recall[truth, pieces].sum() >= self.recall_threshold - self.tolerance:
                credit = 1.0 if len(pieces) == 1 else _SPLIT_CREDIT
                ledger.match(np.array([truth]), pieces, credit, credit * len(pieces))

    def _match_merges(self, ledger: _Ledger) -> None:
        """Detections filled by several ground truths, each of them mostly covered."""
        touched = (ledger.recall[ledger.wanted] > 0).sum(axis=0)
        for detection in np.flatnonzero(ledger.free_detections & (touched >= 2)):
            covered = ledger.recall[:, detection] >= self.merge_recall_threshold
            words = np.flatnonzero(covered & ledger.free_truths)
            alone = len(words) == 1
            if alone and ledger.recall[words[0], detection] < self.recall_threshold:
                continue
            if ledger.precision[words, detection].sum() >= self.precision_threshold - self.tolerance:
                credit = 1.0 if alone else self.merge_credit
                ledger.match(words, np.array([detection]), credit * len(words), credit)


class DetEvalICDAR2013(_DetEval):
    """DetEval as the ICDAR 2013 competition computes it: recall >= 0.8, precision >= 0.4.

    A one-to-one match must be the only candidate and the only overlap of both sides. Splits earn 0.8 for the word and
    for each piece, merges 1. Detections that lie by more than the precision threshold in an ignored ground truth and
    polygons that intersect themselves are left out.
    """

    # The script rounds sums to four decimals.
    tolerance = 5e-5

    def __init__(self, recall_threshold: float = 0.8, precision_threshold: float = 0.4) -> None:
        super().__init__(recall_threshold, precision_threshold, recall_threshold, merge_credit=1.0)

    def _measure(self, ground_truth: TextInstances, detections: TextInstances) -> _Ledger:
        areas = overlap(ground_truth, detections)
        outside = ~areas.inside_any(ground_truth.ignored, self.precision_threshold)
        wanted = ~ground_truth.ignored & (areas.ground_truth_area > 0)
        return _Ledger(areas.recall, areas.precision, wanted, outside & (areas.detection_area > 0))

    def _singles(
        self, ground_truth: TextInstances, detections: TextInstances, ledger: _Ledger
    ) -> list[tuple[int, int]]:
        fitting = (ledger.recall >= self.recall_threshold) & (ledger.precision >= self.precision_threshold)
        touching = ledger.recall > 0
        only = (fitting.sum(axis=1) == 1) & (touching[:, ledger.judged].sum(axis=1) == 1) & ledger.wanted
        sole = (fitting.sum(axis=0) == 1) & (touching[ledger.wanted].sum(axis=0) == 1) & ledger.judged
        (centre_a, diagonal_a), (centre_b, diagonal_b) = _extent(ground_truth), _extent(detections)
        distance = np.linalg.norm(centre_a[:, None] - centre_b, axis=2)
        near = 2 * distance < diagonal_a[:, None] + diagonal_b
        return [(int(i), int(j)) for i, j in np.argwhere(fitting & near & np.outer(only, sole))]


class DetEvalTotalText(_DetEval):
    """DetEval as the script of Total-Text computes it: recall > 0.7, precision > 0.6.

    Its peculiarities are kept: shares are rounded to two decimals; a one-to-one match asks that one detection exceeds
    the recall threshold of a ground truth and one the precision threshold, whichever; a merged word need only be
    covered by the *precision* threshold; splits and merges earn 0.8. Outlines that cross themselves are mended. The
    data set's paper uses `recall_threshold=0.8, precision_threshold=0.4`.
    """

    def __init__(self, recall_threshold: float = 0.7, precision_threshold: float = 0.6) -> None:
        super().__init__(recall_threshold, precision_threshold, precision_threshold, merge_credit=_SPLIT_CREDIT)

    def _measure(self, ground_truth: TextInstances, detections: TextInstances) -> _Ledger:
        areas = overlap(ground_truth, detections, mend=True)
        wanted, judged = ~ground_truth.ignored, ~areas.inside_any(ground_truth.ignored, 0.5, margin=1.0)
        counted = np.outer(wanted, judged)
        return _Ledger(areas.recall.round(2) * counted, areas.precision.round(2) * counted, wanted, judged)

    def _singles(
        self, ground_truth: TextInstances, detections: TextInstances, ledger: _Ledger
    ) -> list[tuple[int, int]]:
        covering, inside = ledger.recall > self.recall_threshold, ledger.precision > self.precision_threshold
        rows = np.flatnonzero((covering.sum(axis=1) == 1) & (inside.sum(axis=1) == 1))
        return [(int(row), int(covering[row].argmax())) for row in rows]


def _extent(instances: TextInstances) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the vertices (N, 2) and diagonal of the bounding box (N,) of each polygon."""
    centres = np.array([polygon.mean(axis=0) for polygon in instances.polygons]).reshape(-1, 2)
    boxes = instances.boxes
    return centres, np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1)
