"""The order of reading: hand-made scenes, and that it follows from nothing but the outlines."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transformers_tcm.reading_order import reading_order


def quad(x: float, y: float, width: float = 40, height: float = 10) -> np.ndarray:
    return np.float32([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def turned(polygon: np.ndarray, degrees: float, about: tuple[float, float] = (100, 60)) -> np.ndarray:
    """Clockwise on the screen."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (polygon - about) @ matrix + about


# Three lines of words of unequal heights, in the order of reading.
PAGE = [quad(10, 10), quad(60, 13, 20, 6), quad(90, 8, 80, 14), quad(5, 40), quad(50, 43), quad(10, 70, 150)]

coordinate = st.integers(-200, 200)


@st.composite
def tilted_quads(draw: st.DrawFn) -> np.ndarray:
    """Corners on whole pixels, turned by any angle."""
    x, y, right, down, height = (draw(coordinate) for _ in range(5))
    assume(right or down)
    corner, side = np.array([[x, y], [right, down]])
    across = np.array([-down, right]) * (abs(height) + 1)
    return np.array([corner, corner + side, corner + side + across, corner + across], dtype=np.float64)


scenes = st.lists(tilted_quads(), max_size=12, unique_by=lambda polygon: polygon.tobytes())


def shuffled(polygons: list[np.ndarray], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(polygons))
    return [polygons[index] for index in order], order


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("degrees", [0, 7, -30, 60, 90, 180, -115])
def test_lines_from_the_top_words_from_the_left_however_the_scene_is_turned(degrees: float, seed: int) -> None:
    words, order = shuffled([turned(word, degrees) for word in PAGE], seed)
    assert order[reading_order(words)].tolist() == list(range(len(PAGE)))


def test_level_columns_are_read_across() -> None:
    rows = [[quad(10, y), quad(300, y + 2)] for y in (10, 30, 50)]
    words, order = shuffled([word for row in rows for word in row])
    assert order[reading_order(words)].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("degrees", [0, 25])
def test_lines_of_columns_that_are_not_level_alternate(degrees: float) -> None:
    left, right = [quad(10, y) for y in (10, 30, 50)], [quad(300, y) for y in (20, 40, 60)]
    pairs = zip(left, right, strict=True)
    words, order = shuffled([turned(word, degrees) for pair in pairs for word in pair])
    assert order[reading_order(words)].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_line_may_fall_by_more_than_its_height() -> None:
    falling = [quad(50 * column, 4 * column) for column in range(8)]
    below = [quad(50 * column, 4 * column + 14) for column in range(8)]
    words, order = shuffled(falling + below)
    assert order[reading_order(words)].tolist() == list(range(16))


@pytest.mark.parametrize(("offset", "expected"), [(4, [1, 0]), (6, [0, 1])])
def test_half_of_the_lower_word_makes_a_line(offset: float, expected: list[int]) -> None:
    """The left word is `offset` pixels lower: it comes first only if the two are one line."""
    assert reading_order([quad(100, 0), quad(0, offset, 40, 30)]).tolist() == expected


def test_a_tall_word_takes_none_from_the_line_beside_it() -> None:
    tall, first, second = quad(0, 0, 100, 40), quad(110, 3, 40, 14), quad(160, 4, 40, 13)
    below = quad(110, 24, 40, 14)
    assert reading_order([below, second, first, tall]).tolist() == [3, 2, 1, 0]


def test_a_word_across_the_others_does_not_turn_the_scene() -> None:
    words = [*PAGE, turned(quad(180, 20, 120), 90, (180, 20))]
    assert [index for index in reading_order(words).tolist() if index < len(PAGE)] == list(range(len(PAGE)))


def test_outlines_of_any_number_of_points() -> None:
    def curved(x: float, y: float) -> np.ndarray:
        return np.float32([[x, y + 3], [x + 20, y], [x + 40, y + 3], [x + 40, y + 13], [x + 20, y + 10], [x, y + 13]])

    assert reading_order([curved(60, 50), curved(60, 10), quad(10, 12), curved(10, 52)]).tolist() == [2, 1, 3, 0]


def test_nothing_and_points() -> None:
    assert reading_order([]).tolist() == []
    point = np.zeros((4, 2))
    assert reading_order([point + 5, point]).tolist() == [1, 0]


@given(scenes, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(words, random) -> None:
    order = list(range(len(words)))
    random.shuffle(order)
    again = reading_order([words[index] for index in order])
    assert [order[index] for index in again] == reading_order(words).tolist()


@given(scenes, coordinate, coordinate, st.sampled_from([0.25, 1, 8]))
def test_neither_place_nor_size_of_the_scene_matters(words, x, y, factor) -> None:
    """Upright words, in which nothing is rounded."""
    words = [quad(*polygon[0], 1 + abs(polygon[1, 0]), 1 + abs(polygon[1, 1])).astype(np.float64) for polygon in words]
    moved = [(polygon + np.array([x, y])) * factor for polygon in words]
    assert reading_order(moved).tolist() == reading_order(words).tolist()


@given(scenes)
def test_every_word_comes_once(words) -> None:
    assert sorted(reading_order(words).tolist()) == list(range(len(words)))


def test_a_thousand_words() -> None:
    rows = [[quad(50 * column, 15 * row) for column in range(25)] for row in range(40)]
    words, order = shuffled([word for row in rows for word in row])
    assert order[reading_order(words)].tolist() == list(range(1000))
