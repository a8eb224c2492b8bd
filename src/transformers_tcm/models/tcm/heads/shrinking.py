"""Shrunk words as maps and back, as heads on a map of shrunk text share it.

References: Wang et al., "Shape Robust Text Detection with Progressive Scale Expansion Network" (PSENet), CVPR 2019, for
the shrinking; Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from .... import geometry

__all__ = [
    "box_score",
    "find_quads",
    "find_regions",
    "map_branch",
    "map_logits",
    "offset_in_pixels",
    "shrink_distance",
]


def map_branch(in_channels: int, hidden_channels: int) -> nn.Sequential:
    """One full-resolution map of logits from features at stride 4."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden_channels),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(hidden_channels, hidden_channels, 2, 2),
        nn.BatchNorm2d(hidden_channels),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(hidden_channels, 1, 2, 2),
    )


def map_logits(branch: nn.Sequential, features: torch.Tensor) -> torch.Tensor:
    """The map (B, 1, H, W) float32 of a branch.

    Its first convolution leaves the reach of float16, and so do the statistics of its norm: models in float16 keep
    both in float32, by `keep_in_float32` of the head.
    """
    start, rest = branch[:2], branch[2:]
    if features.dtype == torch.float16 and branch.get_parameter("0.weight").dtype == torch.float32:
        with torch.autocast(features.device.type, enabled=False):
            hidden = start(features.float())
        return rest(hidden.to(branch.get_parameter("3.weight").dtype)).float()
    return branch(features).float()


def shrink_distance(polygon: np.ndarray, ratio: float) -> float:
    """How far a polygon (K, 2) is moved in: area x (1 - ratio^2) / perimeter, in pixels."""
    return abs(geometry.signed_area(polygon)) * (1 - ratio**2) / (geometry.perimeter(polygon) + 1e-3)


def offset_in_pixels(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """Outlines (M, 2) of a polygon (K, 2) moved outwards, on whole pixels, as the released detectors were trained."""
    return geometry.offset_polygon(np.trunc(polygon), distance, precision=1)


def find_regions(
    probabilities: np.ndarray, decoding: Any, scored: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> list[tuple[np.ndarray, float]]:
    """Outlines (K, 2) of text regions in a (H, W) map and their mean probability.

    Args:
        probabilities: the map.
        decoding: settings with `threshold`, `box_threshold`, `min_size` and `max_candidates`, which takes the largest.
        scored: from a contour (K, 1, 2) to the outline (M, 1, 2) that the mean is taken in.
    """
    return [
        (contour[:, 0].astype(np.float32), score)
        for contour, _, score in _scored_contours(probabilities, decoding, scored)
    ]


def find_quads(probabilities: np.ndarray, decoding: Any) -> tuple[np.ndarray, np.ndarray]:
    """The smallest rectangles (N, 4, 2) around the regions of `find_regions`, and their mean probabilities (N,)."""
    import cv2

    found = list(_scored_contours(probabilities, decoding, np.asarray))
    corners = [cv2.boxPoints(rectangle) for _, rectangle, _ in found]
    quads = np.array(corners, np.float32).reshape(-1, 4, 2)
    return geometry.order_quads_clockwise(quads), np.array([score for _, _, score in found])


def _scored_contours(
    probabilities: np.ndarray, decoding: Any, scored: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, Any, float]]:
    """Contours (K, 1, 2) of `find_regions`, the smallest rectangle around each in OpenCV's form, and its mean."""
    import cv2

    text = (probabilities > decoding.threshold).view(np.uint8)
    contours, _ = cv2.findContours(text, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > decoding.max_candidates:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[: decoding.max_candidates]
    inside = np.zeros_like(text)
    for contour in contours:
        rectangle = cv2.minAreaRect(contour)
        if min(rectangle[1]) >= decoding.min_size:
            score = box_score(probabilities, scored(contour), inside)
            if score >= decoding.box_threshold:
                yield contour, rectangle, score


def box_score(probabilities: np.ndarray, contour: np.ndarray, inside: np.ndarray) -> float:
    """Mean of a map (H, W) inside a contour (K, 1, 2) of whole pixels, looked at within its bounding box only.

    Part of the contour lies on the map. `inside` (H, W) uint8 is zero, and is so again afterwards: one mask for all
    contours, as making each its own costs more.
    """
    import cv2

    x, y, columns, rows = cv2.boundingRect(contour)
    box = slice(max(y, 0), y + rows), slice(max(x, 0), x + columns)
    cv2.fillPoly(inside, [contour], 1)
    score = cv2.mean(probabilities[box], inside[box])[0]
    inside[box] = 0
    return score
