"""Where a model fails: what becomes of every labelled word and of every detection, told by the areas they share.

`Outcome` names the kinds and `DEFINITIONS` says what each of them means. What is matched, and what does not count, is
as `DetectionIoU` and `EndToEnd` have it, so that the kinds add up to their figures. Words found in pieces and words
found as one follow the area thresholds of DetEval as Total-Text uses them (C. Wolf and J.-M. Jolion, IJDAR 2006; C. K.
Ch'ng et al., IJDAR 2020). Outlines at the wrong place are told from wholly missed words by the lower threshold of TIDE
(D. Bolya et al., ECCV 2020).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..geometry import word_height
from ..instances import TextInstances
from .end_to_end import EndToEnd
from .iou import DetectionIoU, IoUCandidates

__all__ = [
    "DEFINITIONS",
    "FAILURES",
    "ImageOutcomes",
    "Outcome",
    "SizeBucket",
    "classify",
    "count_outcomes",
    "size_buckets",
    "worst_images",
]

# A label is covered by a detection that holds this share of it,
COVERED = 0.7
# a detection lies inside labels that hold this share of it,
INSIDE = 0.6
# and the two belong together, if not well enough for a match, from this IoU on.
NEAR = 0.1


class Outcome(StrEnum):
    """What becomes of a label or of a detection; each has exactly one, the first in this order that applies."""

    IGNORED = "ignored"
    MATCHED = "matched"
    WRONG_WORD = "wrong word"
    SPLIT = "split"
    MERGED = "merged"
    INEXACT = "inexact"
    MISSED = "missed"
    FALSE = "false"


DEFINITIONS = {
    Outcome.IGNORED: "A label that does not count, or a detection of which more than half lies inside one. "
    "Outlines that cross themselves do not count either.",
    Outcome.MATCHED: "Label and detection paired by the IoU protocol (IoU above 0.5), the word read where words are.",
    Outcome.WRONG_WORD: "Paired in the same way, but the word is not the one of the label.",
    Outcome.SPLIT: f"Unpaired, and one label is covered by several detections: at least {INSIDE:.0%} of each is inside "
    f"it, and together they hold at least {COVERED:.0%} of it.",
    Outcome.MERGED: f"Unpaired, and one detection covers several labels: it holds at least {COVERED:.0%} of each, "
    f"and at least {INSIDE:.0%} of it is inside them.",
    Outcome.INEXACT: f"A label and a detection, both unpaired, at one place: their IoU is {NEAR} or more.",
    Outcome.MISSED: "A label that is nothing of the above.",
    Outcome.FALSE: "A detection that is nothing of the above.",
}

FAILURES = frozenset(Outcome) - {Outcome.IGNORED, Outcome.MATCHED}


@dataclass(frozen=True)
class ImageOutcomes:
    """What becomes of the N labels and M detections of an image.

    Args:
        image_id: name or number of the image.
        ground_truth: the labels.
        detections: what the model found.
        labels: the outcome of each label (N).
        found: the outcome of each detection (M).
        pairs: matched (label, detection), also those with a wrong word.
    """

    image_id: str | int
    ground_truth: TextInstances
    detections: TextInstances
    labels: list[Outcome]
    found: list[Outcome]
    pairs: list[tuple[int, int]]

    @property
    def failures(self) -> int:
        """Labels and detections that failed; a word read wrongly counts once."""
        found = FAILURES - {Outcome.WRONG_WORD}
        return sum(one in FAILURES for one in self.labels) + sum(one in found for one in self.found)


def classify(
    ground_truth: TextInstances, detections: TextInstances, image_id: str | int, with_words: bool = False
) -> ImageOutcomes:
    """Tell what becomes of every label and every detection of one image.

    Args:
        ground_truth: the labels.
        detections: what a model found, in the order in which the protocols are to match it.
        image_id: name or number of the image.
        with_words: whether a match needs the right word, as end to end.

    Raises:
        ValueError: with `with_words`, if a label that counts has no transcription.
    """
    protocol = DetectionIoU()
    candidates = protocol.candidates(ground_truth, detections)
    pairs = protocol.evaluate_image(ground_truth, detections, image_id).pairs
    read = EndToEnd().evaluate_image(ground_truth, detections, image_id).pairs if with_words else pairs
    labels = np.full(len(ground_truth), Outcome.MISSED, dtype=object)
    found = np.full(len(detections), Outcome.FALSE, dtype=object)
    labels[~candidates.wanted], found[~candidates.judged] = Outcome.IGNORED, Outcome.IGNORED
    for i, j in pairs:
        labels[i] = found[j] = Outcome.MATCHED if (i, j) in read else Outcome.WRONG_WORD
    _mark(labels, found, _split_labels(candidates), Outcome.SPLIT)
    _mark(labels, found, _merging_detections(candidates), Outcome.MERGED)
    near = candidates.areas.iou >= NEAR
    _mark(labels, found, near & np.outer(labels == Outcome.MISSED, found == Outcome.FALSE), Outcome.INEXACT)
    # numpy takes what an array is filled with for a plain string.
    of_labels, of_found = ([Outcome(one) for one in side] for side in (labels, found))
    return ImageOutcomes(image_id, ground_truth, detections, of_labels, of_found, pairs)


def _mark(labels: np.ndarray, found: np.ndarray, groups: np.ndarray, outcome: Outcome) -> None:
    """Give an outcome to the members (N, M) of groups that have none yet."""
    labels[(labels == Outcome.MISSED) & groups.any(axis=1)] = outcome
    found[(found == Outcome.FALSE) & groups.any(axis=0)] = outcome


def _split_labels(candidates: IoUCandidates) -> np.ndarray:
    """(N, M) bool: labels that count, and the pieces in which they were found."""
    areas = candidates.areas
    pieces = (areas.precision >= INSIDE) & np.outer(candidates.wanted, candidates.judged)
    held = (areas.recall * pieces).sum(axis=1)
    split = (pieces.sum(axis=1) >= 2) & (held >= COVERED)
    return pieces & split[:, None]


def _merging_detections(candidates: IoUCandidates) -> np.ndarray:
    """(N, M) bool: detections that hold several labels, and these labels.

    A word that does not count is a word all the same: what runs from a label into it is merged.
    """
    areas = candidates.areas
    members = (areas.recall >= COVERED) & candidates.judged
    filled = (areas.precision * members).sum(axis=0)
    merging = (members.sum(axis=0) >= 2) & (filled >= INSIDE) & members[candidates.wanted].any(axis=0)
    return members & merging


def count_outcomes(images: Iterable[ImageOutcomes]) -> tuple[Counter[Outcome], Counter[Outcome]]:
    """How many labels, and how many detections, have each outcome."""
    labels: Counter[Outcome] = Counter()
    found: Counter[Outcome] = Counter()
    for image in images:
        labels.update(image.labels)
        found.update(image.found)
    return labels, found


def worst_images(images: Sequence[ImageOutcomes], count: int) -> list[int]:
    """Indices of at most `count` images with failures, those with most of them first."""
    order = sorted(range(len(images)), key=lambda index: -images[index].failures)
    return [index for index in order if images[index].failures][:count]


@dataclass(frozen=True)
class SizeBucket:
    """What becomes of the labels of one size.

    Args:
        name: the range of the short side in pixels of the photo.
        outcomes: number of labels of each outcome, ignored ones left out.
    """

    name: str
    outcomes: Counter[Outcome]

    @property
    def words(self) -> int:
        """Labels of this size that count."""
        return self.outcomes.total()

    @property
    def recall(self) -> float:
        """Share of them that was found, 0 without any."""
        found = self.outcomes[Outcome.MATCHED] + self.outcomes[Outcome.WRONG_WORD]
        return found / self.words if self.words else 0.0

    @property
    def end_to_end_recall(self) -> float:
        """Share of them that was found and read, 0 without any; where words were not asked for, `recall`."""
        return self.outcomes[Outcome.MATCHED] / self.words if self.words else 0.0


# Upper ends in pixels; 8 and 16 belong above, 32 below.
_SIZE_LIMITS = (8.0, 16.0, np.nextafter(32.0, np.inf))
_SIZE_NAMES = ("below 8", "8 to 16", "16 to 32", "above 32")


def size_buckets(images: Iterable[ImageOutcomes]) -> list[SizeBucket]:
    """Labels by the short side of their outline: below 8, from 8 to 16, from 16 to 32, and above 32 pixels.

    The short side is that of a rectangle with the outline's area and perimeter, so that curved words are not taller
    than their letters.
    """
    buckets = [SizeBucket(name, Counter()) for name in _SIZE_NAMES]
    for image in images:
        for polygon, outcome in zip(image.ground_truth.polygons, image.labels, strict=True):
            if outcome is not Outcome.IGNORED:
                # Thousandths, because float32 outlines give 7.9999 for 8.
                side = round(word_height(polygon), 3)
                buckets[int(np.digitize(side, _SIZE_LIMITS))].outcomes[outcome] += 1
    return buckets
