"""From a flat block to the image: an optional bend of the base line, then a perspective view."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Bend", "view_matrix", "word_polygon"]


@dataclass
class Bend:
    """Wraps the plane around a circle that touches the base line at its middle.

    Args:
        x: middle of the line.
        y: height of the line that keeps its length.
        radius: in pixels; positive bends the ends down, negative up.
        offset: moves the result, so that it starts at (0, 0).
    """

    x: float
    y: float
    radius: float
    offset: tuple[float, float] = (0.0, 0.0)

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Flat points (K, 2) to bent ones."""
        angle = (points[:, 0] - self.x) / self.radius
        radius = self.radius + self.y - points[:, 1]
        bent = np.stack([self.x + radius * np.sin(angle), self.y + self.radius - radius * np.cos(angle)], axis=1)
        return bent + np.array(self.offset)

    def apply(self, layers: np.ndarray) -> np.ndarray:
        """Bend the channels of (H, W, C) uint8; sets `offset`."""
        import cv2

        height, width = layers.shape[:2]
        edge = np.linspace(0, width, 17)
        outline = np.concatenate([np.stack([edge, np.full(17, y)], axis=1) for y in (0.0, float(height))])
        self.offset = (0.0, 0.0)
        bent = self.forward(outline)
        low, high = np.floor(bent.min(axis=0)), np.ceil(bent.max(axis=0))
        self.offset = (-low[0], -low[1])
        grid_x, grid_y = np.meshgrid(
            np.arange(low[0], high[0], dtype=np.float32) - np.float32(self.x),
            np.arange(low[1], high[1], dtype=np.float32) - np.float32(self.y + self.radius),
        )
        sign = np.float32(np.sign(self.radius))
        angle = np.arctan2(grid_x * sign, -grid_y * sign)
        flat_x = self.x + self.radius * angle
        flat_y = self.y + self.radius - sign * np.hypot(grid_x, grid_y)
        return cv2.remap(layers, flat_x.astype(np.float32), flat_y.astype(np.float32), cv2.INTER_LINEAR)


def view_matrix(
    width: float, height: float, scale: float, yaw: float, pitch: float, roll: float, distance: float
) -> np.ndarray:
    """(3, 3) projection of a turned plane of `width` x `height` pixels, its middle at the origin.

    Args:
        width, height: of the plane.
        scale: size of the middle of the plane in the image.
        yaw, pitch, roll: radians around the vertical, the horizontal and the viewing axis.
        distance: of the camera in units of the plane's diagonal; small is a strong perspective.
    """
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    focal = distance * np.hypot(width, height)
    plane = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    project = np.array([turn[0, :2] * scale, turn[1, :2] * scale, turn[2, :2] / focal])
    return np.column_stack([project, [0, 0, 1]]) @ plane


def word_polygon(box: np.ndarray, bend: Bend | None) -> np.ndarray:
    """A word's box x_min, y_min, x_max, y_max as a quad (4, 2), or bent with seven points on either side (14, 2)."""
    left, top, right, bottom = box
    if bend is None:
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    x = np.linspace(left, right, 7)
    upper, lower = np.stack([x, np.full(7, top)], axis=1), np.stack([x[::-1], np.full(7, bottom)], axis=1)
    return bend.forward(np.concatenate([upper, lower])).astype(np.float32)
