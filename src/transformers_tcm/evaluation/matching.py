"""Areas that polygons share, and who is matched to whom: what all protocols on polygons have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..instances import TextInstances

__all__ = ["PolygonOverlap", "greedy_pairs", "overlap"]


@dataclass(frozen=True)
class PolygonOverlap:
    """Areas of N ground truths and M detections in square pixels.

    Polygons that intersect themselves have the area 0 and share nothing with any other.

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

    def inside_any(self, ground_truths: np.ndarray, threshold: float) -> np.ndarray:
        """(M,) bool: detections of which more than `threshold` lies inside one of the chosen (N,) ground truths."""
        return (self.precision[ground_truths] > threshold).any(axis=0)


def overlap(ground_truth: TextInstances, detections: TextInstances) -> PolygonOverlap:
    """Intersect all pairs of polygons; only those whose bounding boxes meet cost anything."""
    import shapely

    truths, found = _shapes(ground_truth.polygons), _shapes(detections.polygons)
    intersection = np.zeros((len(truths), len(found)))
    rows, columns = shapely.STRtree(found).query(truths, predicate="intersects")
    intersection[rows, columns] = shapely.area(shapely.intersection(truths[rows], found[columns]))
    return PolygonOverlap(shapely.area(truths), shapely.area(found), intersection)


def greedy_pairs(candidates: np.ndarray) -> Iterator[tuple[int, int]]:
    """Match rows to columns of a (N, M) bool array: the first free column of each row, in the order of the rows."""
    taken = np.zeros(candidates.shape[1], dtype=bool)
    for row in np.flatnonzero(candidates.any(axis=1)):
        free = np.flatnonzero(candidates[row] & ~taken)
        if len(free):
            taken[free[0]] = True
            yield int(row), int(free[0])


def _shapes(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Polygons as (N,) shapely objects, empty where the outline crosses itself."""
    import shapely

    if not polygons:
        return np.empty(0, dtype=object)
    owners = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    shapes = shapely.polygons(shapely.linearrings(np.concatenate(polygons).astype(np.float64), indices=owners))
    shapes[~shapely.is_valid(shapes)] = shapely.Polygon()
    return shapes


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
