"""Where text goes: flat free places of a photograph."""

import numpy as np

__all__ = ["PlacementMap"]

_CELL = 4


class PlacementMap:
    """Finds rectangles with little texture that no text covers yet, on a grid of 4 x 4 pixel cells.

    Args:
        image: (H, W, 3) uint8.
    """

    def __init__(self, image: np.ndarray):
        import cv2

        self.height, self.width = image.shape[:2]
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, (-(-self.width // _CELL), -(-self.height // _CELL)), interpolation=cv2.INTER_AREA)
        edges = np.abs(cv2.Sobel(small, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(small, cv2.CV_32F, 0, 1))
        self._texture = cv2.integral(np.minimum(edges, 255), sdepth=cv2.CV_64F)
        self._used = np.zeros(small.shape, np.uint8)

    def find(self, rng: np.random.Generator, size: np.ndarray, tries: int = 16) -> np.ndarray | None:
        """Top-left corner (2,) int64 of the flattest of some free places for a (width, height) box, if there is one."""
        import cv2

        room = np.array([self.width, self.height]) - size
        if (room < 0).any():
            return None
        used = cv2.integral(self._used)
        corners = (rng.random((tries, 2)) * (room + 1)).astype(int)
        best, best_texture = None, np.inf
        for corner in corners:
            (x0, y0), (x1, y1) = corner // _CELL, -(-(corner + size) // _CELL)
            if _box_sum(used, x0, y0, x1, y1) == 0:
                texture = _box_sum(self._texture, x0, y0, x1, y1) / max((x1 - x0) * (y1 - y0), 1)
                if texture < best_texture:
                    best, best_texture = corner, texture
        return best

    def occupy(self, polygon: np.ndarray, margin: int = 2) -> None:
        """Keep later text away from a polygon (K, 2) and `margin` pixels around it."""
        import cv2

        cells = np.zeros_like(self._used)
        cv2.fillPoly(cells, [np.rint(polygon / _CELL).astype(np.int32)], 1)
        grow = 2 * max(round(margin / _CELL), 1) + 1
        self._used = np.maximum(self._used, cv2.dilate(cells, np.ones((grow, grow), np.uint8)))


def _box_sum(integral: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> float:
    return float(integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0])
