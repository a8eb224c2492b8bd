"""Areas that polygons share, and who is matched to whom: what all protocols on polygons have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..instances import TextInstances

__all__ = ["PolygonOverlap", "greedy_pairs", "intersection_area", "overlap", "shapes"]


@dataclass(frozen=True)
class PolygonOverlap:
    """Areas of N ground truths and M detections in square pixels.

    Polygons that intersect themselves have the area 0 and share nothing with any other (unless mended).

    Args:
        ground_truth_area: (N,) float64.
        detection_area: (M,) float64.
        intersection: (N, M) float64.
    """

    ground_truth_area: np.ndarray
    detection_area: np.ndarray
    intersection: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union (N, M)."""
        union = self.ground_truth_area[:, None] + self.detection_area - self.intersection
        return _ratio(self.intersection, union)

    @property
    def recall(self) -> np.ndarray:
        """Share of each ground truth that a detection covers (N, M)."""
        return _ratio(self.intersection, self.ground_truth_area[:, None])

    @property
    def precision(self) -> np.ndarray:
        """Share of each detection that lies inside a ground truth (N, M)."""
        return _ratio(self.intersection, self.detection_area)

    def inside_any(self, ground_truths: np.ndarray, threshold: float, margin: float = 0.0) -> np.ndarray:
        """(M,) bool: detections of which more than `threshold` lies inside one of the chosen (N,) ground truths.

        `margin` is added to the area of the detections.
        """
        share = _ratio(self.intersection[ground_truths], self.detection_area + margin)
        return np.any(share > threshold, axis=0)


def overlap(ground_truth: TextInstances, detections: TextInstances, mend: bool = False) -> PolygonOverlap:
    """Intersect all ground truths with all detections; `mend` as in `shapes`."""
    import shapely

    truths, found = shapes(ground_truth.polygons, mend), shapes(detections.polygons, mend)
    return PolygonOverlap(shapely.area(truths), shapely.area(found), intersection_area(truths, found))


def intersection_area(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Shared area (N, M) of N and M shapely polygons; only those whose bounding boxes meet cost anything."""
    import shapely

    shared = np.zeros((len(rows), len(columns)))
    i, j = shapely.STRtree(columns).query(rows, predicate="intersects")
    shared[i, j] = shapely.area(shapely.intersection(rows[i], columns[j]))
    return shared


def shapes(polygons: Sequence[np.ndarray], mend: bool = False) -> np.ndarray:
    """Polygons as (N,) shapely objects.

    Outlines that cross themselves become empty or, with `mend`, what a buffer of zero width makes of them.
    """
    import shapely

    if not len(polygons):
        return np.empty(0, dtype=object)
    owners = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    outlines = shapely.polygons(shapely.linearrings(np.concatenate(polygons).astype(np.float64), indices=owners))
    crossed = ~shapely.is_valid(outlines)
    outlines[crossed] = shapely.buffer(outlines[crossed], 0) if mend else shapely.Polygon()
    return outlines


def greedy_pairs(candidates: np.ndarray) -> Iterator[tuple[int, int]]:
    """Match rows to columns of a (N, M) bool array: the first free column of each row, in the order of the rows."""
    taken = np.zeros(candidates.shape[1], dtype=bool)
    for row in np.flatnonzero(candidates.any(axis=1)):
        free = np.flatnonzero(candidates[row] & ~taken)
        if len(free):
            taken[free[0]] = True
            yield int(row), int(free[0])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
