"""Axis-aligned boxes (x_min, y_min, x_max, y_max) that several heads share: overlaps, suppression, the focal loss.

References: Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017; Rezatofighi et al.,
"Generalized Intersection over Union", CVPR 2019.
"""

import numpy as np
import torch
from torch.nn import functional

__all__ = ["box_iou", "focal_loss", "generalized_box_iou", "nms"]


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-6)


def generalized_box_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """GIoU (…) in [-1, 1] of boxes (…, 4) with an area, pair by pair: below zero, it tells how far apart they are.

    Shapes are broadcast: (N, 1, 4) and (M, 4) give every pair, (N, M).
    """
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    around = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    hull = around.prod(dim=-1)
    return shared / union - (hull - union) / hull


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Non-maximum suppression: indices (M,) of the boxes that overlap no better one that is kept, the best first.

    Args:
        boxes: (N, 4).
        scores: (N,), positive.
        iou_threshold: largest IoU of two boxes that are both kept.
    """
    import cv2

    corners_and_sizes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(np.float64)
    kept = cv2.dnn.NMSBoxes(corners_and_sizes.tolist(), scores.astype(float).tolist(), 0.0, iou_threshold)
    return np.asarray(kept, dtype=np.int64).reshape(-1)


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Cross-entropy that well-classified places hardly add to, not reduced (…).

    Args:
        logits: (N, …) of any shape.
        targets: (N, …) of the same shape, 0 or 1.
        alpha: weight of the positives; the negatives weigh 1 - alpha.
        gamma: how fast well-classified places stop to count.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probabilities = logits.sigmoid()
    wrong = targets * (1 - probabilities) + (1 - targets) * probabilities
    balance = targets * alpha + (1 - targets) * (1 - alpha)
    return balance * wrong**gamma * cross_entropy
