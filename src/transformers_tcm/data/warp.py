"""The one warp of pictures: anti-aliased where it makes them smaller."""

import numpy as np

from ..geometry import transform_points

__all__ = ["homography", "picture_corners", "warp"]


def picture_corners(image: np.ndarray) -> np.ndarray:
    """Corners (4, 2) float32 of a picture (H, W, …), clockwise from the top left."""
    height, width = image.shape[:2]
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Projective matrix (3, 3) that moves four points (4, 2) to four others."""
    import cv2

    return cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))


def warp(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: str = "zero", onto: np.ndarray | None = None
) -> np.ndarray:
    """Move a picture (H, W) or (H, W, C) into a window.

    Only the pixels that the window sees are touched. Bilinear sampling skips pixels below half size, so those are first
    averaged down by a whole factor.

    Args:
        image: of any type that OpenCV takes.
        matrix: affine (2, 3) or projective (3, 3), maps points of the picture to points of the window; in both the
            corners of the first pixel are at (0, 0) and (1, 1).
        size: height and width of the window.
        border: beyond the picture there is `"zero"`, or the nearest pixel with `"replicate"`.
        onto: a window that is written to in place, and that keeps its pixels beyond the picture.
    """
    import cv2

    height, width = size
    matrix = np.vstack([matrix, [0, 0, 1]]) if len(matrix) == 2 else np.asarray(matrix, np.float64)
    window = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    seen = transform_points(window, np.linalg.inv(matrix))
    shrink = max(1, int(1 / max(_scale_at(matrix, seen.mean(axis=0)), 1e-6)))
    limits = image.shape[1::-1]
    left, top = np.clip(np.floor(seen.min(axis=0)) - 2 * shrink, 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(seen.max(axis=0)) + 2 * shrink, 0, limits).astype(int)
    if left >= right or top >= bottom:
        return np.zeros((height, width, *image.shape[2:]), image.dtype) if onto is None else onto
    region = image[top:bottom, left:right]
    if shrink > 1:
        target = (-(-region.shape[1] // shrink), -(-region.shape[0] // shrink))
        region = cv2.resize(region, target, interpolation=cv2.INTER_AREA)
    step = np.array([(right - left) / region.shape[1], (bottom - top) / region.shape[0]])
    # Points count from the pixels' corners, OpenCV from their centres.
    to_picture = np.array([[step[0], 0, left + 0.5 * step[0]], [0, step[1], top + 0.5 * step[1]], [0, 0, 1]])
    matrix = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]]) @ matrix @ to_picture
    mode = {"zero": cv2.BORDER_CONSTANT, "replicate": cv2.BORDER_REPLICATE}[border]
    if onto is not None:
        return cv2.warpPerspective(region, matrix, (width, height), dst=onto, borderMode=cv2.BORDER_TRANSPARENT)
    if (matrix[2, :2] == 0).all():  # several times faster
        return cv2.warpAffine(region, matrix[:2] / matrix[2, 2], (width, height), borderMode=mode)
    return cv2.warpPerspective(region, matrix, (width, height), borderMode=mode)


def _scale_at(matrix: np.ndarray, point: np.ndarray) -> float:
    """Pixels of the window for a pixel of the picture at a point (2,), from the determinant of the derivative."""
    depth = matrix[2, :2] @ point + matrix[2, 2]
    return float(np.sqrt(abs(np.linalg.det(matrix) / depth**3)))
