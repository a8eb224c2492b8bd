"""Text spotting: a word counts where it is found and read, as ICDAR 2015 (task 4), Total-Text and CTW1500 evaluate it.

The rules agree with the script of ABCNet (Y. Liu et al., CVPR 2020), which published numbers on spotting come from.
Scores of the detections are not looked at: filter them before. For the detection part of the same run use
`DetectionIoU`.
"""

from dataclasses import replace

import numpy as np

from ..instances import TextInstances
from .iou import DetectionIoU
from .scores import ImageResult
from .words import composed, dictionary_form, read_texts, required_texts, same_but_for_ends

__all__ = ["EndToEnd", "WordSpotting"]


class EndToEnd(DetectionIoU):
    """`DetectionIoU` in which a match counts only if the word was read.

    Words are compared without case, composed and decomposed accents alike, and one special character at either end of a
    ground truth need not be read. A match with the wrong word uses up both sides. Ground truths need a transcription
    (ValueError), detections without one count as read wrongly.
    """

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        matched = super().evaluate_image(ground_truth, detections, image_id)
        truths, words = required_texts(ground_truth), read_texts(detections)
        pairs = [(i, j) for i, j in matched.pairs if self.same_word(truths[i], words[j])]
        return replace(matched, found=len(pairs), correct=len(pairs), pairs=pairs)

    def same_word(self, truth: str, read: str) -> bool:
        """Whether a ground truth counts as read."""
        return same_but_for_ends(truth, read)


class WordSpotting(EndToEnd):
    """`EndToEnd` on the words of a dictionary alone.

    Ground truths are reduced to their dictionary form (without a final 's, special characters and outer hyphens), which
    has to be read exactly but for the case. Those that have none (fewer than three letters, digits, several words) are
    ignored like illegible ones.
    """

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        words = [dictionary_form(text) for text in required_texts(ground_truth)]
        ignore = ground_truth.ignored | np.array([word is None for word in words], dtype=bool)
        return super().evaluate_image(replace(ground_truth, texts=words, ignore=ignore), detections, image_id)

    def same_word(self, truth: str, read: str) -> bool:
        """Equality without case."""
        return composed(truth.upper()) == composed(read.upper())
