"""Polygons: order, clipping and offsetting, as properties of random outlines."""

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from transformers_tcm import geometry

coordinates = st.floats(-100, 200, width=32)


@st.composite
def rectangles(draw: st.DrawFn) -> np.ndarray:
    """A (4, 2) rectangle anywhere, at any angle, in either orientation, from any corner."""
    width, height = draw(st.floats(2, 200)), draw(st.floats(2, 200))
    angle = draw(st.floats(0, 2 * np.pi))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])[:: draw(st.sampled_from([1, -1]))]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.roll(corners, draw(st.integers(0, 3)), axis=0) @ turn.T + [draw(coordinates), draw(coordinates)]


@st.composite
def star_polygons(draw: st.DrawFn) -> np.ndarray:
    """A (K, 2) float32 outline that does not cross itself: corners at rising angles around a centre."""
    count = draw(st.integers(3, 9))
    radii = np.array(draw(st.lists(st.floats(5, 80), min_size=count, max_size=count)))
    angles = (np.arange(count) + 0.8 * draw(st.floats(0, 1))) * 2 * np.pi / count
    centre = [draw(st.floats(-40, 140)), draw(st.floats(-40, 140))]
    return (centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def test_signed_area_is_positive_for_clockwise_on_the_screen() -> None:
    square = np.array([[0, 0], [4, 0], [4, 2], [0, 2]])
    assert geometry.signed_area(square) == 8
    assert geometry.signed_area(square[::-1]) == -8
    assert geometry.perimeter(square) == 12
    np.testing.assert_array_equal(geometry.bounding_box(square), [0, 0, 4, 2])


@given(star_polygons(), st.integers(0, 8), st.booleans())
def test_order_clockwise_does_not_depend_on_the_order_of_the_input(polygon, turn, reverse) -> None:
    ordered = geometry.order_clockwise(polygon)
    other = np.roll(polygon, turn, axis=0)[:: -1 if reverse else 1]
    np.testing.assert_array_equal(geometry.order_clockwise(other), ordered)
    assert geometry.signed_area(ordered) > 0
    assert set(map(tuple, ordered)) == set(map(tuple, polygon))


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("reverse", [False, True])
def test_order_clockwise_settles_ties(turn: int, reverse: bool) -> None:
    diamond = np.array([[0, 1], [1, 0], [2, 1], [1, 2]])
    hexagon = np.array([[0, 2], [2, 0], [4, 0], [6, 2], [4, 4], [2, 4]])
    for polygon in (diamond, hexagon):
        other = np.roll(polygon, turn, axis=0)[:: -1 if reverse else 1]
        np.testing.assert_array_equal(geometry.order_clockwise(other), geometry.order_clockwise(polygon))


@given(rectangles())
def test_order_clockwise_starts_a_quad_with_its_upper_edge(quad) -> None:
    edges = np.roll(geometry.order_clockwise(quad), -1, axis=0) - geometry.order_clockwise(quad)
    directions = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    assert directions[0, 0] >= directions[:, 0].max() - 1e-6
    assert directions[0, 0] >= np.cos(np.pi / 4) - 1e-6


def test_order_clockwise_of_a_tilted_word_starts_at_its_top_left() -> None:
    word = np.array([[10, 20], [60, 10], [62, 20], [12, 30]])
    np.testing.assert_array_equal(geometry.order_clockwise(word[[2, 1, 0, 3]]), word)


@given(star_polygons(), st.floats(20, 120), st.floats(20, 120))
def test_clip_polygon_is_the_intersection_with_the_image(polygon, width, height) -> None:
    clipped = geometry.clip_polygon(polygon, width, height)
    whole = shapely.Polygon(polygon)
    assume(whole.is_valid)
    pieces = shapely.get_parts(whole.intersection(shapely.box(0, 0, width, height)))
    expected = max((piece.area for piece in pieces), default=0.0)
    if clipped is None:
        assert expected < 1e-3
    else:
        assert clipped.min() >= 0
        assert (clipped <= np.array([width, height], np.float32)).all()
        assert abs(geometry.signed_area(clipped)) == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_clip_polygon_keeps_what_lies_inside_and_drops_what_does_not() -> None:
    word = np.float32([[1, 1], [9, 1], [9, 4], [1, 4]])
    assert geometry.clip_polygon(word, 10, 5) is word
    assert geometry.clip_polygon(word + 20, 10, 5) is None
    assert geometry.clip_polygon(word - [0, 4], 10, 5) is None  # touches the border


def test_clip_polygon_returns_the_largest_of_several_pieces() -> None:
    horseshoe = np.float32([[0, 2], [30, 2], [30, -9], [25, -9], [25, 1], [10, 1], [10, -9], [0, -9]])
    clipped = geometry.clip_polygon(-horseshoe + [30, 0], 40, 40)
    np.testing.assert_array_equal(geometry.bounding_box(clipped), [20, 0, 30, 9])


def test_clip_polygon_takes_invalid_outlines() -> None:
    crossing = np.float32([[-3, -3], [7, 7], [7, -3], [-3, 7]])  # two triangles, of which the right one shows more
    assert geometry.signed_area(geometry.clip_polygon(crossing, 7, 7)) == pytest.approx(25 - 4.5)
    flat = np.float32([[-5, 2], [20, 2], [20, 2]])
    assert geometry.clip_polygon(flat, 7, 7) is None


@given(star_polygons())
def test_clamp_polygon_moves_only_what_is_outside(polygon) -> None:
    clamped = geometry.clamp_polygon(polygon, 100, 50)
    assert clamped.shape == polygon.shape
    assert clamped.dtype == polygon.dtype
    inside = (polygon >= 0) & (polygon <= [100, 50])
    np.testing.assert_array_equal(clamped[inside], polygon[inside])
    assert clamped.min() >= 0
    assert (clamped <= [100, 50]).all()


@given(star_polygons(), st.floats(0.2, 3), st.floats(-3, 3), coordinates)
def test_transform_points_undoes_its_inverse(polygon, scale, angle, shift) -> None:
    matrix = np.array(
        [[scale * np.cos(angle), -np.sin(angle), shift], [np.sin(angle), scale * np.cos(angle), 7], [1e-4, 0, 1]]
    )
    assume(abs(np.linalg.det(matrix)) > 0.1)
    for forward in (matrix, matrix * [[1], [1], [0]] + [[0, 0, 0], [0, 0, 0], [0, 0, 1]]):
        moved = geometry.transform_points(polygon, forward)
        assume((np.abs(polygon @ forward[2, :2] + 1) > 0.5).all())
        np.testing.assert_allclose(geometry.transform_points(moved, np.linalg.inv(forward)), polygon, atol=0.05)


def test_transform_points_takes_affine_matrices() -> None:
    moved = geometry.transform_points(np.array([[1, 2], [3, 4]]), np.array([[2, 0, 1], [0, 1, -1]]))
    np.testing.assert_array_equal(moved, np.float32([[3, 1], [7, 3]]))


@given(rectangles(), st.floats(0.3, 2.5))
def test_unclip_quad_is_the_smallest_rectangle_around_the_unclipped_outline(quad, ratio) -> None:
    expected = geometry.min_area_quad(geometry.unclip_polygon(quad, ratio))
    grown = geometry.unclip_quads(quad[None], ratio)[0]
    # Corners may be listed from elsewhere: each has to be near one of the others.
    distances = np.linalg.norm(grown[:, None] - expected[None], axis=2)
    assert distances.min(axis=1).max() < 0.1
    assert distances.min(axis=0).max() < 0.1


@given(rectangles(), st.floats(0.1, 0.5))
def test_unclipping_undoes_shrinking(quad, fraction) -> None:
    """DBNet's pair: what is shrunk by a distance grows back by the same distance."""
    distance = fraction * 0.9 * min(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[1])) / 2
    (shrunk,) = geometry.offset_polygon(quad, -distance)
    (grown,) = geometry.offset_polygon(shrunk, distance)
    # The corners come back round, so their tips are missing: at most (4 - pi) distance^2, and the flattened arcs.
    missing = abs(geometry.signed_area(quad)) - abs(geometry.signed_area(grown))
    assert -0.5 < missing < (4 - np.pi) * distance**2 + 0.3 * 2 * np.pi * distance + 0.5


def test_offset_polygon_may_vanish_or_fall_apart() -> None:
    dumbbell = np.array([[0, 0], [20, 0], [20, 9], [40, 9], [40, 0], [60, 0], [60, 20], [40, 20], [40, 11], [20, 11]])
    dumbbell = np.vstack([dumbbell, [[20, 20], [0, 20]]])
    assert len(geometry.offset_polygon(dumbbell, -3)) == 2
    assert geometry.offset_polygon(dumbbell, -30) == []
    assert geometry.unclip_polygon(dumbbell, -3) is None


@given(star_polygons())
def test_min_area_quad_encloses_the_points(polygon) -> None:
    quad = geometry.min_area_quad(polygon)
    assert geometry.signed_area(quad) > 0
    assert shapely.Polygon(quad).buffer(0.05).covers(shapely.MultiPoint(polygon))
    edges = np.roll(quad, -1, axis=0) - quad
    scale = np.linalg.norm(edges, axis=1)
    assert abs(edges[0] @ edges[1]) <= 1e-3 * max(scale[0] * scale[1], 1)


def test_tall_quads() -> None:
    """Those more than 1.5 times as high as wide, on either side of the first corner."""
    sizes = [(20, 40), (20, 29), (40, 20), (20, 31)]  # width, height
    upright = [np.float32([[5, 5], [5 + w, 5], [5 + w, 5 + h], [5, 5 + h]]) for w, h in sizes]
    assert [geometry.is_tall_quad(quad) for quad in upright] == [True, False, False, True]
    assert [geometry.is_tall_quad(np.roll(quad, -1, axis=0)) for quad in upright] == [False, False, True, False]
    assert not geometry.is_tall_quad(upright[0].repeat(2, axis=0))


def test_tall_labels_of_words_run_down() -> None:
    """Three characters or more: a tall quad of fewer may be a letter, and without words nothing is known."""
    tall = np.float32([[10, 10], [30, 12], [26, 90], [6, 88]])
    turned = geometry.quad_along_word(tall, "down")
    np.testing.assert_array_equal(turned, tall[[1, 2, 3, 0]])
    for quad, text in ((turned, "down"), (tall, "!!"), (tall, None), (tall.repeat(2, axis=0), "down")):
        np.testing.assert_array_equal(geometry.quad_along_word(quad, text), quad)


@pytest.mark.parametrize("degrees", [0, 30, 90, 200])
def test_height_of_a_word_is_that_across_its_line(degrees: int) -> None:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    line = np.float32([[60, 50], [120, 50], [120, 70], [60, 70]])
    assert geometry.word_height(line @ turn) == pytest.approx(20, abs=1e-3)
    square = np.float32([[0, 0], [9, 0], [9, 9], [0, 9]])
    assert geometry.word_height(square @ turn) == pytest.approx(9, abs=0.01)


def test_outlines_are_measured_and_grown_together_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    outlines = [generator.uniform(0, 100, (count, 2)).astype(np.float32) for count in (3, 4, 9, 1, 30)]
    np.testing.assert_allclose(geometry.perimeters(outlines), [geometry.perimeter(one) for one in outlines])
    np.testing.assert_allclose(geometry.signed_areas(outlines), [geometry.signed_area(one) for one in outlines])
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    grown = geometry.unclip_polygons([square, square + 50], 1.5)
    np.testing.assert_array_equal(grown[1], geometry.unclip_polygon(square + 50, 1.5))
    assert geometry.perimeters([]).shape == geometry.signed_areas([]).shape == (0,)
    assert geometry.unclip_polygons([], 1.5) == []
    assert geometry.order_outlines_clockwise([]) == []


def test_outlines_are_ordered_all_at_once_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    # Few whole numbers, so that many vertices are as near to the corner as another.
    outlines = [rng.integers(0, 6, (rng.integers(3, 9), 2)).astype(np.float32) for _ in range(300)]
    assert {len(outline) for outline in outlines} == {3, 4, 5, 6, 7, 8}
    for outline, ordered in zip(outlines, geometry.order_outlines_clockwise(outlines), strict=True):
        np.testing.assert_array_equal(ordered, geometry.order_clockwise(outline))
        assert geometry.signed_area(ordered) >= 0
        assert sorted(map(tuple, ordered)) == sorted(map(tuple, outline))


def test_polygons_that_fall_apart_or_vanish_keep_their_place() -> None:
    square = np.float32([[0, 0], [20, 0], [20, 20], [0, 20]])
    # Two squares joined by a line: one outline, grown by nothing, and two, shrunk.
    dumbbell = np.float32([[0, 0], [20, 0], [20, 9], [40, 9], [40, 0], [60, 0], [60, 20], [40, 20], [40, 11], [20, 11]])
    dumbbell = np.concatenate([dumbbell, np.float32([[20, 20], [0, 20]])])
    assert [len(geometry.offset_polygon(one, -3)) for one in (square, dumbbell, square[:3] / 9)] == [1, 2, 0]
    grown = geometry.unclip_polygons([square, dumbbell], 1.0)
    for one, outline in zip((square, dumbbell), grown, strict=True):
        np.testing.assert_array_equal(outline, geometry.unclip_polygon(one, 1.0))
