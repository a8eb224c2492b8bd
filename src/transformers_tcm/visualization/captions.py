"""Where captions go in a picture: beside their words or off to the side, and never over another word or caption."""

from collections.abc import Iterator

import numpy as np

from .. import geometry

__all__ = ["place_apart", "place_caption"]

# How far from its word a caption may be, in heights of the caption, and how many places are looked at.
_FURTHEST, _LOOKED_AT = 14, 400


def place_caption(
    size: tuple[int, int],
    polygon: np.ndarray,
    image_size: tuple[int, int],
    gap: float,
    obstacles: np.ndarray,
) -> np.ndarray | None:
    """Box (4,) of whole pixels for a caption that keeps off the outline of its word and off all obstacles.

    It is above or below the word, at its left or right end, or beside it: the first free place in this order.

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
    boxes = np.concatenate([corners, corners + size], axis=1)  # (M, 4)
    free = _inside(boxes, image_size) & ~_overlap(boxes, obstacles).any(axis=1)
    return boxes[free.argmax()] if free.any() else None


def place_apart(
    size: tuple[int, int],
    polygon: np.ndarray,
    image_size: tuple[int, int],
    gap: float,
    obstacles: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Box (4,) for a caption as near to its word as there is room, and the line (2, 2) from it to the word.

    Neither box nor line meets an obstacle. The arguments are those of `place_caption`.

    Returns:
        `None` where there is no such place within some heights of the caption.
    """
    word = geometry.bounding_box(polygon)
    width, height = size
    reach = _FURTHEST * height
    # Half a height apart; the width of a caption would leave out too much.
    x = np.arange(word[0] - reach - width, word[2] + reach, height / 2)
    y = np.arange(word[1] - reach - height, word[3] + reach, height / 2)
    corners = np.floor(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    boxes = np.concatenate([corners, corners + size], axis=1)  # (M, 4)
    around = np.array([*(word[:2] - gap), *(word[2:] + gap)])
    free = _inside(boxes, image_size) & ~_overlap(boxes, np.concatenate([obstacles, around[None]])).any(axis=1)
    boxes = boxes[free]
    starts, ends = _shortest_lines(boxes, word)
    order = np.argsort(np.linalg.norm(ends - starts, axis=1), kind="stable")[:_LOOKED_AT]
    for index in order:
        if not _crosses(starts[index], ends[index], obstacles):
            return boxes[index], np.stack([starts[index], ends[index]])
    return None


def _inside(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Which boxes (M, 4) are in the image."""
    inside: np.ndarray = np.asarray((boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= image_size).all(axis=1))
    return inside


def _overlap(boxes: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    """(M, N) bool: which boxes (M, 4) cover some of which obstacles (N, 4)."""
    low = np.maximum(boxes[:, None, :2], obstacles[:, :2])
    high = np.minimum(boxes[:, None, 2:], obstacles[:, 2:])
    overlap: np.ndarray = (high > low).all(axis=2)
    return overlap


def _shortest_lines(boxes: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts (M, 2) at boxes (M, 4) and ends (M, 2) at the box of the word (4,)."""
    ends = np.clip((boxes[:, :2] + boxes[:, 2:]) / 2, word[:2], word[2:])
    return np.clip(ends, boxes[:, :2], boxes[:, 2:]), ends


def _crosses(start: np.ndarray, end: np.ndarray, obstacles: np.ndarray) -> bool:
    """Whether the line between two points (2,) enters one of the boxes (N, 4): Liang and Barsky's clipping, 1984."""
    step = end - start
    along = np.where(np.abs(step) < 1e-9, 1e-9, step)
    first, second = (obstacles[:, :2] - start) / along, (obstacles[:, 2:] - start) / along  # (N, 2)
    enters = np.minimum(first, second).max(axis=1).clip(min=0)
    leaves = np.maximum(first, second).min(axis=1).clip(max=1)
    return bool((enters < leaves).any())


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
