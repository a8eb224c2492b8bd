"""The order of reading: hand-made scenes, and that it follows from nothing but the outlines."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transformers_tcm.reading_order import lines, reading_order


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


def column(x: float, y: float, lines: int = 4, words: int = 3, step: float = 20) -> list[np.ndarray]:
    """Words of 40 x 10 pixels with gaps of 5."""
    return [quad(x + 45 * word, y + step * line) for line in range(lines) for word in range(words)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("degrees", [0, 25, -90, 180])
@pytest.mark.parametrize("offset", [0, 2, 10], ids=["level", "almost level", "not level"])
def test_columns_are_read_one_after_the_other(offset: float, degrees: float, seed: int) -> None:
    page = [*column(10, 10), *column(200, 10 + offset), *column(400, 10 + offset / 2, words=2)]
    words, order = shuffled([turned(word, degrees) for word in page], seed)
    found = lines(words)
    assert order[np.concatenate(found)].tolist() == list(range(len(page)))
    assert [len(line) for line in found] == 8 * [3] + 4 * [2]


@pytest.mark.parametrize("offset", [0, 10])
def test_columns_of_single_words(offset: float) -> None:
    left, right = [quad(10, y) for y in (10, 30, 50)], [quad(300, y + offset) for y in (10, 30, 50)]
    words, order = shuffled([*left, *right])
    assert order[reading_order(words)].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("offset", [0, 8])
def test_headline_and_foot_across_columns_keep_their_place(offset: float) -> None:
    headline, foot = [quad(60, -20, 150, 20), quad(220, -20, 60, 20)], [quad(80, 100, 200)]
    page = [*headline, *column(10, 10), *column(200, 10 + offset), *foot]
    words, order = shuffled(page)
    assert order[reading_order(words)].tolist() == list(range(len(page)))


def test_a_column_may_fall_into_two() -> None:
    inner = [*column(200, 30, lines=2, words=1), *column(270, 30, lines=2, words=1)]
    page = [*column(10, 10), quad(200, 10, 120), *inner, quad(200, 70, 120)]
    words, order = shuffled(page)
    assert order[reading_order(words)].tolist() == list(range(len(page)))


def test_what_is_no_gutter_is_read_across() -> None:
    one_line = [quad(10, 10), quad(300, 10)]
    assert lines(one_line) == [[0, 1]]
    # Wide gaps between all words, as in spaced letters.
    assert lines([quad(60 * place, 20 * line) for line in range(2) for place in range(6)]) == [
        [*range(6)],
        [*range(6, 12)],
    ]
    # Words below each other that do not stand beside those to the right of them.
    stairs = [quad(10, y) for y in (100, 120)] + [quad(300, y) for y in (10, 30)]
    assert lines(stairs) == [[2], [3], [0], [1]]
    scattered = [quad(10, y) for y in (10, 100)] + [quad(300, y) for y in (10, 30, 100)]
    assert lines(scattered) == [[0, 2], [3], [1, 4]]
    narrow = [quad(x, y) for y in (10, 30) for x in (10, 62)]
    assert lines(narrow) == [[0, 1], [2, 3]]


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
    assert lines([]) == []
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
    assert [index for line in lines(words) for index in line] == reading_order(words).tolist()


def test_a_thousand_words() -> None:
    rows = [[quad(50 * column, 15 * row) for column in range(25)] for row in range(40)]
    words, order = shuffled([word for row in rows for word in row])
    assert order[reading_order(words)].tolist() == list(range(1000))
