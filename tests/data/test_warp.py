"""The warp: where points go, what averaging keeps, what lies beyond the picture."""

import cv2
import numpy as np
import pytest

from transformers_tcm.data.warp import homography, picture_corners, warp


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    image = np.zeros((size, size), np.uint8)
    cv2.circle(image, (int(x), int(y)), int(radius), 255, -1)
    return image


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.45, 0.11])
@pytest.mark.parametrize("projective", [False, True])
def test_pixels_go_where_points_go(scale: float, projective: bool) -> None:
    image = disc(200, 120, 80, 30)
    target = picture_corners(image) * scale + [3, 5]
    if projective:
        target[2] *= 0.9
    matrix = homography(picture_corners(image), target)
    warped = warp(image, matrix, (round(200 * scale) + 8, round(200 * scale) + 8)).astype(float)
    rows, columns = np.mgrid[: warped.shape[0], : warped.shape[1]] + 0.5
    center = np.array([(columns * warped).sum(), (rows * warped).sum()]) / warped.sum()
    expected = cv2.perspectiveTransform(np.array([[[120.5, 80.5]]]), matrix)[0, 0]
    np.testing.assert_allclose(center, expected, atol=0.8 * max(scale, 1) if projective else 0.25)


def test_shrinking_averages() -> None:
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::2] = 255
    small = warp(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]]), (16, 16))
    assert abs(small.astype(int) - 127).max() <= 20


def test_beyond_the_picture() -> None:
    image = np.full((10, 10), 200, np.uint8)
    matrix = np.array([[1.0, 0, 5], [0, 1, 5]])
    assert warp(image, matrix, (20, 20))[0, 0] == 0
    assert warp(image, matrix, (20, 20), border="replicate")[0, 0] == 200
    window = np.full((20, 20), 7, np.uint8)
    assert warp(image, matrix, (20, 20), onto=window) is not None
    assert (window[0, 0], window[10, 10]) == (7, 200)
    assert not warp(image, np.array([[1.0, 0, 105], [0, 1, 5]]), (20, 20)).any()
