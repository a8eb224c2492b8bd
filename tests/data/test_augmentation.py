"""Augmentation: pixels and polygons move together, words stay whole, everything follows from the generator."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.data.augmentation import TextAugmentation
from transformers_tcm.data.photometric import PhotometricJitter
from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances

STILL = TextAugmentation(
    crop_size=(64, 96), scale_range=(1, 1), rotation=0, flip_probability=0, text_crop_probability=1, photometric=None
)


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.float32([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def words_on_a_grid(columns: int, rows: int, width: int = 40, height: int = 14, gap: int = 16) -> TextInstances:
    """Words with a gap between them, the first `gap` pixels from the corner; every fifth one is to be ignored."""
    polygons = [
        rectangle(gap + i * (width + gap), gap + j * (height + gap), width, height)
        for j in range(rows)
        for i in range(columns)
    ]
    texts = [f"word{index}" for index in range(len(polygons))]
    return TextInstances(polygons, texts=texts, ignore=np.arange(len(polygons)) % 5 == 4)


def painted(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """A black image with one upright rectangle in white."""
    image = np.zeros((height, width, 3), np.uint8)
    (left, top), (right, bottom) = polygon[0].astype(int), polygon[2].astype(int)
    image[top:bottom, left:right] = 255
    return image


def test_without_change_the_crop_is_a_piece_of_the_image() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (200, 300, 3), dtype=np.uint8)
    instances = words_on_a_grid(5, 6)
    for _ in range(20):
        crop, moved = STILL(image, instances, rng)
        before = instances.polygons[instances.texts.index(moved.texts[0])]
        left, top = (before - moved.polygons[0])[2].astype(int)
        np.testing.assert_array_equal(crop, image[top : top + 64, left : left + 96])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.3, 0.5, 1.0, 1.7, 3.0]),
    rotation=st.sampled_from([0, 10, 40]),
    flip=st.sampled_from([0, 1]),
    aspect=st.sampled_from([0.0, 0.3]),
)
def test_polygons_follow_the_pixels(seed, scale, rotation, flip, aspect) -> None:
    """A word that is painted white has to be white inside its moved polygon, and black outside."""
    import cv2

    instances = words_on_a_grid(3, 3, width=60, height=40, gap=30)
    augmentation = TextAugmentation(
        crop_size=(160, 200),
        scale_range=(scale, scale),
        aspect_jitter=aspect,
        rotation=rotation,
        flip_probability=flip,
        photometric=None,
    )
    for word, text in zip(instances.polygons, instances.texts, strict=True):
        crop, moved = augmentation(painted(word, 240, 300), instances, np.random.default_rng(seed))
        assert crop.shape == (160, 200, 3)
        assert crop.dtype == np.uint8
        drawn = np.zeros(crop.shape[:2], np.uint8)
        if text in moved.texts:
            # Pixels are sampled at their centres.
            outline = moved.polygons[moved.texts.index(text)] - 0.5
            cv2.fillPoly(drawn, [np.rint(outline * 16).astype(np.int32)], 1, shift=4)
        shown = (crop[:, :, 0] > 127).astype(np.uint8)
        # Interpolation rounds the corners of an enlarged word, hence two pixels inwards.
        inner = cv2.erode(drawn, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        assert (shown >= inner).all()
        assert (shown <= cv2.dilate(drawn, np.ones((3, 3), np.uint8))).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), columns=st.integers(0, 6), rows=st.integers(1, 8))
def test_words_stay_inside_clockwise_and_whole(seed, columns, rows) -> None:
    instances = words_on_a_grid(columns, rows)
    augmentation = TextAugmentation(crop_size=(96, 128), photometric=None)
    _, moved = augmentation(np.zeros((280, 360, 3), np.uint8), instances, np.random.default_rng(seed))
    for polygon, ignored in zip(moved.polygons, moved.ignored, strict=True):
        assert polygon.dtype == np.float32
        assert signed_area(polygon) > 0
        assert polygon.min() >= 0
        assert (polygon <= [128, 96]).all()
        if not ignored:
            sides = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1)
            assert sides[0] / sides[1] == pytest.approx(40 / 14, rel=0.01)


def test_no_word_is_cut_where_a_window_fits_between_words() -> None:
    instances = words_on_a_grid(20, 20)
    instances.ignore = None
    image = np.zeros((700, 1200, 3), np.uint8)
    rng = np.random.default_rng(1)
    augmentation = replace(STILL, crop_size=(64, 110))
    assert not any(augmentation(image, instances, rng)[1].ignored.any() for _ in range(50))


def test_a_word_that_has_to_be_cut_is_clipped_and_ignored() -> None:
    line = TextInstances([rectangle(0, 20, 300, 20)], texts=["long"])
    crop, moved = STILL(np.full((64, 300, 3), 9, np.uint8), line, np.random.default_rng(0))
    assert moved.ignore.tolist() == [True]
    assert moved.boxes[0, [0, 2]].tolist() == [0, 96]
    assert (crop == 9).all()


def test_scale_gives_way_to_a_word_that_would_not_fit() -> None:
    word = TextInstances([rectangle(20, 20, 80, 20)])
    augmentation = TextAugmentation(crop_size=(96, 96), scale_range=(0.5, 3), text_crop_probability=1)
    rng = np.random.default_rng(0)
    for _ in range(50):
        _, moved = augmentation(np.zeros((200, 200, 3), np.uint8), word, rng)
        assert moved.ignore.tolist() == [False]


def test_flip_reverses_the_vertices_and_starts_at_the_top_left() -> None:
    word = TextInstances([rectangle(10, 20, 30, 8)])
    image = painted(word.polygons[0], 64, 96)
    augmentation = TextAugmentation(
        crop_size=(64, 96), scale_range=(1, 1), rotation=0, flip_probability=1, photometric=None
    )
    crop, moved = augmentation(image, word, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, image[:, ::-1])
    np.testing.assert_array_equal(moved.polygons[0], rectangle(96 - 40, 20, 30, 8))


def test_rotation_keeps_the_reading_order() -> None:
    vertical = np.roll(rectangle(40, 20, 8, 30), -1, axis=0)  # read downwards: starts at its upper right corner
    augmentation = TextAugmentation(crop_size=(200, 200), rotation=10, flip_probability=0, photometric=None)
    _, moved = augmentation(np.zeros((90, 90, 3), np.uint8), TextInstances([vertical]), np.random.default_rng(0))
    first_edge = moved.polygons[0][1] - moved.polygons[0][0]
    assert first_edge[1] > 3 * abs(first_edge[0])


def test_turned_crops_keep_the_reading_order() -> None:
    augmentation = TextAugmentation(
        crop_size=(200, 200), scale_range=(1, 1), rotation=0, turn_probability=1, flip_probability=0, photometric=None
    )
    edges = set()
    for seed in range(20):
        word = TextInstances([rectangle(40, 20, 30, 8)])
        _, moved = augmentation(np.zeros((90, 90, 3), np.uint8), word, np.random.default_rng(seed))
        edges.add(tuple(np.rint(moved.polygons[0][1] - moved.polygons[0][0]).astype(int).tolist()))
    assert edges == {(0, 30), (-30, 0), (0, -30)}


@pytest.mark.parametrize("probability", [0, 1])
def test_windows_gather_around_text(probability: int) -> None:
    image = np.zeros((1000, 1000, 3), np.uint8)
    corner = TextInstances([rectangle(5, 5, 20, 8), rectangle(900, 900, 20, 8)], ignore=[False, True])
    augmentation = TextAugmentation(
        crop_size=(64, 64), scale_range=(1, 1), text_crop_probability=probability, photometric=None
    )
    rng = np.random.default_rng(0)
    hits = sum(bool((~augmentation(image, corner, rng)[1].ignored).any()) for _ in range(40))
    assert hits == 40 if probability else hits < 8


def test_word_heights_become_log_uniform() -> None:
    words = TextInstances([rectangle(20, 20, 60, 20)])
    augmentation = TextAugmentation(
        crop_size=(256, 256),
        scale_range=(0.1, 10),
        word_height_range=(8, 32),
        text_crop_probability=1,
        photometric=None,
    )
    rng = np.random.default_rng(0)
    image = np.zeros((100, 120, 3), np.uint8)
    polygons = [augmentation(image, words, rng)[1].polygons[0] for _ in range(300)]
    heights = np.array([np.linalg.norm(polygon[3] - polygon[0]) for polygon in polygons])
    assert heights.min() > 7.9
    assert heights.max() < 32.1
    assert (heights < 16).mean() == pytest.approx(0.5, abs=0.08)


def test_word_height_stays_within_the_scale_range() -> None:
    words = TextInstances([rectangle(20, 20, 60, 20)])
    augmentation = TextAugmentation(
        crop_size=(256, 256), scale_range=(1, 2), word_height_range=(100, 200), rotation=0, photometric=None
    )
    _, moved = augmentation(np.zeros((100, 120, 3), np.uint8), words, np.random.default_rng(0))
    assert np.ptp(moved.polygons[0][:, 1]) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(("edges", "expected"), [((60, 1000), 0.5), ((1000, 60), 0.25), (None, 1.0)])
def test_scales_are_relative_to_the_base_edges(edges: tuple[int, int] | None, expected: float) -> None:
    """Of a photo of 120 x 240 pixels: shorter side 60, or longer side 60, or its own size."""
    word = TextInstances([rectangle(100, 50, 40, 20)], texts=["word"])
    augmentation = replace(STILL, base_edges=edges)
    _, moved = augmentation(np.zeros((120, 240, 3), np.uint8), word, np.random.default_rng(0))
    np.testing.assert_allclose(np.ptp(moved.polygons[0], axis=0), np.array([40, 20]) * expected, atol=1e-3)


def test_small_images_are_padded_with_zeros() -> None:
    image = np.full((20, 30, 3), 255, np.uint8)
    for instances in (TextInstances([]), TextInstances([rectangle(5, 5, 10, 4)])):
        crop, moved = STILL(image, instances, np.random.default_rng(0))
        assert (crop[:20, :30] == 255).all()
        assert crop.sum() == image.sum()
        assert len(moved) == len(instances)


def test_a_word_at_the_edge_of_a_small_image_stays_whole() -> None:
    word = TextInstances([rectangle(0, 0, 30, 20)])
    augmentation = TextAugmentation(crop_size=(128, 128), scale_range=(0.5, 1.5), photometric=None)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert augmentation(np.zeros((20, 30, 3), np.uint8), word, rng)[1].ignore.tolist() == [False]


def test_a_word_without_area_is_no_obstacle() -> None:
    flat = TextInstances([np.full((4, 2), 10)])
    crop, _ = TextAugmentation(word_height_range=(8, 16))(
        np.zeros((20, 30, 3), np.uint8), flat, np.random.default_rng(0)
    )
    assert crop.shape == (640, 640, 3)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    augmentation = TextAugmentation(crop_size=(50, 50), scale_range=(0.25, 0.25), rotation=0, photometric=None)
    crop, _ = augmentation(stripes, TextInstances([]), np.random.default_rng(0))
    assert (np.abs(crop[2:-2, 2:-2].astype(int) - 100) <= 1).all()


def test_annotations_beyond_the_image_are_clipped_first() -> None:
    outside = TextInstances([rectangle(-50, 10, 80, 10), rectangle(500, 10, 20, 10)])
    _, moved = STILL(np.zeros((64, 96, 3), np.uint8), outside, np.random.default_rng(0))
    assert moved.boxes.tolist() == [[0, 10, 30, 20]]
    assert moved.ignore.tolist() == [False]


def test_the_generator_decides_everything() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)
    jitter = PhotometricJitter(blur_probability=0.5, noise_probability=0.5, jpeg_probability=0.5)
    augmentation = TextAugmentation(crop_size=(64, 64), photometric=jitter)
    instances = words_on_a_grid(3, 3)
    results = [[augmentation(image, instances, np.random.default_rng(seed)) for seed in range(10)] for _ in range(2)]
    for (crop, moved), (other_crop, other_moved) in zip(*results, strict=True):
        np.testing.assert_array_equal(crop, other_crop)
        assert moved.to_json() == other_moved.to_json()
    assert len({crop.tobytes() for crop, _ in results[0]}) == 10
    assert instances.to_json() == words_on_a_grid(3, 3).to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (0, 5)}, "`crop_size` is"),
        ({"scale_range": (2, 1)}, "`scale_range` is"),
        ({"base_edges": (0, 9)}, "`base_edges` is"),
        ({"word_height_range": (0, 9)}, "`word_height_range` is"),
        ({"flip_probability": 1.5}, "`flip_probability` is 1.5"),
    ],
)
def test_argumentsare_validated(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextAugmentation(**arguments)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_images_are_validated(image) -> None:
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\) and dtype uint8"):
        STILL(image, TextInstances([]), np.random.default_rng(0))
