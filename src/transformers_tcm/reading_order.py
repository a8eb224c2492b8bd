"""The order in which a reader takes the words of a scene: line by line, from left to right within a line.

1. The scene is turned upright: by the direction in which its words run, which is the direction of the upper side of one
   of them, the one from which those of the others differ least (the sum of the angles, each weighted by the length of
   the side). A word that runs across the rest does not change it.
2. Words are put into lines from left to right, by their centres. A word belongs to a line if the vertical extents of
   the word and of the line's last word so far share more than half of the lower of the two; of several lines to the one
   with which it shares most, as a part of what both cover together. Otherwise it starts a line. A line may so rise,
   fall or bend across the picture.
3. Lines follow each other from top to bottom, by the mean height of the centres of their words.

Columns are not looked for: what stands at one height is one line, however wide the gap in it. Two columns of text whose
lines are level are read across, as a table is; where they are not level, their lines alternate.
"""

from collections.abc import Sequence

import numpy as np

from . import geometry

__all__ = ["reading_order"]

# Vertical extents that share more than this part of the lower one are in one line.
_SAME_LINE = 0.5


def reading_order(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Indices (N,) int64 of the outlines in the order of reading, which the module describes.

    The result follows from the outlines alone, not from the order in which they are given.

    Args:
        polygons: N outlines (K_i, 2) in pixels. Those of four points start at the top-left corner of the reading
            direction; the direction of others is that of the smallest rectangle around them.
    """
    if not len(polygons):
        return np.zeros(0, dtype=np.int64)
    points = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    # A fixed order to start from, so that neither ties nor rounding depend on the order of the input.
    start = sorted(range(len(points)), key=lambda index: points[index].ravel().tolist())
    points = [points[index] for index in start]
    x, y = _reading_direction(points)
    upright = [polygon @ np.array([[x, -y], [y, x]]) for polygon in points]
    boxes = np.array([geometry.bounding_box(polygon) for polygon in upright])  # (N, 4)
    return np.array(start)[np.concatenate(_lines(boxes))]


def _reading_direction(points: list[np.ndarray]) -> np.ndarray:
    """Unit vector (2,) of the weighted circular median of the upper sides."""
    quads = [polygon if len(polygon) == 4 else geometry.min_area_quad(polygon) for polygon in points]
    sides = np.array([quad[1] - quad[0] for quad in quads], dtype=np.float64)  # (N, 2)
    angles, lengths = np.arctan2(sides[:, 1], sides[:, 0]), np.linalg.norm(sides, axis=1)
    if not lengths.any():
        return np.array([1.0, 0.0])
    differences = np.abs(angles[:, None] - angles)
    costs = np.minimum(differences, 2 * np.pi - differences) @ lengths
    best = int(np.where(lengths > 0, costs, np.inf).argmin())
    return sides[best] / lengths[best]


def _lines(boxes: np.ndarray) -> list[list[int]]:
    """Lines of upright boxes (N, 4), as lists of indices from left to right, top to bottom."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    lines: list[list[int]] = []
    last = np.zeros((len(boxes), 2))  # vertical extent of the last word of each line so far
    for index in np.lexsort((centers[:, 1], centers[:, 0])):
        low, high = boxes[index, 1::2]
        lows, highs = last[: len(lines)].T
        shared = np.minimum(high, highs) - np.maximum(low, lows)
        together = np.maximum(high, highs) - np.minimum(low, lows)
        joins = shared > _SAME_LINE * np.minimum(high - low, highs - lows)
        if joins.any():
            line = int(np.where(joins, shared / np.maximum(together, 1e-9), -1).argmax())
            lines[line].append(int(index))
        else:
            line = len(lines)
            lines.append([int(index)])
        last[line] = low, high
    return sorted(lines, key=lambda line: centers[line, 1].mean())
