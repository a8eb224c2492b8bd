"""Polygons in pixel coordinates: area, order, clipping, offsetting, minimum-area quads. Numpy in, numpy out.

A polygon is a (K, 2) array of x, y; x grows to the right, y downwards, the image's corners are (0, 0) and (W, H).
"Clockwise" is meant as seen on the screen. OpenCV, shapely and pyclipper are imported on first use.
"""

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

__all__ = [
    "bounding_box",
    "clamp_polygon",
    "clip_polygon",
    "is_tall_quad",
    "min_area_quad",
    "min_area_quads",
    "offset_polygon",
    "order_clockwise",
    "order_outlines_clockwise",
    "order_quads_clockwise",
    "perimeter",
    "perimeters",
    "quad_along_word",
    "signed_area",
    "signed_areas",
    "sound_outline",
    "transform_points",
    "unclip_distance",
    "unclip_polygon",
    "unclip_polygons",
    "unclip_quads",
    "word_height",
]


# Ratio of height to width from which on a quad may hold a word that runs along its height.
_TALL = 1.5


def signed_area(polygon: np.ndarray) -> float:
    """Area of (K, 2) in square pixels by the shoelace formula, positive for clockwise polygons (y down)."""
    x, y = np.asarray(polygon, dtype=np.float64).T
    # The last point with the first one apart: copies of few numbers cost more than the sums.
    return float(0.5 * (x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0])) if len(x) else 0.0


def perimeter(polygon: np.ndarray) -> float:
    """Length of the closed outline (K, 2) in pixels."""
    polygon = np.asarray(polygon, dtype=np.float64)
    steps = polygon[1:] - polygon[:-1]
    lengths = np.sqrt(np.einsum("ij,ij->i", steps, steps))
    return float(lengths.sum()) + math.dist(polygon[0], polygon[-1])


def signed_areas(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Areas (N,) of outlines (K_i, 2), all at once, see `signed_area`."""
    if not len(outlines):
        return np.zeros(0)
    points, following, starts = _edges(outlines)
    cross = points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]
    areas: np.ndarray = 0.5 * np.add.reduceat(cross, starts)
    return areas


def perimeters(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Lengths (N,) of closed outlines (K_i, 2), all at once, see `perimeter`."""
    if not len(outlines):
        return np.zeros(0)
    points, following, starts = _edges(outlines)
    lengths: np.ndarray = np.add.reduceat(np.sqrt(((following - points) ** 2).sum(axis=1)), starts)
    return lengths


def _edges(outlines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the edges of outlines (K_i, 2) begin and end, (sum of K_i, 2) each, and the first edge (N,) of each."""
    ends = np.cumsum([len(outline) for outline in outlines])
    starts = np.concatenate([[0], ends[:-1]])
    points = np.concatenate(outlines).astype(np.float64)
    following = np.concatenate([points[1:], points[:1]])
    following[ends - 1] = points[starts]
    return points, following, starts


def word_height(polygon: np.ndarray) -> float:
    """Pixels across the line of a word (K, 2): the shorter side of a rectangle with the same area and perimeter."""
    half, area = perimeter(polygon) / 2, abs(signed_area(polygon))
    return (half - max(half**2 - 4 * area, 0.0) ** 0.5) / 2


def bounding_box(polygon: np.ndarray) -> np.ndarray:
    """Axis-aligned box (4,) as x_min, y_min, x_max, y_max."""
    polygon = np.asarray(polygon)
    return np.concatenate([polygon.min(axis=0), polygon.max(axis=0)])


def is_tall_quad(polygon: np.ndarray) -> bool:
    """Whether an outline (K, 2) is a quad much taller than wide: a word written down or up, or a single character."""
    if len(polygon) != 4:
        return False
    return bool(np.linalg.norm(polygon[3] - polygon[0]) > _TALL * np.linalg.norm(polygon[1] - polygon[0]))


def quad_along_word(polygon: np.ndarray, text: str | None) -> np.ndarray:
    """A labelled outline (K, 2) from where its word begins.

    Labels may begin at the top left corner whichever way a word runs, as those of ICDAR 2015 do. Tall quads of three
    characters or more are taken for words that run down, as most do; all else stays as it is.
    """
    return np.roll(polygon, -1, axis=0) if is_tall_quad(polygon) and len(text or "") >= 3 else polygon


def order_clockwise(polygon: np.ndarray) -> np.ndarray:
    """The same outline (K, 2), clockwise from the top-left corner.

    Quads start as `order_quads_clockwise` says, other polygons at the vertex nearest to the top-left corner of their
    bounding box.
    """
    return order_outlines_clockwise([polygon])[0]


def order_outlines_clockwise(outlines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same outlines (K_i, 2), all of one dtype, at once, see `order_clockwise`."""
    ordered = [np.asarray(outline) for outline in outlines]
    quads = [index for index, outline in enumerate(ordered) if len(outline) == 4]
    others = [index for index, outline in enumerate(ordered) if len(outline) != 4]
    if quads:
        for index, quad in zip(quads, order_quads_clockwise(np.stack([ordered[i] for i in quads])), strict=True):
            ordered[index] = quad
    if others:
        chosen = [ordered[index] for index in others]
        turned = [one[::-1] if area < 0 else one for one, area in zip(chosen, signed_areas(chosen), strict=True)]
        for index, outline, start in zip(others, turned, _top_left_vertices(turned), strict=True):
            ordered[index] = np.concatenate([outline[start:], outline[:start]])
    return ordered


def _top_left_vertices(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Index (N,) of the vertex of each outline (K_i, 2) that is nearest to the top-left corner of its bounding box."""
    counts = np.array([len(outline) for outline in outlines])
    starts = np.cumsum(counts) - counts
    points, owners = np.concatenate(outlines), np.repeat(np.arange(len(counts)), counts)
    away = (points - np.minimum.reduceat(points, starts)[owners]).sum(axis=1)
    # Coordinates settle a tie, so that the result does not depend on the order of the input.
    order = np.lexsort((points[:, 0], points[:, 1], away, owners))
    first: np.ndarray = order[starts] - starts
    return first


def order_quads_clockwise(quads: np.ndarray) -> np.ndarray:
    """The same quads (N, 4, 2), each clockwise from its top-left corner.

    They start with the edge that points most to the right, so that it is the upper edge of the word. Between the two
    candidates of a quad turned by 45 degrees the longer edge wins.
    """
    quads = np.asarray(quads)
    anticlockwise = _shoelace(quads) < 0
    quads = np.where(anticlockwise[:, None, None], quads[:, ::-1], quads)
    edges = quads[:, [1, 2, 3, 0]].astype(np.float64) - quads
    lengths = np.hypot(edges[..., 0], edges[..., 1])
    rightwards = (edges[..., 0] / np.maximum(lengths, 1e-9)).round(6)
    # Coordinates settle a tie, so that the result does not depend on the order of the input.
    order = np.lexsort((quads[..., 0], quads[..., 1], -lengths, -rightwards), axis=1)
    corners = (order[:, :1] + np.arange(4)) % 4
    ordered: np.ndarray = np.take_along_axis(quads, corners[..., None], axis=1)
    return ordered


def _shoelace(quads: np.ndarray) -> np.ndarray:
    """Signed areas (N,) of quads (N, 4, 2): half the cross product of their diagonals."""
    across, down = np.moveaxis(quads[:, [2, 3]].astype(np.float64) - quads[:, [0, 1]], 1, 0)  # (N, 2) each
    areas: np.ndarray = 0.5 * (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0])
    return areas


def clamp_polygon(polygon: np.ndarray, width: float, height: float) -> np.ndarray:
    """Move every outside vertex of (K, 2) to the nearest point of the image; keeps the number of vertices."""
    return np.clip(polygon, 0, np.array([width, height], dtype=np.asarray(polygon).dtype))


def clip_polygon(polygon: np.ndarray, width: float, height: float) -> np.ndarray | None:
    """Intersection of (K, 2) with the image, its largest piece (M, 2), `None` where nothing remains."""
    polygon = np.asarray(polygon)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if (low >= 0).all() and high[0] <= width and high[1] <= height:
        return polygon
    import shapely

    outline = shapely.Polygon(polygon)
    if not outline.is_valid:
        # Annotators cross the sides of a word now and then.
        outline = shapely.make_valid(outline, method="structure", keep_collapsed=False)
    clipped = shapely.clip_by_rect(outline, 0, 0, width, height)
    pieces = [piece for piece in shapely.get_parts(clipped) if piece.geom_type == "Polygon" and piece.area > 0]
    if not pieces:
        return None
    largest = max(pieces, key=lambda piece: piece.area)
    return order_clockwise(np.asarray(largest.exterior.coords[:-1], dtype=polygon.dtype))


def sound_outline(outline: np.ndarray) -> np.ndarray:
    """A predicted outline (K, 2) clockwise, or the enclosing quad (4, 2) of one that crosses itself.

    A reversed outline starts at the other side's left end, so that the reading direction stays as predicted.
    """
    import shapely

    if not shapely.is_valid(shapely.Polygon(outline)):
        return min_area_quad(outline)
    return outline if signed_area(outline) > 0 else outline[::-1]


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply an affine (2, 3) or projective (3, 3) matrix to points (K, 2)."""
    points = np.asarray(points, dtype=np.float64)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    if len(matrix) == 3:
        moved = moved[:, :2] / moved[:, 2:]
    return moved.astype(np.float32)


def offset_polygon(polygon: np.ndarray, distance: float, precision: float = 1e-3) -> list[np.ndarray]:
    """Move the outline by `distance` pixels, outwards if positive, with round corners.

    Coordinates are rounded to multiples of `precision` pixels; a thousandth is finer than any annotation.

    Returns every resulting outline as (K, 2) float32: none when a shrunk polygon vanishes, several when it falls apart.
    """
    return _offset_polygons([polygon], [distance], precision)[0]


def _offset_polygons(
    polygons: Sequence[np.ndarray], distances: Sequence[float], precision: float = 1e-3
) -> list[list[np.ndarray]]:
    """The outlines of each polygon (K_i, 2) at its distance, see `offset_polygon`.

    Numbers are converted all at once, which takes longer than Clipper itself where it is done outline by outline.
    """
    import pyclipper

    scaled = np.rint(np.concatenate(polygons).astype(np.float64) / precision).astype(np.int64).tolist()
    found, start = [], 0
    for polygon, distance in zip(polygons, distances, strict=True):
        offset = pyclipper.PyclipperOffset()
        # A quarter of a pixel of error in the round corners, instead of hundreds of vertices.
        offset.ArcTolerance = 0.25 / precision
        offset.AddPath(scaled[start : start + len(polygon)], pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
        found.append(offset.Execute(distance / precision))
        start += len(polygon)
    sizes = [len(outline) for outlines in found for outline in outlines]
    numbers = chain.from_iterable(chain.from_iterable(chain.from_iterable(found)))
    points = (np.fromiter(numbers, np.int64, 2 * sum(sizes)).reshape(-1, 2) * precision).astype(np.float32)
    pieces = iter(np.split(points, np.cumsum(sizes)))
    return [[next(pieces) for _ in outlines] for outlines in found]


def unclip_distance(polygon: np.ndarray, ratio: float) -> float:
    """Offset of (K, 2) that undoes DBNet's shrinking: area x ratio / perimeter (Liao et al., DBNet, AAAI 2020)."""
    return abs(signed_area(polygon)) * ratio / max(perimeter(polygon), 1e-6)


def unclip_polygon(polygon: np.ndarray, ratio: float) -> np.ndarray | None:
    """Grow a shrunk text region (K, 2) of any shape to (M, 2); `None` unless exactly one outline results."""
    return unclip_polygons([polygon], ratio)[0]


def unclip_polygons(polygons: Sequence[np.ndarray], ratio: float) -> list[np.ndarray | None]:
    """Grow shrunk text regions (K_i, 2), see `unclip_polygon`, by the distances of `unclip_distance`."""
    distances = np.abs(signed_areas(polygons)) * ratio / np.maximum(perimeters(polygons), 1e-6)
    grown = _offset_polygons(polygons, distances.tolist()) if len(polygons) else []
    return [outlines[0] if len(outlines) == 1 else None for outlines in grown]


def unclip_quads(quads: np.ndarray, ratio: float) -> np.ndarray:
    """Grow rectangles (N, 4, 2) by area x ratio / perimeter on every side, in closed form; float32.

    The results are the minimum-area rectangles of the round-cornered outlines that `unclip_polygon` draws.
    """
    quads = np.asarray(quads, dtype=np.float64)
    along, down = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]  # (N, 2)
    edges = quads[:, [1, 2, 3, 0]] - quads
    perimeters = np.hypot(edges[..., 0], edges[..., 1]).sum(axis=1)
    distances = np.abs(_shoelace(quads)) * ratio / np.maximum(perimeters, 1e-6)
    outwards = [distances[:, None] * side / np.maximum(np.hypot(*side.T), 1e-9)[:, None] for side in (along, down)]
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])[..., None]  # (4, 2, 1)
    moved = (signs * np.stack(outwards, axis=1)[:, None]).sum(axis=2)  # (N, 4, 2, 2) -> (N, 4, 2)
    grown: np.ndarray = (quads + moved).astype(np.float32)
    return grown


def min_area_quad(points: np.ndarray) -> np.ndarray:
    """Smallest enclosing rectangle of points (K, 2) as a (4, 2) float32 quad, clockwise from the top-left corner."""
    return min_area_quads([points])[0]


def min_area_quads(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Smallest enclosing rectangle of each outline (K, 2) as a (N, 4, 2) float32, see `min_area_quad`."""
    import cv2

    if not len(outlines):
        return np.zeros((0, 4, 2), np.float32)
    outlines = [np.ascontiguousarray(points, dtype=np.float32).reshape(-1, 1, 2) for points in outlines]
    return order_quads_clockwise(np.stack([cv2.boxPoints(cv2.minAreaRect(points)) for points in outlines]))
