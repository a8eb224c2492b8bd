"""Things on boards that are not text: stripes, grids, arrows, shapes, dots, nothing."""

from collections.abc import Callable

import numpy as np

from .layout import FlatBlock

__all__ = ["lay_out_pattern"]


def lay_out_pattern(rng: np.random.Generator, unit: float) -> FlatBlock:
    """A block without words, so that a detector learns what looks like text and is none.

    Args:
        rng: draws the pattern.
        unit: height of what is drawn in pixels.
    """
    side = max(int(unit), 8)
    draw = PATTERNS[rng.integers(len(PATTERNS))]
    ink = np.zeros((2 * side, int(side * rng.uniform(2, 6))), np.uint8)
    stroke = max(1, round(side * float(rng.uniform(0.05, 0.15))))
    draw(rng, ink, side, stroke)
    return FlatBlock(ink, [], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


# Each draws on ink (2 side, width) between margins of half a side, with lines of `stroke` pixels.


def _stripes(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    import cv2

    height, width = ink.shape
    for x in range(side // 2, width - side // 2, max(2, round(side * float(rng.uniform(0.15, 0.6))))):
        cv2.line(ink, (x, side // 2), (x, height - side // 2), 255, stroke)


def _grid(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    height, width = ink.shape
    left, right = side // 2, width - side // 2
    step = max(4, round(side * float(rng.uniform(0.4, 0.9))))
    ink[side // 2 : height - side // 2 : step, left:right] = 255
    ink[side // 2 : height - side // 2, left:right:step] = 255


def _arrow(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    import cv2

    left, right = side // 2, ink.shape[1] - side // 2
    ends = [(left, side), (right, side)]
    start, end = ends if rng.random() < 0.5 else ends[::-1]
    cv2.arrowedLine(ink, start, end, 255, stroke, cv2.LINE_AA, tipLength=min(0.5 * side / (right - left), 0.4))


def _shapes(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    """Filled, with random corners: rings would read as a row of the letter O, these do not read as anything."""
    import cv2

    left, right = side // 2, ink.shape[1] - side // 2
    for x in range(left + side // 2, right, int(1.3 * side)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        reach = side * rng.uniform(0.3, 0.6, len(angles))
        corners = np.stack([x + reach * np.cos(angles), side + reach * np.sin(angles)], axis=1)
        cv2.fillPoly(ink, [np.rint(corners).astype(np.int32)], 255, cv2.LINE_AA)


def _dots(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    import cv2

    for x in range(side // 2, ink.shape[1] - side // 2, max(3, side // 2)):
        cv2.circle(ink, (x, side), max(1, side // 6), 255, -1, cv2.LINE_AA)


def _nothing(rng: np.random.Generator, ink: np.ndarray, side: int, stroke: int) -> None:
    """An empty board."""


# A seed draws the same pattern as long as their order stays.
PATTERNS: tuple[Callable[[np.random.Generator, np.ndarray, int, int], None], ...] = (
    _stripes,
    _grid,
    _arrow,
    _shapes,
    _dots,
    _nothing,
)
