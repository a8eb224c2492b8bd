"""Words of any shape as two cubic Bézier curves: fitted to polygons, evaluated, turned back into polygons.

Eight control points (8, 2) describe a word: four of its upper side, left to right in reading direction, then four of
its lower side, right to left, so that they run clockwise as polygons do (Liu et al., "ABCNet: Real-time Scene Text
Spotting with Adaptive Bezier-Curve Network", CVPR 2020). An affine map of the image moves control points as it moves
any other points, so a word is best fitted before it is cropped.
"""

import numpy as np

from . import geometry

__all__ = ["bernstein_basis", "bezier_points", "bezier_to_polygon", "fit_bezier", "split_sides"]

# What the outline between two vertices weighs in a fit, relative to the vertices. Vertices lie on the word's outline
# and the chords between them inside of it, but without the chords a curve through few uneven vertices swings far out.
CHORD_WEIGHT = 0.1
CHORD_SAMPLES = 16
# Smallest area of a word, as a fraction of its perimeter squared.
MIN_COMPACTNESS = 1e-6


def bernstein_basis(t: np.ndarray) -> np.ndarray:
    """Weights (…, 4) of the four control points of a cubic Bézier curve at parameters t (…) in [0, 1], float64."""
    t = np.asarray(t, dtype=np.float64)[..., None]
    power = np.arange(4)
    return np.array([1, 3, 3, 1]) * t**power * (1 - t) ** (3 - power)


def bezier_points(control_points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points (…, T, 2) of cubic Bézier curves with control points (…, 4, 2) at parameters t (T,) in [0, 1]."""
    return bernstein_basis(t) @ np.asarray(control_points, dtype=np.float64)


def bezier_to_polygon(control_points: np.ndarray, num_points: int = 20) -> np.ndarray:
    """Outline (num_points, 2) float32 of a word, clockwise from the top-left corner, half its points on each side.

    Args:
        control_points: (8, 2) as `fit_bezier` gives them.
        num_points: even, at least 4.

    Raises:
        ValueError: if `control_points` is not (8, 2) or `num_points` is odd or too small.
    """
    control_points = np.asarray(control_points)
    if control_points.shape != (8, 2):
        raise ValueError(f"expected control points (8, 2), got shape {control_points.shape}")
    if num_points < 4 or num_points % 2:
        raise ValueError(f"`num_points` must be even and at least 4, got {num_points}")
    sides = bezier_points(control_points.reshape(2, 4, 2), np.linspace(0, 1, num_points // 2))
    return sides.reshape(num_points, 2).astype(np.float32)


def fit_bezier(polygon: np.ndarray) -> np.ndarray:
    """Control points (8, 2) float32 of the two cubic Bézier curves closest to a word's sides, in least squares.

    The curves run through the four corners of the word. See `split_sides` for which points are taken for corners.

    Args:
        polygon: (K, 2), K >= 4, clockwise from the top-left corner of the reading direction.

    Raises:
        ValueError: if the polygon has another shape, no area, or a side without length, or runs anticlockwise.
    """
    polygon = _checked(polygon)
    return np.concatenate([_fit_side(side) for side in split_sides(polygon)]).astype(np.float32)


def split_sides(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper side, left to right, and lower side, right to left, of a polygon (K, 2) as `fit_bezier` takes it.

    The first half of an even number of points is the upper side. An odd number is split at the edge around which the
    outline turns back the most, the one closest to the middle where several do.
    """
    polygon = np.asarray(polygon)
    count = len(polygon)
    if count % 2 == 0:
        return polygon[: count // 2], polygon[count // 2 :]
    edges = np.roll(polygon, -1, axis=0).astype(np.float64) - polygon
    # The edge that closes the word on the right starts at point k: two points or more on either side of it.
    k = np.arange(1, count - 2)
    turns = _turn(edges[k - 1], edges[k]) + _turn(edges[k], edges[k + 1])
    last = int(k[np.lexsort((abs(2 * k + 2 - count), -turns.round(6)))[0]])
    return polygon[: last + 1], polygon[last + 1 :]


def _turn(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Angle (N,) in radians from edges (N, 2) to the edges that follow them, positive for clockwise."""
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.arctan2(cross, (before * after).sum(axis=1))


def _checked(polygon: np.ndarray) -> np.ndarray:
    """The polygon in float64, if two curves can describe it."""
    polygon = np.asarray(polygon, dtype=np.float64)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 4:
        raise ValueError(f"expected a polygon (K, 2) with at least 4 points, got shape {polygon.shape}")
    if not np.isfinite(polygon).all():
        raise ValueError(f"the polygon has a NaN or infinite coordinate: {polygon.tolist()}")
    area, smallest = geometry.signed_area(polygon), MIN_COMPACTNESS * geometry.perimeter(polygon) ** 2
    if abs(area) <= smallest:
        raise ValueError(f"the polygon has no area: {polygon.tolist()}")
    if area < 0:
        raise ValueError(f"the polygon runs anticlockwise, see `geometry.order_clockwise`: {polygon.tolist()}")
    return polygon


def _fit_side(points: np.ndarray) -> np.ndarray:
    """Control points (4, 2) of the curve from the first to the last of points (K, 2) that is closest to all of them."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if not lengths.sum():
        raise ValueError(f"the upper or lower side of the polygon has no length: {points.tolist()}")
    # Parameters grow with the length of the side, for samples at equal steps to be at equal distances.
    at_points = np.concatenate([[0], lengths.cumsum() / lengths.sum()])
    at_chords = np.linspace(0, 1, CHORD_SAMPLES)
    chords = np.stack([np.interp(at_chords, at_points, values) for values in points.T], axis=1)
    basis = bernstein_basis(np.concatenate([at_points, at_chords]))
    weights = np.repeat([1 / len(points), CHORD_WEIGHT / CHORD_SAMPLES], [len(points), CHORD_SAMPLES])[:, None] ** 0.5
    remainder = np.concatenate([points, chords]) - basis[:, [0, 3]] @ points[[0, -1]]
    inner, *_ = np.linalg.lstsq(weights * basis[:, 1:3], weights * remainder, rcond=None)
    return np.stack([points[0], *inner, points[-1]])
