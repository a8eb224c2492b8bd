"""Patches of large images: every pixel in a window, objects whole, detections merged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.data.splitting import (
    intersection_over_foreground,
    merge_patches,
    objects_in_window,
    patch_name,
    patch_origin,
    split_windows,
)


def rectangle(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


@given(st.integers(1, 900), st.integers(1, 900), st.integers(20, 300), st.integers(0, 19))
def test_windows_cover_the_image_and_overlap_by_the_gap_at_least(width: int, height: int, size: int, gap: int) -> None:
    windows = split_windows(width, height, [size], [gap], min_image_share=0.0)
    for axis, side in ((0, width), (1, height)):
        starts = np.unique(windows[:, axis])
        assert starts[0] == 0
        assert (np.diff(starts) <= size - gap).all()
        assert starts[-1] + size >= side
        assert starts[-1] == 0 or starts[-1] + size == side


def test_a_small_image_is_one_window_that_leaves_it() -> None:
    assert split_windows(300, 200).tolist() == [[0, 0, 1024, 1024]]


def test_windows_of_several_scales_follow_each_other() -> None:
    windows = split_windows(1500, 1024, [1024, 512], [200, 100])
    assert sorted(set((windows[:, 2] - windows[:, 0]).tolist())) == [512, 1024]


@pytest.mark.parametrize(("sizes", "gaps"), [([1024], [1024]), ([1024, 512], [200]), ([1024], [-1])])
def test_sizes_and_gaps_that_do_not_fit_are_refused(sizes: list[int], gaps: list[int]) -> None:
    with pytest.raises(ValueError, match="gap"):
        split_windows(2000, 2000, sizes, gaps)


def test_objects_belong_whole_to_the_windows_that_hold_most_of_them() -> None:
    windows = np.array([[0, 0, 100, 100], [90, 0, 190, 100]])
    polygons = [rectangle(10, 10, 20, 20), rectangle(85, 10, 20, 20), rectangle(95, 10, 20, 20)]
    shares = intersection_over_foreground(polygons, windows)
    np.testing.assert_allclose(shares, [[1, 0], [0.75, 0.75], [0.25, 1]])
    left, right = (objects_in_window(polygons, shares[:, i], windows[i]) for i in (0, 1))
    assert left.indices.tolist() == [0, 1]
    assert left.truncated.tolist() == [False, True]
    assert right.indices.tolist() == [1, 2]
    assert right.truncated.tolist() == [True, False]
    np.testing.assert_array_equal(right.polygons[0], rectangle(-5, 10, 20, 20))


def test_images_without_objects_have_no_shares() -> None:
    windows = split_windows(2000, 1024)
    shares = intersection_over_foreground([], windows)
    assert shares.shape == (0, len(windows))
    assert objects_in_window([], shares[:, 0], windows[0]).polygons == []


def test_names_of_patches_tell_where_they_come_from() -> None:
    assert patch_name("P0000", np.array([824, 0, 1848, 1024])) == "P0000__1024__824___0"
    assert patch_origin("P0000__1024__824___0") == ("P0000", 824, 0)
    assert patch_origin("a__b__1__5___7") == ("a__b", 5, 7)
    assert patch_origin("P0000__1.0__824___0") == ("P0000", 824, 0)


@pytest.mark.parametrize("name", ["P0000", "P0000__1024__824", "P0000__0.5__824___0", "P0000__1.5__824___0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="patch"):
        patch_origin(name)


def test_an_object_seen_by_two_patches_is_reported_once_for_each_class() -> None:
    left = np.array([rectangle(900, 50, 40, 20), rectangle(900, 50, 40, 20)])
    right = np.array([rectangle(77, 50, 40, 20), rectangle(500, 50, 40, 20)])
    merged = merge_patches(
        [
            ("P1__1024__0___0", left, np.array([0.5, 0.9]), np.array([0, 1])),
            ("P1__1024__824___0", right, np.array([0.7, 0.6]), np.array([0, 0])),
            ("P2__1024__0___0", left[:0], np.zeros(0), np.zeros(0)),
        ]
    )
    assert list(merged) == ["P1", "P2"]
    assert merged["P1"].scores.tolist() == [0.9, 0.7, 0.6]
    assert merged["P1"].labels.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(merged["P1"].quads[1], rectangle(901, 50, 40, 20))
    assert merged["P2"].quads.shape == (0, 4, 2)
