"""Detection by intersection over union, the protocol of ICDAR 2015 (Robust Reading Competition, challenge 4, task 1).

D. Karatzas et al., ICDAR 2015 Competition on Robust Reading. Nearly every paper on text detection reports it, also on
polygons (Total-Text, CTW1500).
"""

from dataclasses import dataclass, replace

import numpy as np

from ..instances import TextInstances
from .matching import PolygonOverlap, greedy_pairs, overlap
from .scores import EvaluationProtocol, EvaluationResult, ImageResult

__all__ = ["BestOfThresholdsIoU", "BestOfThresholdsResult", "DetectionIoU", "EveryLineIoU", "IoUCandidates"]


@dataclass(frozen=True)
class IoUCandidates:
    """Who counts, and who may be matched to whom.

    Args:
        areas: of N ground truths and M detections.
        wanted: (N,) bool, the ground truths that count.
        judged: (M,) bool, the detections that count.
        allowed: (N, M) bool, the pairs of these whose IoU suffices.
    """

    areas: PolygonOverlap
    wanted: np.ndarray
    judged: np.ndarray
    allowed: np.ndarray


class DetectionIoU(EvaluationProtocol):
    """Precision, recall and their harmonic mean of detected polygons.

    A detection matches a ground truth if their IoU exceeds `iou_threshold` and neither is taken; ground truths choose
    in their order, among detections in theirs (not by score, not optimally). Detections that lie by more than
    `area_precision_threshold` inside a single ignored ground truth are left out before matching, whatever else they
    hit, and so are polygons that intersect themselves.
    """

    def __init__(self, iou_threshold: float = 0.5, area_precision_threshold: float = 0.5) -> None:
        super().__init__()
        self.iou_threshold = iou_threshold
        self.area_precision_threshold = area_precision_threshold

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        candidates = self.candidates(ground_truth, detections)
        pairs = list(greedy_pairs(candidates.allowed))
        counts = int(candidates.wanted.sum()), int(candidates.judged.sum())
        return ImageResult(image_id, len(pairs), len(pairs), *counts, pairs)

    def candidates(self, ground_truth: TextInstances, detections: TextInstances) -> IoUCandidates:
        """What the matching of one image starts from."""
        areas = overlap(ground_truth, detections)
        wanted = ~ground_truth.ignored & (areas.ground_truth_area > 0)
        judged = ~areas.inside_any(ground_truth.ignored, self.area_precision_threshold) & (areas.detection_area > 0)
        return IoUCandidates(areas, wanted, judged, (areas.iou > self.iou_threshold) & np.outer(wanted, judged))


class EveryLineIoU(DetectionIoU):
    """`DetectionIoU` as on CTW1500, whose labels for detection know no line that does not count."""

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        every_line = replace(ground_truth, ignore=np.zeros(len(ground_truth), dtype=bool))
        return super().evaluate_image(every_line, detections, image_id)


@dataclass(frozen=True)
class BestOfThresholdsResult:
    """The best hmean among several score thresholds, the threshold that gave it, and what each of them gives."""

    best: EvaluationResult
    threshold: float
    by_threshold: dict[float, EvaluationResult]


class BestOfThresholdsIoU:
    """`DetectionIoU` at the score threshold that is best *for the evaluated images themselves*.

    Optimistic: the threshold is tuned on the ground truth, so the result is higher than what any threshold fixed
    beforehand would give. It exists only to be compared with published numbers made this way (mmocr, hence the TCM
    papers). Never select a model, a checkpoint or a threshold with it.

    Detections must score above `floor`, then at least the threshold. Scores are compared as float32, so that a score
    of 0.7 passes a threshold of 0.7. Among equal results the lowest threshold is reported.
    """

    def __init__(
        self,
        thresholds: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        floor: float = 0.3,
        metric_class: type[DetectionIoU] = DetectionIoU,
    ) -> None:
        if not thresholds:
            raise ValueError("`thresholds` is empty; give at least one score threshold in [0, 1]")
        self.floor = floor
        self.metrics = {threshold: metric_class() for threshold in sorted(thresholds)}

    def reset(self) -> None:
        """Forget all images."""
        for metric in self.metrics.values():
            metric.reset()

    def update(self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int | None = None) -> None:
        """Add an image.

        Raises:
            ValueError: if the detections have no scores.
        """
        if detections.scores is None:
            raise ValueError("the detections have no `scores`, which choosing among thresholds needs")
        above = detections.scores > np.float32(self.floor)
        for threshold, metric in self.metrics.items():
            kept = detections.select(above & (detections.scores >= np.float32(threshold)))
            metric.update(ground_truth, kept, image_id)

    def compute(self) -> BestOfThresholdsResult:
        """The best total over the images so far, with its threshold."""
        by_threshold = {threshold: metric.compute() for threshold, metric in self.metrics.items()}
        threshold = max(by_threshold, key=lambda threshold: by_threshold[threshold].hmean)
        return BestOfThresholdsResult(by_threshold[threshold], threshold, by_threshold)
