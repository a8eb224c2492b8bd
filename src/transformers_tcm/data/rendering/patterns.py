"""Things on boards that are not text: stripes, grids, arrows, shapes, dots, nothing."""

import numpy as np

from .layout import FlatBlock

__all__ = ["lay_out_pattern"]


def lay_out_pattern(rng: np.random.Generator, unit: float) -> FlatBlock:
    """A block without words, so that a detector learns what looks like text and is none.

    Args:
        rng: draws the pattern.
        unit: height of what is drawn in pixels.
    """
    import cv2

    side = max(int(unit), 8)
    kind = rng.integers(6)
    ink = np.zeros((2 * side, int(side * rng.uniform(2, 6))), np.uint8)
    height, width = ink.shape
    left, middle, right = side // 2, side, width - side // 2
    stroke = max(1, round(side * float(rng.uniform(0.05, 0.15))))
    if kind == 0:
        for x in range(left, right, max(2, round(side * float(rng.uniform(0.15, 0.6))))):
            cv2.line(ink, (x, side // 2), (x, height - side // 2), 255, stroke)
    elif kind == 1:
        step = max(4, round(side * float(rng.uniform(0.4, 0.9))))
        ink[side // 2 : height - side // 2 : step, left:right] = 255
        ink[side // 2 : height - side // 2, left:right:step] = 255
    elif kind == 2:
        ends = [(left, middle), (right, middle)]
        start, end = ends if rng.random() < 0.5 else ends[::-1]
        cv2.arrowedLine(ink, start, end, 255, stroke, cv2.LINE_AA, tipLength=min(0.5 * side / (right - left), 0.4))
    elif kind == 3:
        # Rings would read as a row of the letter O; filled shapes with random corners do not read as anything.
        for x in range(left + side // 2, right, int(1.3 * side)):
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
            reach = side * rng.uniform(0.3, 0.6, len(angles))
            corners = np.stack([x + reach * np.cos(angles), middle + reach * np.sin(angles)], axis=1)
            cv2.fillPoly(ink, [np.rint(corners).astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 4:
        for x in range(left, right, max(3, side // 2)):
            cv2.circle(ink, (x, middle), max(1, side // 6), 255, -1, cv2.LINE_AA)
    return FlatBlock(ink, [], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
