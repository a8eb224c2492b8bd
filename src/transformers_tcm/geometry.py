"""Polygons in pixel coordinates: area, order, clipping, offsetting, minimum-area quads. Numpy in, numpy out.

A polygon is a (K, 2) array of x, y; x grows to the right, y downwards, the image's corners are (0, 0) and (W, H).
"Clockwise" is meant as seen on the screen. OpenCV, shapely and pyclipper are imported on first use.
"""

import numpy as np

__all__ = [
    "bounding_box",
    "clamp_polygon",
    "clip_polygon",
    "is_tall_quad",
    "min_area_quad",
    "offset_polygon",
    "order_clockwise",
    "perimeter",
    "quad_along_word",
    "signed_area",
    "sound_outline",
    "transform_points",
    "unclip_distance",
    "unclip_polygon",
    "unclip_quad",
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
    return float(np.sqrt((steps**2).sum(axis=1)).sum() + np.hypot(*(polygon[0] - polygon[-1])))


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

    Quads start with the edge that points most to the right, so that it is the upper edge of the word. Between the two
    candidates of a quad turned by 45 degrees the longer edge wins. Other polygons start at the vertex nearest to the
    top-left corner of their bounding box.
    """
    polygon = np.asarray(polygon)
    if signed_area(polygon) < 0:
        polygon = polygon[::-1]
    if len(polygon) == 4:
        edges = np.roll(polygon, -1, axis=0).astype(np.float64) - polygon
        lengths = np.linalg.norm(edges, axis=1)
        rightwards = edges[:, 0] / np.maximum(lengths, 1e-9)
        preference = [-lengths, -rightwards.round(6)]
    else:
        preference = [(polygon - polygon.min(axis=0)).sum(axis=1)]
    # Coordinates settle a tie, so that the result does not depend on the order of the input.
    start = int(np.lexsort((polygon[:, 0], polygon[:, 1], *preference))[0])
    return np.roll(polygon, -start, axis=0)


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
    import pyclipper

    offset = pyclipper.PyclipperOffset()
    path = np.rint(np.asarray(polygon, dtype=np.float64) / precision).astype(np.int64)
    # A quarter of a pixel of error in the round corners, instead of hundreds of vertices.
    offset.ArcTolerance = 0.25 / precision
    offset.AddPath(path.tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    outlines = offset.Execute(distance / precision)
    return [(np.asarray(outline) * precision).astype(np.float32) for outline in outlines]


def unclip_distance(polygon: np.ndarray, ratio: float) -> float:
    """Offset of (K, 2) that undoes DBNet's shrinking: area x ratio / perimeter (Liao et al., DBNet, AAAI 2020)."""
    return abs(signed_area(polygon)) * ratio / max(perimeter(polygon), 1e-6)


def unclip_polygon(polygon: np.ndarray, ratio: float) -> np.ndarray | None:
    """Grow a shrunk text region (K, 2) of any shape to (M, 2); `None` unless exactly one outline results."""
    outlines = offset_polygon(polygon, unclip_distance(polygon, ratio))
    return outlines[0] if len(outlines) == 1 else None


def unclip_quad(quad: np.ndarray, ratio: float) -> np.ndarray:
    """Grow a rectangle (4, 2) by area x ratio / perimeter on every side, in closed form.

    The result is the minimum-area rectangle of the round-cornered outline that `unclip_polygon` draws.
    """
    quad = np.asarray(quad, dtype=np.float64)
    distance = unclip_distance(quad, ratio)
    along = (quad[1] - quad[0]) / max(np.linalg.norm(quad[1] - quad[0]), 1e-9)
    down = (quad[3] - quad[0]) / max(np.linalg.norm(quad[3] - quad[0]), 1e-9)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return (quad + distance * (signs[:, :1] * along + signs[:, 1:] * down)).astype(np.float32)


def min_area_quad(points: np.ndarray) -> np.ndarray:
    """Smallest enclosing rectangle of points (K, 2) as a (4, 2) float32 quad, clockwise from the top-left corner."""
    import cv2

    rectangle = cv2.minAreaRect(np.ascontiguousarray(points, dtype=np.float32).reshape(-1, 1, 2))
    return order_clockwise(cv2.boxPoints(rectangle))
