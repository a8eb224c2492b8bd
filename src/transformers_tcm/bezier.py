"""Words of any shape as two cubic Bézier curves: fitted to polygons, evaluated, turned back into polygons.

Eight control points (8, 2) describe a word: four of its upper side, left to right in reading direction, then four of
its lower side, right to left, so that they run clockwise as polygons do (Liu et al., "ABCNet: Real-time Scene Text
Spotting with Adaptive Bezier-Curve Network", CVPR 2020). An affine map of the image moves control points as it moves
any other points, so a word is best fitted before it is cropped.
"""

from functools import cache

import numpy as np

from . import geometry

__all__ = [
    "CORNERS",
    "bernstein_basis",
    "bezier_joined",
    "bezier_points",
    "bezier_section",
    "bezier_to_polygon",
    "fit_bezier",
    "outline_to_bezier",
    "short_sides",
    "split_sides",
]

# Of the control points of a word, those at its corners.
CORNERS = [0, 3, 4, 7]

# What the outline between two vertices weighs in a fit, relative to the vertices. Vertices lie on the word's outline
# and the chords between them inside of it, but without the chords a curve through few uneven vertices swings far out.
CHORD_WEIGHT = 0.1
CHORD_SAMPLES = 16
# Smallest area of a word, as a fraction of its perimeter squared.
MIN_COMPACTNESS = 1e-6
# Where the corners of an outline are looked for: this many places around it, then closer and closer to the best four.
COARSE_STEPS = 32
REFINEMENTS = 4
# Points that a side is compared with its curve at.
SIDE_SAMPLES = 12
# What the misfit of an end weighs: grown outlines have round ones.
END_WEIGHT = 0.3
# Words that fill less of their convex hull are curved: their ends are not where the corners of a quad are.
MIN_SOLIDITY = 0.85


def bernstein_basis(t: np.ndarray) -> np.ndarray:
    """Weights (…, 4) of the four control points of a cubic Bézier curve at parameters t (…) in [0, 1], float64."""
    t = np.asarray(t, dtype=np.float64)[..., None]
    power = np.arange(4)
    return np.array([1, 3, 3, 1]) * t**power * (1 - t) ** (3 - power)


def bezier_points(control_points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points (…, T, 2) of cubic Bézier curves with control points (…, 4, 2) at parameters t (T,) in [0, 1]."""
    return bernstein_basis(t) @ np.asarray(control_points, dtype=np.float64)


def short_sides(control_points: np.ndarray) -> np.ndarray:
    """Length (N,) of the shorter two of the four sides of words (N, 8, 2), as the crow flies."""
    corners = control_points[:, CORNERS]
    sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)  # (N, 4): upper, right, lower, left
    shorter: np.ndarray = sides.reshape(-1, 2, 2).mean(axis=1).min(axis=1)
    return shorter


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


def bezier_section(control_points: np.ndarray, first: float, last: float) -> np.ndarray:
    """Control points (8, 2) float32 of the part of a word (8, 2) between two shares of its length, in [0, 1]; the
    curves go on where they lie beyond."""
    upper, lower = np.asarray(control_points, np.float64).reshape(2, 4, 2)
    # The lower curve runs the other way.
    return np.concatenate([_section(upper, first, last), _section(lower, 1 - last, 1 - first)]).astype(np.float32)


def bezier_joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Control points (8, 2) float32 of the word from where one word (8, 2) begins to where another, further along the
    same line, ends. The curves follow what is not close to where the two meet, since there they may overlap."""
    sides = [np.asarray(word, np.float64).reshape(2, 4, 2) for word in (first, second)]
    early, late = np.linspace(0, 0.75, 6), np.linspace(0.25, 1, 6)
    (upper, lower), (next_upper, next_lower) = sides
    # The lower curves run the other way.
    upper = np.concatenate([bezier_points(upper, early), bezier_points(next_upper, late)])
    lower = np.concatenate([bezier_points(next_lower, early), bezier_points(lower, late)])
    return np.concatenate([_fit_side(upper), _fit_side(lower)]).astype(np.float32)


def fit_bezier(polygon: np.ndarray) -> np.ndarray:
    """Control points (8, 2) float32 of the two cubic Bézier curves closest to a word's sides, in least squares.

    The curves run through the four corners of the word. See `split_sides` for which points are taken for corners.

    Args:
        polygon: (K, 2), K >= 4, clockwise from the top-left corner of the reading direction. Outlines with vertices
            anywhere, such as contours, are for `outline_to_bezier`.

    Raises:
        ValueError: if the polygon has another shape, no area, or a side without length, or runs anticlockwise.
    """
    polygon = _checked(polygon)
    return np.concatenate([_fit_side(side) for side in split_sides(polygon)]).astype(np.float32)


def outline_to_bezier(outline: np.ndarray) -> np.ndarray:
    """Control points (8, 2) float32 of the word inside an outline whose corners are not known.

    Four corners part the outline into two sides, which cubic curves fit, and two ends, which straight lines fit, all
    together as closely as possible. Those of straight words lie near the corners of the minimum-area quad and are read
    as that is, see `geometry.order_clockwise`; those of curved words are looked for all around the outline, and read
    along the long sides. Curves go on as far as a round end reaches.

    Args:
        outline: (K, 2), K >= 4, clockwise, its vertices anywhere along the outline.

    Raises:
        ValueError: if the outline has another shape or no area, or runs anticlockwise.
    """
    outline = _checked(outline)
    around, quad = _Outline(outline), geometry.min_area_quad(outline)
    if _solidity(outline) < MIN_SOLIDITY:
        corners = _refined_corners(around, _coarse_corners(around))
        return _between_ends(around, _in_reading_order(around, corners, quad[1] - quad[0]))
    corners = around.nearest(quad)
    width, height = np.linalg.norm(quad[[1, 3]] - quad[0], axis=1)
    if width >= height:
        return _between_ends(around, _refined_corners(around, corners))
    # Tall words are laid down to find their long sides, which for straight words are the straight ends when upright.
    lying = _between_ends(around, _refined_corners(around, np.roll(corners, -1)))
    (top_right, bottom_right), (bottom_left, top_left) = _straightened(lying[:4]), _straightened(lying[4:])
    sides = np.stack([top_left, top_right]), np.stack([bottom_right, bottom_left])
    return np.concatenate([_fit_side(side) for side in sides]).astype(np.float32)


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
    if len(points) == 2:
        return points[0] + np.arange(4)[:, None] / 3 * (points[1] - points[0])
    # Parameters grow with the length of the side, for samples at equal steps to be at equal distances.
    at_points = np.concatenate([[0], lengths.cumsum() / lengths.sum()])
    at_chords = np.linspace(0, 1, CHORD_SAMPLES)
    chords = np.stack([np.interp(at_chords, at_points, values) for values in points.T], axis=1)
    basis = bernstein_basis(np.concatenate([at_points, at_chords]))
    weights = np.repeat([1 / len(points), CHORD_WEIGHT / CHORD_SAMPLES], [len(points), CHORD_SAMPLES])[:, None] ** 0.5
    remainder = np.concatenate([points, chords]) - basis[:, [0, 3]] @ points[[0, -1]]
    inner, *_ = np.linalg.lstsq(weights * basis[:, 1:3], weights * remainder, rcond=None)
    return np.stack([points[0], *inner, points[-1]])


def _between_ends(around: "_Outline", corners: np.ndarray) -> np.ndarray:
    """Control points (8, 2) of the sides between corners (4,), from the left end of the upper side on."""
    stretches, lengths = around.between(corners, np.roll(corners, -1))  # upper side, right end, lower side, left end
    right, left = _bulge(stretches[1]), _bulge(stretches[3])
    upper, lower = (_fit_side(np.stack([side.real, side.imag], axis=1)) for side in stretches[[0, 2]])
    upper = _section(upper, -left / lengths[0], 1 + right / lengths[0])
    return np.concatenate([upper, _section(lower, -right / lengths[2], 1 + left / lengths[2])]).astype(np.float32)


def _bulge(end: np.ndarray) -> float:
    """How far a stretch of points x + iy, run through clockwise, reaches out beyond the line between its ends."""
    chord = end[-1] - end[0]
    return max(0.0, float((-(end - end[0]) * np.conj(chord)).imag.max() / max(abs(chord), 1e-9)))


def _section(control_points: np.ndarray, first: float, last: float) -> np.ndarray:
    """The same curve (4, 2) from one parameter to another; beyond 0 and 1 it goes on."""
    t = np.linspace(0, 1, 4)
    return np.linalg.solve(bernstein_basis(t), bernstein_basis(first + t * (last - first)) @ control_points)


def _straightened(control_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (2,) of the line that a curve (4, 2) follows in its middle half: round corners bend only what is beyond."""
    before, after = bezier_points(control_points, np.array([0.25, 0.75]))
    return 1.5 * before - 0.5 * after, 1.5 * after - 0.5 * before


class _Outline:
    """A closed outline with a position for each distance along it, points as complex numbers x + iy."""

    def __init__(self, polygon: np.ndarray):
        closed = np.concatenate([polygon, polygon[:1]]) @ np.array([1, 1j])
        lengths = np.abs(np.diff(closed))
        self.length = float(lengths.sum())
        # Of a straight or evenly curved band of the same area and perimeter.
        half, area = self.length / 2, geometry.signed_area(polygon)
        self.thickness = (half - max(half**2 - 4 * area, 0) ** 0.5) / 2
        # Twice around, for a stretch that runs over the first vertex.
        self._distances = np.concatenate([[0], np.tile(lengths, 2).cumsum()])
        self._points = np.concatenate([closed, closed[1:]])

    def between(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (…, SIDE_SAMPLES) evenly spaced from one place to the next, clockwise, and the lengths (…) of that.

        Places are distances along the outline, of any size.
        """
        start = np.mod(start, self.length)
        lengths = np.mod(end - start, self.length)
        distances = start[..., None] + lengths[..., None] * np.linspace(0, 1, SIDE_SAMPLES)
        return np.interp(distances, self._distances, self._points), lengths

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The places (N,) closest to points (N, 2), to a fraction of the accuracy that corners are looked for with."""
        places = np.linspace(0, self.length, 8 * COARSE_STEPS, endpoint=False)
        around = np.interp(places, self._distances, self._points)
        return places[np.abs(around - (points @ np.array([1, 1j]))[:, None]).argmin(axis=1)]

    def misfits(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance (…) of the stretches between places from a cubic curve and from a straight line."""
        points, lengths = self.between(start, end)
        errors = (points.reshape(-1, SIDE_SAMPLES) @ _misfit_operator()).reshape(*lengths.shape, 2, SIDE_SAMPLES)
        squared = (errors.real**2 + errors.imag**2).sum(axis=-1) * (lengths / SIDE_SAMPLES)[..., None]
        return squared[..., 0], squared[..., 1]


@cache
def _misfit_operator() -> np.ndarray:
    """Matrix (SIDE_SAMPLES, 2 x SIDE_SAMPLES): how far points are off the best cubic curve and the line between their
    ends."""
    t = np.linspace(0, 1, SIDE_SAMPLES)
    basis, ends = bernstein_basis(t), np.eye(SIDE_SAMPLES)[[0, -1]]
    inner = basis[:, 1:3]
    # The curve runs through both ends; its other two control points fit the rest best.
    rest = np.eye(SIDE_SAMPLES) - basis[:, [0, 3]] @ ends
    from_curve = rest - inner @ np.linalg.pinv(inner) @ rest
    from_line = np.eye(SIDE_SAMPLES) - np.stack([1 - t, t], axis=1) @ ends
    return np.concatenate([from_curve, from_line]).T.copy()


def _coarse_corners(around: _Outline) -> np.ndarray:
    """The best places (4,) among `COARSE_STEPS` evenly spaced ones, a side between the first two, then an end.

    A dynamic programme on the ring of n places p. A word is two halves, each a side that a curve fits and an end that
    a line fits; with half(p, h) the least misfit of a half that begins at p and takes h steps of the outline,

        half(p, h) = min over s of  curve(p, p + s) + END_WEIGHT line(p + s, p + h)
        word       = min over p, h of  half(p, h) + half(p + h, n - h)

    so that n^3 sums are compared in place of the n^4 choices of four corners.
    """
    count = COARSE_STEPS
    places, steps = np.arange(count), np.arange(count)
    spacing = around.length / count
    curve, line = around.misfits(places[:, None] * spacing, (places[:, None] + steps) * spacing)  # (p, steps)
    side_steps, half_steps = steps[:, None], steps  # broadcast to (s, h)
    end_steps = half_steps - side_steps
    # An end is about as long as the word is thick: otherwise half a side would do for it on long words.
    allowed = (side_steps >= 1) & (end_steps >= 0) & (abs(end_steps - around.thickness / spacing) <= 1)
    end_misfits = END_WEIGHT * line[(places[:, None, None] + side_steps) % count, np.maximum(end_steps, 0)]  # (p, s, h)
    halves = np.where(allowed, curve[:, :, None] + end_misfits, np.inf)
    best_halves = halves.min(axis=1)  # (p, s, h) -> (p, h)
    first_steps = half_steps[1:]  # the first half takes at least one step, and the second what is left
    second_halves = best_halves[(places[:, None] + first_steps) % count, count - first_steps]
    words = best_halves[:, 1:] + second_halves  # (p, h)
    start, index = np.unravel_index(words.argmin(), words.shape)
    steps_to_middle = first_steps[index]
    middle = start + steps_to_middle
    # Where the sides end, which the minima over s have left open.
    first_side = halves[start, :, steps_to_middle].argmin()
    second_side = halves[middle % count, :, count - steps_to_middle].argmin()
    return np.array([start, start + first_side, middle, middle + second_side]) * spacing


def _refined_corners(around: _Outline, corners: np.ndarray) -> np.ndarray:
    """Corners (4,) moved together to the best of the places close by, again and again."""
    spacing = 2 * around.length / COARSE_STEPS
    for _ in range(REFINEMENTS):
        spacing /= 4
        places = corners[:, None] + spacing * np.arange(-2, 3)  # (4, 5)
        curve, line = around.misfits(places[:, :, None], np.roll(places, -1, axis=0)[:, None, :])  # (4, 5, 5)
        upper, right, lower, left = curve[0], END_WEIGHT * line[1], curve[2], END_WEIGHT * line[3].T
        whole = upper[:, :, None, None] + right[:, :, None] + lower + left[:, None, None, :]
        corners = places[np.arange(4), np.unravel_index(whole.argmin(), whole.shape)]
    return corners


def _in_reading_order(around: _Outline, corners: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Corners (4,) from the left end of the upper side on, the side that runs further in direction `along` (2,)."""
    stretches, _ = around.between(corners, np.roll(corners, -1))
    chords = stretches[:, -1] - stretches[:, 0]
    forward = ((chords[0] - chords[2]) * np.conj(along @ np.array([1, 1j]))).real >= 0
    return corners if forward else np.roll(corners, -2)


def _solidity(outline: np.ndarray) -> float:
    """Area relative to that of the convex hull."""
    import cv2

    hull = cv2.convexHull(outline.astype(np.float32).reshape(-1, 1, 2))[:, 0]
    return geometry.signed_area(outline) / max(abs(geometry.signed_area(hull)), 1e-9)
