"""What the modules for the `evaluate` library share: how images are declared and passed on to a protocol."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..instances import TextInstances

if TYPE_CHECKING:
    from datasets import Features

__all__ = ["image_features", "score_images"]


class _Metric(Protocol):
    """Any of the plain classes that judge images."""

    def update(self, ground_truth: TextInstances, detections: TextInstances) -> Any:
        """Add an image."""

    def compute(self) -> Any:
        """A result with `to_dict`."""


def image_features(texts: bool) -> "Features":
    """Declare `predictions` and `references`: for each image a dict as `TextInstances.to_json` makes it."""
    from datasets import Features, List, Value

    shared = {"polygons": List(List(List(Value("float32"), length=2)))}
    if texts:
        shared["texts"] = List(Value("string"))
    return Features({"predictions": shared, "references": {**shared, "ignore": List(Value("bool"))}})


def score_images(
    metric: _Metric, predictions: Iterable[dict[str, Any]], references: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """Judge all images and give the result as plain numbers."""
    for detections, ground_truth in zip(predictions, references, strict=True):
        metric.update(TextInstances.from_json(ground_truth), TextInstances.from_json(detections))
    return metric.compute().to_dict()
