"""Precision, recall and harmonic mean, for one image and over many, and the frame of every protocol that gives them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..instances import TextInstances

__all__ = ["EvaluationProtocol", "EvaluationResult", "ImageResult", "harmonic_mean"]


def harmonic_mean(precision: float, recall: float) -> float:
    """2PR / (P + R), 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@dataclass(frozen=True)
class ImageResult:
    """What one image adds to the totals.

    Args:
        image_id: name or number of the image.
        found: credit towards recall; the number of ground truths found where a protocol gives no partial credit.
        correct: credit towards precision; equals `found` under one-to-one protocols.
        ground_truths: ground truths that count (the denominator of recall); characters under CLEval.
        detections: detections that count (the denominator of precision); characters under CLEval.
        pairs: matched (ground truth, detection), as positions in what was passed to `update`.
    """

    image_id: str | int
    found: float
    correct: float
    ground_truths: int
    detections: int
    pairs: list[tuple[int, int]]

    @property
    def recall(self) -> float:
        """1 where there was nothing to find; penalties do not push it below 0."""
        return max(0.0, self.found) / self.ground_truths if self.ground_truths else 1.0

    @property
    def precision(self) -> float:
        """Of an image with words but no detections 0, of an image with neither 1."""
        if self.detections:
            return max(0.0, self.correct) / self.detections
        return 0.0 if self.ground_truths else 1.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall."""
        return harmonic_mean(self.precision, self.recall)

    def to_dict(self) -> dict[str, Any]:
        """Every number and the pairs, ready for `json.dumps`."""
        return {**asdict(self), "recall": self.recall, "precision": self.precision, "hmean": self.hmean}


@dataclass(frozen=True)
class EvaluationResult:
    """Totals over all images (micro average: every word weighs the same) and the result of each image."""

    precision: float
    recall: float
    hmean: float
    found: float
    correct: float
    ground_truths: int
    detections: int
    images: list[ImageResult]

    @classmethod
    def from_images(cls, images: Iterable[ImageResult]) -> "EvaluationResult":
        """Sum credits and counts; a ratio with the denominator 0 is 0."""
        images = list(images)
        found, correct = sum(image.found for image in images), sum(image.correct for image in images)
        ground_truths = sum(image.ground_truths for image in images)
        detections = sum(image.detections for image in images)
        recall = max(0.0, found) / ground_truths if ground_truths else 0.0
        precision = max(0.0, correct) / detections if detections else 0.0
        hmean = harmonic_mean(precision, recall)
        return cls(precision, recall, hmean, found, correct, ground_truths, detections, images)

    def to_dict(self) -> dict[str, Any]:
        """Totals and `images`, ready for `json.dumps`."""
        totals = {name: value for name, value in vars(self).items() if name != "images"}
        return {**totals, "images": [image.to_dict() for image in self.images]}


class EvaluationProtocol(ABC):
    """A protocol that judges each image by itself: `update` with every image, then `compute`.

    ```python
    metric = DetectionIoU()
    for ground_truth, detections in images:
        metric.update(ground_truth, detections)
    print(metric.compute().hmean)
    ```
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.images: list[ImageResult] = []

    def update(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int | None = None
    ) -> ImageResult:
        """Add an image, numbered in order where it has no `image_id`, and return its own result."""
        image = self.evaluate_image(ground_truth, detections, len(self.images) if image_id is None else image_id)
        self.images.append(image)
        return image

    def compute(self) -> EvaluationResult:
        """Totals over the images so far."""
        return EvaluationResult.from_images(self.images)

    @abstractmethod
    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
