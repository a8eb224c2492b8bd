"""Whether a person could read a word in the finished photograph."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Legibility"]


@dataclass(frozen=True)
class Legibility:
    """Limits below which a word is ignored.

    Args:
        height: of the word in pixels.
        sharpness: height of the word in sigmas of all blur.
        contrast: grey levels by which the ink changes the photograph; small letters need up to twice as many.
        noise: the same in sigmas of the camera's noise.
        clutter: the same in standard deviations of what is behind the word.
    """

    height: float = 6.0
    sharpness: float = 6.0
    contrast: float = 18.0
    noise: float = 2.5
    clutter: float = 1.4

    def accepts(self, before: np.ndarray, after: np.ndarray, polygon: np.ndarray, blur: float, noise: float) -> bool:
        """Judge one word.

        Args:
            before, after: the region (h, w, 3) float32 without and with the text.
            polygon: the word (4, 2) or (14, 2) in pixels of the region.
            blur: sigma of all blur in pixels.
            noise: sigma in grey levels.
        """
        import cv2

        half = len(polygon) // 2
        height = float(np.linalg.norm(polygon[:half] - polygon[half:][::-1], axis=1).min())
        if height < max(self.height, self.sharpness * blur):
            return False
        x0, y0 = np.maximum(np.floor(polygon.min(axis=0)), 0).astype(int)
        x1, y1 = np.ceil(polygon.max(axis=0)).astype(int)
        before, after = before[y0:y1, x0:x1], after[y0:y1, x0:x1]
        inside = np.zeros(before.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.rint(polygon - (x0, y0)).astype(np.int32)], 1)
        inside = inside.astype(bool)
        if not inside.any():
            return False
        # Strokes cover a part of the outline only: the strongest tenth is ink in any face. Blur fills the gaps.
        change = float(np.percentile(_difference(before[inside], after[inside]), 92)) / (1 + (4 * blur / height) ** 2)
        behind = float(before[inside].mean(axis=1).std())
        contrast = self.contrast * (1 + self.height / height)
        return change >= max(contrast, self.noise * noise, self.clutter * behind)


def _difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Visible difference (K,) of colours (K, 3) in grey levels: the luminance's, or half of the strongest channel's."""
    change = after - before
    luminance = change @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.maximum(np.abs(luminance), 0.5 * np.abs(change).max(axis=1))
