"""Photometric jitter: each change alone does what its setting says."""

from dataclasses import replace

import numpy as np
import pytest

from transformers_tcm.data.photometric import PhotometricJitter

NOTHING = PhotometricJitter(
    brightness=0, contrast=0, saturation=0, hue=0, grey_probability=0, blur_probability=0, noise_probability=0,
    jpeg_probability=0,
)  # fmt: skip
BT601 = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 190, (48, 64, 3), dtype=np.uint8)


def jittered(image: np.ndarray, count: int = 40, **settings: object) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [replace(NOTHING, **settings)(image, rng) for _ in range(count)]


def test_nothing_changes_nothing(image) -> None:
    np.testing.assert_array_equal(jittered(image, 1)[0], image)


def test_brightness_shifts_all_pixels_alike(image) -> None:
    shifts = [result.astype(int) - image for result in jittered(image, brightness=0.1)]
    assert all(np.ptp(shift) <= 1 for shift in shifts)
    means = [shift.mean() for shift in shifts]
    assert -26 <= min(means) < -15
    assert 15 < max(means) <= 26


def test_contrast_stretches_around_mid_grey(image) -> None:
    ratios = []
    for result in jittered(image, contrast=0.3):
        slope, offset = np.polyfit(image.ravel().astype(float), result.ravel().astype(float), 1)
        assert slope * 127.5 + offset == pytest.approx(127.5, abs=0.6)
        ratios.append(slope)
    assert 0.69 < min(ratios) < 0.85
    assert 1.15 < max(ratios) < 1.31


@pytest.mark.parametrize("settings", [{"saturation": 0.5}, {"hue": 20}, {"grey_probability": 1}])
def test_colour_changes_keep_the_luma(image, settings) -> None:
    # Greyish pixels, so that no channel saturates.
    muted = (0.3 * image + 0.7 * image.mean(axis=2, keepdims=True)).astype(np.uint8)
    results = jittered(muted, **settings)
    for result in results:
        np.testing.assert_allclose(result @ BT601, muted @ BT601, atol=1.6)
    assert any((result != muted).any() for result in results)


def test_grey_is_grey(image) -> None:
    assert all(np.ptp(result, axis=2).max() <= 1 for result in jittered(image, grey_probability=1))


def test_negatives(image) -> None:
    results = jittered(image, invert_probability=0.5)
    negative = [np.abs(result.astype(int) - (255 - image.astype(int))).max() <= 1 for result in results]
    assert 10 < sum(negative) < 30
    assert all(turned or (result == image).all() for turned, result in zip(negative, results, strict=True))


def test_blur_smooths(image) -> None:
    for result in jittered(image, blur_probability=1):
        assert result.std() < image.std()
        assert result.mean() == pytest.approx(image.mean(), abs=1.5)


def test_noise_is_normal_and_bounded_by_its_setting() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    deviations = []
    for result in jittered(grey, noise_probability=1, noise_sigma=10):
        assert result.mean() == pytest.approx(128, abs=0.7)
        deviations.append(result.std())
    assert max(deviations) < 10.5
    assert max(deviations) > 7
    assert min(deviations) < 3


def test_jpeg_keeps_the_order_of_the_channels() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, :, 0] = 200
    for result in jittered(red, 5, jpeg_probability=1):
        np.testing.assert_allclose(result.mean(axis=(0, 1)), [200, 0, 0], atol=6)


def test_jpeg_quality_sets_the_damage(image) -> None:
    damage = [
        np.mean([np.abs(result.astype(int) - image).mean() for result in jittered(image, 3, **settings)])
        for settings in ({"jpeg_probability": 1, "jpeg_quality": (q, q)} for q in (20, 90))
    ]
    assert damage[0] > damage[1] > 0
