"""Where captions go in a picture: beside their words, inside the image, off each other where there is room."""

from collections.abc import Iterator

import numpy as np

from .. import geometry

__all__ = ["place_caption"]


def place_caption(
    size: tuple[int, int],
    polygon: np.ndarray,
    image_size: tuple[int, int],
    gap: float,
    obstacles: np.ndarray,
) -> np.ndarray | None:
    """Box (4,) of whole pixels for a caption that keeps off the outline of its word.

    It is above or below the word, at its left or right end, or beside it: where it covers the least of the obstacles,
    and of equal places the first in this order.

    Args:
        size: width and height of the caption.
        polygon: outline (K, 2) of the word.
        image_size: width and height of the image.
        gap: pixels between caption and outline.
        obstacles: boxes (N, 4) of other words and captions.

    Returns:
        x_min, y_min, x_max, y_max, or `None` where there is no room inside the image.
    """
    corners = np.array(list(_corners(size, polygon, image_size, gap)))
    inside = ((corners >= 0) & (corners + size <= image_size)).all(axis=1)
    if not inside.any():
        return None
    boxes = np.concatenate([corners, corners + size], axis=1)[inside]  # (M, 4)
    low = np.maximum(boxes[:, None, :2], obstacles[:, :2])
    high = np.minimum(boxes[:, None, 2:], obstacles[:, 2:])
    covered = (high - low).clip(min=0).prod(axis=2).sum(axis=1)  # (M, N, 2) -> (M,)
    return boxes[covered.argmin()]


def _corners(
    size: tuple[int, int], polygon: np.ndarray, image_size: tuple[int, int], gap: float
) -> Iterator[tuple[float, float]]:
    """Top-left corners of the possible places, in the order of preference."""
    (width, height), (image_width, image_height) = size, image_size
    left, top, right, bottom = geometry.bounding_box(polygon)
    for x in (left, right - width):
        x = np.floor(min(max(x, 0), image_width - width))
        highest, lowest = _extent(polygon, 0, x - gap, x + width + gap)
        yield x, np.floor(highest - gap) - height
        yield x, np.ceil(lowest + gap)
    y = np.floor(min(max((top + bottom - height) / 2, 0), image_height - height))
    leftmost, rightmost = _extent(polygon, 1, y - gap, y + height + gap)
    yield np.ceil(rightmost + gap), y
    yield np.floor(leftmost - gap) - width, y


def _extent(polygon: np.ndarray, axis: int, low: float, high: float) -> tuple[float, float]:
    """From where to where an outline (K, 2) reaches along the other axis, between `low` and `high` of this axis."""
    start = np.asarray(polygon, dtype=np.float64)
    edge = np.roll(start, -1, axis=0) - start
    along = np.where(np.abs(edge[:, axis]) < 1e-9, 1.0, edge[:, axis])
    crossings = [((limit - start[:, axis]) / along).clip(0, 1) for limit in (low, high)]
    places = np.stack([np.zeros(len(start)), *crossings])  # on each edge; the end of one is the start of the next
    points = start + places[..., None] * edge  # (3, K, 2)
    within = (points[..., axis] >= low - 1e-6) & (points[..., axis] <= high + 1e-6)
    reached = points[..., 1 - axis][within] if within.any() else start[:, 1 - axis]
    return float(reached.min()), float(reached.max())
