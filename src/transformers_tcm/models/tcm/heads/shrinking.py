"""Shrunk words as maps and back, as heads on a map of shrunk text share it.

References: Wang et al., "Shape Robust Text Detection with Progressive Scale Expansion Network" (PSENet), CVPR 2019, for
the shrinking; Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .... import geometry
from ..layers_tcm import without_norms

__all__ = [
    "box_score",
    "find_quads",
    "find_regions",
    "map_branch",
    "map_logits",
    "offset_in_pixels",
    "parts_of_regions",
    "quads_around",
    "shrink_distance",
]

# Where the shrunk text of a region falls apart at one of these probabilities, it may be that of several words.
SPLIT_THRESHOLDS = (0.6, 0.75, 0.85, 0.92)


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
    assert isinstance(rest, nn.Sequential)
    if features.dtype == torch.float16 and branch.get_parameter("0.weight").dtype == torch.float32:
        with torch.autocast(features.device.type, enabled=False):
            hidden = start(features.float())
        return without_norms(rest, hidden.to(branch.get_parameter("3.weight").dtype)).float()
    return without_norms(branch, features).float()


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
    found = list(_scored_contours(probabilities, decoding, np.asarray))
    return _corners([rectangle for _, rectangle, _ in found]), np.array([score for _, _, score in found])


def quads_around(contours: Sequence[np.ndarray]) -> np.ndarray:
    """The smallest rectangles (N, 4, 2) around contours (K_i, 1, 2) of whole pixels."""
    import cv2

    return _corners([cv2.minAreaRect(contour) for contour in contours])


def _corners(rectangles: Sequence[Any]) -> np.ndarray:
    """Quads (N, 4, 2), clockwise, of rectangles in OpenCV's form."""
    import cv2

    quads = np.array([cv2.boxPoints(rectangle) for rectangle in rectangles], np.float32).reshape(-1, 4, 2)
    return geometry.order_quads_clockwise(quads)


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


def parts_of_regions(
    probabilities: np.ndarray, outlines: Sequence[np.ndarray], decoding: Any
) -> tuple[list[np.ndarray], np.ndarray, list[int]]:
    """What regions fall into at the lowest of `SPLIT_THRESHOLDS` that tears them apart.

    Args:
        probabilities: the map (H, W) that they were found in.
        outlines: of the regions (K_i, 2), grown.
        decoding: settings with `threshold` and `min_size`.

    Returns:
        Contours (M_j, 1, 2) of the parts, their mean probabilities, and the index of the region that each is of.
    """
    contours, scores, sources = [], [], []
    inside = np.zeros(probabilities.shape, np.uint8)
    for index, outline in enumerate(outlines):
        for contour in _parts(probabilities, outline, decoding, inside):
            contours.append(contour)
            scores.append(box_score(probabilities, contour, inside))
            sources.append(index)
    return contours, np.array(scores), sources


def _parts(probabilities: np.ndarray, outline: np.ndarray, decoding: Any, inside: np.ndarray) -> Iterator[np.ndarray]:
    """Contours (K, 1, 2) of the parts of one region; `inside` is as for `box_score`."""
    import cv2

    x, y, columns, rows = cv2.boundingRect(outline.round().astype(np.int32))
    left, top = max(x, 0), max(y, 0)
    box = slice(top, max(y + rows, 0)), slice(left, max(x + columns, 0))
    part = probabilities[box]
    cv2.fillPoly(inside, [outline.round().astype(np.int32)], 1)
    shrunk = _largest_part(inside[box] & (part > decoding.threshold).view(np.uint8))
    inside[box] = 0
    for threshold in SPLIT_THRESHOLDS:
        core: np.ndarray = shrunk & (part > threshold).view(np.uint8)
        seeds, _ = cv2.findContours(core, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        large = [seed for seed in seeds if min(cv2.minAreaRect(seed)[1]) >= decoding.min_size]
        if threshold > decoding.threshold and len(large) > 1:
            # Every pixel of the region goes with the nearest part.
            away = cv2.drawContours(np.ones_like(shrunk), large, -1, 0, cv2.FILLED)
            _, nearest = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
            for label in range(1, nearest.max() + 1):
                contour = _outer_contour(shrunk & (nearest == label).view(np.uint8))
                yield contour + np.array([left, top], contour.dtype)
            return


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """Of a mask (H, W) uint8 what belongs to its largest connected component."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if len(stats) > 1:  # the first is what the mask leaves out
        mask = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).view(np.uint8)
    return mask


def _outer_contour(mask: np.ndarray) -> np.ndarray:
    """The contour (K, 1, 2) around the largest part of a mask (H, W) uint8."""
    import cv2

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return max(contours, key=cv2.contourArea)
