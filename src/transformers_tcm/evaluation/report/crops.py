"""Each failure on its own: the place enlarged, and below it what was read and what the label says, as text."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ... import geometry
from ..failures import FAILURES, ImageOutcomes, Outcome

__all__ = ["Failure", "enlarged", "list_failures"]

# Pixels of an enlarged place, and how much of the surroundings is shown, in heights of the word.
_LARGEST = (320, 112)
_MARGIN = 0.5


@dataclass(frozen=True)
class Failure:
    """A label or a detection that failed, or a pair with a wrong word.

    Args:
        kind: of the failure.
        polygon: its outline (K, 2) in pixels of the photo: of the detection if there is one, else of the label.
        is_label: whether that is the outline of a label.
        reading: what was read there; `None` if nothing was.
        label: the word of the label; `None` if there is none, or it is not known.
    """

    kind: Outcome
    polygon: np.ndarray
    is_label: bool
    reading: str | None = None
    label: str | None = None


def list_failures(image: ImageOutcomes) -> list[Failure]:
    """As many as `image.failures`: labels in their order, then detections."""
    labels, readings = image.ground_truth.texts or [], image.detections.texts or []
    read_as = {label: readings[found] for label, found in image.pairs if readings}
    place_of = dict(image.pairs)
    failures = []
    for index, kind in enumerate(image.labels):
        if kind in FAILURES:
            word = labels[index] if labels else None
            is_pair = kind is Outcome.WRONG_WORD
            polygons = image.detections.polygons if is_pair else image.ground_truth.polygons
            polygon = polygons[place_of[index] if is_pair else index]
            failures.append(Failure(kind, polygon, not is_pair, read_as.get(index), word))
    for index, kind in enumerate(image.found):
        if kind in FAILURES - {Outcome.WRONG_WORD}:
            reading = readings[index] if readings else None
            failures.append(Failure(kind, image.detections.polygons[index], False, reading))
    return failures


def enlarged(photo: Image.Image, failure: Failure) -> tuple[Image.Image, np.ndarray]:
    """The place of a failure with some surroundings, and its outline (K, 2) in pixels of that."""
    box = geometry.bounding_box(failure.polygon)
    margin = max(4.0, _MARGIN * geometry.word_height(failure.polygon))
    # An outline may lie outside of its photo, of which a pixel is shown then.
    low = np.clip(np.floor(box[:2] - margin), 0, np.array(photo.size) - 1)
    high = np.clip(np.ceil(box[2:] + margin), low + 1, photo.size)
    factor = min(np.array(_LARGEST) / (high - low))
    size = np.maximum(np.rint((high - low) * factor), 1).astype(int)
    crop = photo.convert("RGB").crop((*low.astype(int).tolist(), *high.astype(int).tolist()))
    return crop.resize(tuple(size.tolist()), Image.Resampling.BICUBIC), (failure.polygon - low) * factor
