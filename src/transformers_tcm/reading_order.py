"""The order in which a reader takes the words of a scene: column by column, line by line, from left to right.

1. The scene is turned upright: by the direction in which its words run, which is the direction of the upper side of one
   of them, the one from which those of the others differ least (the sum of the angles, each weighted by the length of
   the side). A word that runs across the rest does not change it.
2. Words are put into lines from left to right, by their centres. A word belongs to a line if the vertical extents of
   the word and of the line's last word so far share more than half of the lower of the two; of several lines to the one
   with which it shares most, as a part of what both cover together. Otherwise it starts a line. A line may so rise,
   fall or bend across the picture.
3. Lines follow each other from top to bottom, by the mean height of the centres of their words.
4. Columns are separated by a gutter: an upright strip, at least 1.5 words high wide and at least twice as wide as the
   median gap between neighbours in the lines beside it, that no word enters for several lines on end. On either side
   there are two lines or more, which follow each other (the median gap between them is at most four words high), and
   the two sides stand beside each other for half of the lower one or more, level or not. Of several gutters that of
   most lines counts, then the widest. What is above it is read first, then all that is to its left, all that is to its
   right, and what is below it: each part by the same rules. A headline across two columns, or a column that falls into
   two, are so in their place; words that are scattered over a scene are no column.

The last rule is the recursive X-Y cut of Nagy and Seth ("Hierarchical representation of optically scanned documents",
ICPR 1984), with lines of rule 2 in place of rows of pixels, because words of photos rise and fall. Where a table has a
gutter its columns are read one after the other: outlines alone do not tell the two apart.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from . import geometry

__all__ = ["lines", "reading_order"]

# Vertical extents that share more than this part of the lower one are in one line.
_SAME_LINE = 0.5
# A gutter is at least so many medians of the height of words wide, and of the gaps between words beside it.
_GUTTER_HEIGHTS, _GUTTER_GAPS = 1.5, 2.0
# The lines of a column are at most so many medians of the height of words apart.
_STEP_HEIGHTS = 4.0
# Columns stand beside each other for at least this part of the lower one.
_BESIDE = 0.5


def reading_order(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Indices (N,) int64 of the outlines in the order of reading, which the module describes.

    The result follows from the outlines alone, not from the order in which they are given.

    Args:
        polygons: N outlines (K_i, 2) in pixels. Those of four points start at the top-left corner of the reading
            direction; the direction of others is that of the smallest rectangle around them.
    """
    return np.array([index for line in lines(polygons) for index in line], dtype=np.int64)


def lines(polygons: Sequence[np.ndarray]) -> list[list[int]]:
    """The lines of the outlines in the order of reading, each a list of indices from left to right.

    ```python
    >>> [" ".join(words[index]["text"] for index in line) for line in lines([word["polygon"] for word in words])]
    ['GRAND OPENING', 'SALE']
    ```

    Args:
        polygons: N outlines (K_i, 2), as in `reading_order`, which gives the same indices in one row.
    """
    if not len(polygons):
        return []
    points = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    # A fixed order to start from, so that neither ties nor rounding depend on the order of the input.
    start = sorted(range(len(points)), key=lambda index: points[index].ravel().tolist())
    points = [points[index] for index in start]
    x, y = _reading_direction(points)
    upright = [polygon @ np.array([[x, -y], [y, x]]) for polygon in points]
    boxes = np.array([geometry.bounding_box(polygon) for polygon in upright])  # (N, 4)
    return [[start[index] for index in line] for line in _read(boxes, np.arange(len(boxes)))]


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


def _read(boxes: np.ndarray, members: np.ndarray) -> Iterator[list[int]]:
    """Lines of those of the upright boxes (N, 4) that are members (M,), column by column."""
    rows = [members[row] for row in _lines(boxes[members])]
    gutter = _gutter(boxes, rows)
    if gutter is None:
        yield from ([int(index) for index in row] for row in rows)
        return
    first, last, x = gutter
    beside = np.sort(np.concatenate(rows[first:last]))
    is_left = boxes[beside, 2] <= x
    for part in (rows[:first], [beside[is_left]], [beside[~is_left]], rows[last:]):
        if part:
            yield from _read(boxes, np.sort(np.concatenate(part)))


def _gutter(boxes: np.ndarray, rows: list[np.ndarray]) -> tuple[int, int, float] | None:
    """First and last + 1 of the rows that the best gutter runs through, and its left edge; `None` without any."""
    if len(rows) < 2:
        return None
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    boxes = boxes[np.concatenate(rows)]
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    width = _GUTTER_HEIGHTS * height
    best, found = (0, 0.0), None
    for x in np.unique(boxes[:, 2])[:-1]:
        enters = (boxes[:, 0] < x + width) & (boxes[:, 2] > x)
        blocked = [-1, *np.unique(row_of[enters]).tolist(), len(rows)]
        for first, last in pairwise(blocked):
            count = last - first - 1
            if count < max(2, best[0]):
                continue
            in_run = (row_of > first) & (row_of < last)
            size = _gutter_width(boxes[in_run], row_of[in_run], x, height)
            if size and (count, size) > best:
                best, found = (count, size), (first + 1, last, float(x))
    return found


def _gutter_width(boxes: np.ndarray, row_of: np.ndarray, x: float, height: float) -> float:
    """How wide the free strip right of `x` is between the boxes (M, 4) of some rows; 0 if it separates no columns."""
    is_left = boxes[:, 2] <= x
    sides = [(boxes[side], row_of[side]) for side in (is_left, ~is_left)]
    if not all(_is_column(*side, _STEP_HEIGHTS * height) for side in sides):
        return 0.0
    tops, bottoms = ([box[:, 1].min() for box, _ in sides], [box[:, 3].max() for box, _ in sides])
    if min(bottoms) - max(tops) < _BESIDE * np.subtract(bottoms, tops).min():
        return 0.0
    size = float(sides[1][0][:, 0].min() - sides[0][0][:, 2].max())
    gaps = np.concatenate([_gaps(*side) for side in sides])
    return size if not len(gaps) or size >= _GUTTER_GAPS * float(np.median(gaps)) else 0.0


def _is_column(boxes: np.ndarray, row_of: np.ndarray, furthest: float) -> bool:
    """Whether boxes (M, 4), ordered by row, are lines that follow each other."""
    starts = np.flatnonzero(np.diff(row_of, prepend=-1))
    if len(starts) < 2:
        return False
    tops, bottoms = np.minimum.reduceat(boxes[:, 1], starts), np.maximum.reduceat(boxes[:, 3], starts)
    return bool(np.median(tops[1:] - bottoms[:-1]) <= furthest)


def _gaps(boxes: np.ndarray, row_of: np.ndarray) -> np.ndarray:
    """Gaps between neighbours in a row, of boxes (M, 4) that are ordered by row and from left to right."""
    gaps: np.ndarray = (boxes[1:, 0] - boxes[:-1, 2])[row_of[1:] == row_of[:-1]].clip(min=0)
    return gaps


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
