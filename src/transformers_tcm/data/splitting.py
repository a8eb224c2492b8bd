"""Large aerial images as patches: windows, the objects of a window, and the detections of all patches as one.

1. Windows of a size overlap by a gap; the last one of a row or column moves back to end with the image.
2. A window counts when enough of it lies in the image; of an image too small for any, the fullest windows count.
3. An object belongs to every window that holds at least 70 % of it, whole: it is never cut, so that its rectangle stays
   one, and is marked as truncated where part of it lies outside.
4. Detections move back by the origin of their patch; of those that overlap, class by class, the best one stays.

References: DOTA, Xia et al., CVPR 2018, and the image splitting of MMRotate, Zhou et al., ACM MM 2022.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..rotated_boxes import quads_to_boxes, rotated_nms

__all__ = [
    "MergedDetections",
    "WindowObjects",
    "intersection_over_foreground",
    "merge_patches",
    "objects_in_window",
    "patch_name",
    "patch_origin",
    "split_windows",
]

# Where no window lies in the image far enough, those within this share of the best one count.
NEAR_BEST = 0.01
# An object is truncated when more than this share of it lies outside: less is rounding.
TRUNCATION = 1e-6
PATCH_NAME = re.compile(r"(?P<image>.+?)__(?P<size>\d+(?:\.\d+)?)__(?P<x>\d+)___(?P<y>\d+)")


def split_windows(
    width: int,
    height: int,
    sizes: Sequence[int] = (1024,),
    gaps: Sequence[int] = (200,),
    min_image_share: float = 0.6,
) -> np.ndarray:
    """Windows (N, 4) int64 as x_min, y_min, x_max, y_max, column by column; they may leave a small image.

    Args:
        width: of the image in pixels.
        height: likewise.
        sizes: side of the square windows of each scale.
        gaps: overlap of neighbouring windows of each scale.
        min_image_share: share of a window's area that lies in the image.

    Raises:
        ValueError: if sizes and gaps do not fit together.
    """
    if len(sizes) != len(gaps) or any(not 0 <= gap < size for size, gap in zip(sizes, gaps, strict=True)):
        raise ValueError(f"each of `sizes` needs a gap of at least 0 and less than it, got {sizes} and {gaps}")
    windows = np.array(
        [
            (x, y, x + size, y + size)
            for size, gap in zip(sizes, gaps, strict=True)
            for x in _starts(width, size, size - gap)
            for y in _starts(height, size, size - gap)
        ],
        dtype=np.int64,
    )
    inside = np.minimum(windows[:, 2:], [width, height]) - windows[:, :2]
    shares = inside.prod(axis=1) / (windows[:, 2:] - windows[:, :2]).prod(axis=1)
    enough = shares > min_image_share
    return windows[enough] if enough.any() else windows[shares >= shares.max() - NEAR_BEST]


def _starts(side: int, size: int, step: int) -> list[int]:
    """Where windows of a size begin along a side."""
    count = 1 if side <= size else math.ceil((side - size) / step + 1)
    starts = [step * number for number in range(count)]
    if count > 1:
        starts[-1] = min(starts[-1], side - size)
    return starts


def intersection_over_foreground(polygons: Sequence[np.ndarray], windows: np.ndarray) -> np.ndarray:
    """IoF (N, M): the share of each polygon (K_i, 2) that lies in each window (M, 4). An empty polygon has IoF 0."""
    import shapely

    shares = np.zeros((len(polygons), len(windows)))
    if not len(polygons):
        return shares
    outlines = np.array([shapely.Polygon(np.asarray(polygon, dtype=np.float64)) for polygon in polygons])
    shapes = shapely.make_valid(outlines, method="structure", keep_collapsed=False)
    frames = shapely.box(*windows.astype(np.float64).T)
    window, polygon = shapely.STRtree(shapes).query(frames, predicate="intersects")
    shared = shapely.area(shapely.intersection(shapes[polygon], frames[window]))
    shares[polygon, window] = shared / np.maximum(shapely.area(shapes[polygon]), np.finfo(np.float64).tiny)
    return shares


@dataclass(frozen=True)
class WindowObjects:
    """The objects that belong to a window.

    Args:
        indices: (K,) their numbers in the image.
        polygons: their whole outlines in pixels of the window, float32; they may leave it.
        truncated: (K,) bool, those that do.
    """

    indices: np.ndarray
    polygons: list[np.ndarray]
    truncated: np.ndarray


def objects_in_window(
    polygons: Sequence[np.ndarray], shares: np.ndarray, window: np.ndarray, min_share: float = 0.7
) -> WindowObjects:
    """The objects of an image that belong to one window.

    Args:
        polygons: of the N objects, each (K_i, 2).
        shares: (N,) IoF of each with the window, a column of `intersection_over_foreground`.
        window: (4,).
        min_share: least IoF of an object that belongs to it.
    """
    indices = np.flatnonzero(shares >= min_share)
    moved = [
        (np.asarray(polygons[index], dtype=np.float64) - window[:2]).astype(np.float32) for index in indices.tolist()
    ]
    return WindowObjects(indices, moved, shares[indices] < 1 - TRUNCATION)


def patch_name(image: str, window: np.ndarray) -> str:
    """Name of a patch, `P0000__1024__824___0`: image, size of the window (4,), x and y of its corner."""
    x_min, y_min, x_max, _ = (int(value) for value in window)
    return f"{image}__{x_max - x_min}__{x_min}___{y_min}"


def patch_origin(name: str) -> tuple[str, int, int]:
    """Image, x and y of a patch; the second field may also be the devkit's rate of 1.

    Raises:
        ValueError: for any other name, and for patches of resized images.
    """
    match = PATCH_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a patch; expected one like 'P0000__1024__824___0'")
    if float(match["size"]) < 1 or not float(match["size"]).is_integer():
        raise ValueError(f"{name!r} is a patch of a resized image; split the images at rate 1")
    return match["image"], int(match["x"]), int(match["y"])


@dataclass(frozen=True)
class MergedDetections:
    """Objects of one full image, the best first.

    Args:
        quads: (N, 4, 2) float32 in pixels of the full image.
        scores: (N,).
        labels: (N,) int64.
    """

    quads: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def merge_patches(
    patches: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], nms_threshold: float = 0.1
) -> dict[str, MergedDetections]:
    """Detections of patches as those of the full images, which are in the order of their first patch.

    Args:
        patches: of each its name, quads (N, 4, 2) in its own pixels, scores (N,) and labels (N,).
        nms_threshold: largest IoU of two objects of a class that are both kept.
    """
    collected: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for name, quads, scores, labels in patches:
        image, x, y = patch_origin(name)
        moved = np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2) + np.array([x, y])
        collected.setdefault(image, []).append((moved, np.asarray(scores), np.asarray(labels, dtype=np.int64)))
    return {image: _nms_of_image(parts, nms_threshold) for image, parts in collected.items()}


def _nms_of_image(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], nms_threshold: float) -> MergedDetections:
    import torch

    quads, scores, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    kept = rotated_nms(
        torch.from_numpy(quads_to_boxes(quads)), torch.from_numpy(scores), torch.from_numpy(labels), nms_threshold
    ).numpy()
    return MergedDetections(quads[kept].astype(np.float32), scores[kept], labels[kept])
