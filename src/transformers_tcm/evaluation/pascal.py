"""Detection as PASCAL VOC counts it, in the form of Total-Text's second official script.

C. K. Ch'ng et al., Total-Text: toward orientation robustness in scene text detection, IJDAR 2020.
"""

import numpy as np

from ..instances import TextInstances
from .matching import overlap
from .scores import EvaluationProtocol, ImageResult

__all__ = ["PascalTotalText"]


class PascalTotalText(EvaluationProtocol):
    """IoU of at least 0.5, detections choosing their best ground truth in their order.

    A detection whose best ground truth is taken is wrong, even where it also fits another. One square pixel is added to
    every union, as in the script. Detections mostly inside an ignored ground truth are left out; outlines that cross
    themselves are mended.
    """

    def evaluate_image(
        self, ground_truth: TextInstances, detections: TextInstances, image_id: str | int
    ) -> ImageResult:
        """Judge one image, without adding it to the totals."""
        areas = overlap(ground_truth, detections, mend=True)
        wanted, judged = ~ground_truth.ignored, ~areas.inside_any(ground_truth.ignored, 0.5, margin=1.0)
        union = areas.ground_truth_area[:, None] + areas.detection_area - areas.intersection
        iou = areas.intersection / (union + 1.0) * np.outer(wanted, judged)
        free = wanted.copy()
        pairs = []
        for detection in np.flatnonzero((iou >= 0.5).any(axis=0)):
            best = int(iou[:, detection].argmax())
            if free[best]:
                free[best] = False
                pairs.append((best, int(detection)))
        return ImageResult(image_id, len(pairs), len(pairs), int(wanted.sum()), int(judged.sum()), sorted(pairs))
