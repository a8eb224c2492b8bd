"""Bézier curves of words: evaluation against de Casteljau's construction, fits against the outlines they describe."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm import geometry
from transformers_tcm.bezier import (
    bernstein_basis,
    bezier_joined,
    bezier_points,
    bezier_section,
    bezier_to_polygon,
    fit_bezier,
    outline_to_bezier,
    split_sides,
)


@pytest.fixture(scope="module")
def golden_words(golden_dir: Path) -> list[np.ndarray]:
    """Straight and curved words, of 4 and 14 points, that are not ignored."""
    images = json.loads((golden_dir / "detection_targets_and_losses.json").read_text())["annotations"]
    return [
        np.array(polygon)
        for image in images
        for polygon, ignore in zip(image["polygons"], image["ignore"], strict=True)
        if not ignore
    ]


def arch(points_above: int, points_below: int, radius: float = 60, degrees: float = 90) -> np.ndarray:
    """A word of height 20 along the top of a circle."""
    half = np.deg2rad(degrees) / 2
    above, below = np.linspace(-half, half, points_above), np.linspace(half, -half, points_below)
    return np.concatenate(
        [
            [100, 100] + (radius + 20) * np.stack([np.sin(above), -np.cos(above)], axis=1),
            [100, 100] + radius * np.stack([np.sin(below), -np.cos(below)], axis=1),
        ]
    )


def resampled(outline: np.ndarray, seed: int, largest_gap: float = 1) -> np.ndarray:
    """The same outline with vertices at uneven distances of up to that many pixels, starting anywhere."""
    rng, ring = np.random.default_rng(seed), shapely.LinearRing(outline)
    places = rng.uniform(0, largest_gap, int(2 * ring.length / largest_gap) + 9).cumsum()
    places = places[places < ring.length]
    vertices = shapely.get_coordinates(shapely.line_interpolate_point(ring, places))
    return np.roll(vertices, rng.integers(len(vertices)), axis=0)


def outline_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance of a point of one outline from the other, in pixels."""
    return shapely.hausdorff_distance(shapely.LinearRing(first), shapely.LinearRing(second), densify=0.25)


def de_casteljau(control_points: np.ndarray, t: float) -> np.ndarray:
    while len(control_points) > 1:
        control_points = (1 - t) * control_points[:-1] + t * control_points[1:]
    return control_points[0]


def test_evaluation_is_de_casteljau_construction() -> None:
    control_points = np.random.default_rng(0).uniform(-50, 50, (3, 4, 2))
    t = np.linspace(0, 1, 7)
    expected = [[de_casteljau(curve, value) for value in t] for curve in control_points]
    np.testing.assert_allclose(bezier_points(control_points, t), expected, atol=1e-12)


def test_basis_sums_to_one_and_starts_and_ends_at_the_outer_points() -> None:
    basis = bernstein_basis(np.linspace(0, 1, 11))
    assert basis.shape == (11, 4)
    np.testing.assert_allclose(basis.sum(axis=1), 1)
    np.testing.assert_array_equal(basis[[0, -1]], [[1, 0, 0, 0], [0, 0, 0, 1]])


def test_round_trip_within_one_pixel(golden_words: list[np.ndarray]) -> None:
    assert {len(word) for word in golden_words} == {4, 14}
    for word in golden_words:
        assert outline_distance(bezier_to_polygon(fit_bezier(word), 40), word) < 1


def test_round_trip_through_the_number_of_points_of_the_original(golden_words: list[np.ndarray]) -> None:
    for word in golden_words:
        returned = bezier_to_polygon(fit_bezier(word), len(word))
        assert outline_distance(returned, word) < 1
        assert len(returned) == len(word)
        assert geometry.signed_area(returned) > 0


@pytest.mark.parametrize("missing", [1, 3, 5, 8, 10, 12])
def test_round_trip_of_odd_numbers_of_points(golden_words: list[np.ndarray], missing: int) -> None:
    for word in golden_words:
        if len(word) == 14:
            fewer = np.delete(word, missing, axis=0)
            upper, lower = split_sides(fewer)
            np.testing.assert_array_equal([upper[-1], lower[0]], word[6:8])
            assert outline_distance(bezier_to_polygon(fit_bezier(fewer), 40), word) < 1.5


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(-1, 1), st.floats(10, 120))
def test_sides_meet_the_ends_of_the_word(points_above: int, more_below: int, degrees: float) -> None:
    points_below = max(points_above + more_below, 2)
    word = arch(points_above, points_below, degrees=degrees)
    upper, lower = split_sides(word)
    np.testing.assert_array_equal(upper, word[:points_above])
    np.testing.assert_array_equal(lower, word[points_above:])


@pytest.mark.parametrize(
    ("pentagon", "points_above"),
    [
        ([[0, 0], [80, 0], [90, 10], [90, 30], [0, 30]], 3),  # upper right corner cut off
        ([[0, 0], [90, 0], [90, 20], [80, 30], [0, 30]], 2),  # lower right corner cut off
        ([[10, 0], [90, 0], [90, 30], [0, 30], [0, 10]], 2),  # upper left corner cut off
        ([[0, 0], [40, 0], [90, 0], [90, 30], [0, 30]], 3),  # a point too many on a straight side
    ],
)
def test_words_with_a_corner_cut_off_keep_their_right_end(pentagon: list[list[float]], points_above: int) -> None:
    word = np.array(pentagon, dtype=np.float64)
    upper, lower = split_sides(word)
    assert (len(upper), len(lower)) == (points_above, 5 - points_above)
    assert outline_distance(bezier_to_polygon(fit_bezier(word), 40), word) < 8


@settings(max_examples=30)
@given(st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=2), st.floats(0.2, 3), st.floats(-3.1, 3.1))
def test_straight_words_have_evenly_spaced_control_points(shift: list[float], size: float, angle: float) -> None:
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    quad = np.array([[0, 0], [90, 5], [95, 30], [-5, 25]]) @ turn.T + shift
    thirds = np.linspace(0, 1, 4)[:, None]
    expected = np.concatenate([(1 - thirds) * quad[0] + thirds * quad[1], (1 - thirds) * quad[2] + thirds * quad[3]])
    np.testing.assert_allclose(fit_bezier(quad), expected, atol=1e-3)
    # The same sides with one more point on each.
    more = np.array([quad[0], 0.8 * quad[0] + 0.2 * quad[1], quad[1], quad[2], 0.5 * quad[2] + 0.5 * quad[3], quad[3]])
    np.testing.assert_allclose(fit_bezier(more), expected, atol=1e-3)


@settings(max_examples=30)
@given(st.integers(4, 12), st.floats(0.2, 3), st.floats(-3.1, 3.1), st.floats(-300, 300), st.floats(-300, 300))
def test_fit_moves_with_the_image(points: int, size: float, angle: float, x: float, y: float) -> None:
    matrix = np.array([[np.cos(angle), -np.sin(angle), x], [np.sin(angle), np.cos(angle), y]])
    matrix[:, :2] *= size
    word = arch(points, points + 1)
    moved = fit_bezier(geometry.transform_points(word, matrix))
    np.testing.assert_allclose(moved, geometry.transform_points(fit_bezier(word), matrix), atol=2e-2)


@settings(max_examples=30)
@given(st.lists(st.floats(-8, 8), min_size=8, max_size=8), st.integers(5, 15))
def test_fit_finds_the_curves_that_made_a_polygon(bends: list[float], points: int) -> None:
    control_points = np.array([[0, 0], [30, 0], [60, 0], [90, 0], [90, 30], [60, 30], [30, 30], [0, 30]], float)
    control_points[[1, 2, 5, 6]] += np.reshape(bends, (4, 2))
    made = bezier_to_polygon(control_points, 2 * points)
    again = bezier_to_polygon(fit_bezier(made), 40)
    assert outline_distance(again, bezier_to_polygon(control_points, 40)) < 1


def test_sections_are_the_curve_between_two_shares_of_it() -> None:
    word = np.random.default_rng(0).uniform(0, 100, (8, 2))
    part = bezier_section(word, 0.3, 0.8)
    t = np.linspace(0, 1, 5)
    np.testing.assert_allclose(bezier_points(part[:4], t), bezier_points(word[:4], 0.3 + 0.5 * t), atol=1e-3)
    np.testing.assert_allclose(bezier_points(part[4:], t), bezier_points(word[4:], 0.2 + 0.5 * t), atol=1e-3)


@pytest.mark.parametrize("ends", [(0.45, 0.5), (0.5, 0.5), (0.6, 0.4)])
def test_sections_joined_are_the_curve_again(ends: tuple[float, float]) -> None:
    word = np.float32([[0, 60], [40, 20], [80, 20], [120, 60], [100, 70], [75, 45], [45, 45], [20, 70]])
    again = bezier_joined(bezier_section(word, 0, ends[0]), bezier_section(word, ends[1], 1))
    assert outline_distance(bezier_to_polygon(again, 40), bezier_to_polygon(word, 40)) < 2
    np.testing.assert_allclose(again[[0, 3, 4, 7]], word[[0, 3, 4, 7]], atol=1e-4)


def test_curves_start_and_end_at_the_corners() -> None:
    word = arch(6, 6)
    control_points = fit_bezier(word)
    assert control_points.shape == (8, 2)
    assert control_points.dtype == np.float32
    np.testing.assert_allclose(control_points[[0, 3, 4, 7]], word[[0, 5, 6, 11]], rtol=1e-6)


def test_few_uneven_points_do_not_make_a_curve_swing_out() -> None:
    # A curve through all three points of the upper side would rise 13 pixels above it.
    word = np.array([[0, 5], [0, 0], [95, 0], [95, 30], [47, 30], [0, 30]])
    assert bezier_to_polygon(fit_bezier(word), 100)[:50, 1].min() > -6


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([[0, 0], [9, 0], [9, 9]], r"at least 4 points, got shape \(3, 2\)"),
        ([[0, 0, 0]] * 4, r"\(K, 2\).* got shape \(4, 3\)"),
        ([[0, 0], [9, 0], [9, float("nan")], [0, 9]], "NaN or infinite"),
        ([[5, 5]] * 6, "no area"),
        ([[0, 0], [9, 3], [18, 6], [27, 9]], "no area"),
        ([[0, 0], [0, 9], [9, 9], [9, 0]], "anticlockwise"),
        ([[0, 0], [0, 0], [9, 9], [0, 9]], "no length"),
    ],
)
def test_degenerate_polygons_are_refused(polygon: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_bezier(np.array(polygon))


def test_polygons_have_an_even_number_of_points() -> None:
    control_points = fit_bezier(arch(5, 5))
    assert bezier_to_polygon(control_points).shape == (20, 2)
    np.testing.assert_array_equal(bezier_to_polygon(control_points, 4), control_points[[0, 3, 4, 7]])
    for num_points in (2, 7):
        with pytest.raises(ValueError, match="even and at least 4"):
            bezier_to_polygon(control_points, num_points)
    with pytest.raises(ValueError, match=r"expected control points \(8, 2\), got shape \(4, 2\)"):
        bezier_to_polygon(control_points[:4])


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 100), st.floats(60, 200), st.floats(10, 24), st.floats(-35, 35), st.booleans(), st.integers(0, 999))
def test_outlines_with_vertices_anywhere(
    bend: float, length: float, height: float, turn: float, smiles: bool, seed: int
) -> None:
    """A straight or curved band, its middle line `length` long and bent by so many degrees."""
    half, radius = np.deg2rad(max(bend, 0.1)) / 2, length / np.deg2rad(max(bend, 0.1))
    angles = np.linspace(-half, half, 100)
    arc = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    word = np.concatenate([(radius + height / 2) * arc, (radius - height / 2) * arc[::-1]])
    word = np.roll(-word, -100, axis=0) if smiles else word  # upside down, its inner side comes first
    angle = np.deg2rad(turn)
    word = word @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    control_points = outline_to_bezier(resampled(word, seed))
    assert control_points.dtype == np.float32
    assert outline_distance(bezier_to_polygon(control_points, 60), word) < 1
    np.testing.assert_allclose(control_points[[0, 3, 4, 7]], word[[0, 99, 100, 199]], atol=1.5)


@pytest.mark.parametrize("turn", [0, 30, 60, 90, -44, -89])
def test_grown_words_are_read_as_the_quads_around_them(turn: float) -> None:
    """Round corners are filled up again, and straight words start where quads do."""
    angle = np.deg2rad(turn)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    word = np.array([[0, 0], [100, 0], [100, 20], [0, 20]]) @ matrix + 200
    control_points = outline_to_bezier(geometry.unclip_polygon(word, 1.5))
    quad = geometry.order_clockwise(geometry.unclip_quads(word[None], 1.5)[0])
    returned, expected = shapely.Polygon(bezier_to_polygon(control_points)), shapely.Polygon(quad)
    assert returned.intersection(expected).area > 0.9 * returned.union(expected).area
    np.testing.assert_allclose(control_points[[0, 3, 4, 7]], quad, atol=10)  # 45 pixels high, 12.5 of them round


def test_corners_of_a_trapezium_are_found() -> None:
    word = np.array([[0, 5], [120, -8], [124, 40], [-4, 30]])
    control_points = outline_to_bezier(resampled(word, 0))
    np.testing.assert_allclose(control_points[[0, 3, 4, 7]], word, atol=1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=5, max_size=9, unique=True))
def test_any_outline_gives_finite_curves(points: list[tuple[float, float]]) -> None:
    hull = shapely.convex_hull(shapely.MultiPoint(points))
    if hull.area < 1:
        return
    outline = geometry.order_clockwise(shapely.get_coordinates(hull)[:-1])
    if len(outline) >= 4:
        assert np.isfinite(outline_to_bezier(outline)).all()


def test_outlines_that_are_no_words_are_refused() -> None:
    with pytest.raises(ValueError, match="anticlockwise"):
        outline_to_bezier(arch(6, 6)[::-1])
    with pytest.raises(ValueError, match="no area"):
        outline_to_bezier(np.array([[0, 0], [9, 3], [18, 6], [27, 9]]))
