"""Captions beside their words."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.visualization.captions import place_apart, place_caption

IMAGE = (200, 120)
QUAD = np.float32([[60, 50], [120, 50], [120, 70], [60, 70]])
NOTHING = np.zeros((0, 4))

outlines = st.lists(st.tuples(st.floats(0, IMAGE[0]), st.floats(0, IMAGE[1])), min_size=3, max_size=7).map(np.array)
sizes = st.tuples(st.integers(1, 220), st.integers(1, 60))


@given(outlines, sizes, st.floats(0.5, 8))
def test_a_caption_is_in_the_image_and_off_its_own_word(polygon, size, gap):
    box = place_caption(size, polygon, IMAGE, gap, NOTHING)
    if box is None:
        # There is no room above or below the whole word, nor beside it.
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        free = np.maximum(low, np.array(IMAGE) - high)
        assert size[0] > IMAGE[0] or free[1] < size[1] + gap + 1
        assert size[1] > IMAGE[1] or free[0] < size[0] + gap + 1
    else:
        assert (box[:2] >= 0).all()
        assert (box[2:] <= IMAGE).all()
        assert (box[2:] - box[:2] == size).all()
        outline = shapely.make_valid(shapely.Polygon(polygon))
        assert shapely.box(*box).distance(outline) >= min(gap, 0.5)


def test_above_the_start_of_the_word_where_there_is_room():
    assert place_caption((40, 15), QUAD, IMAGE, 3, NOTHING).tolist() == [60, 32, 100, 47]
    at_the_top = QUAD - np.float32([0, 50])
    assert place_caption((40, 15), at_the_top, IMAGE, 3, NOTHING).tolist() == [60, 23, 100, 38]
    whole_height = np.float32([[60, 0], [120, 0], [120, 120], [60, 120]])
    assert place_caption((40, 15), whole_height, IMAGE, 3, NOTHING).tolist() == [123, 52, 163, 67]


def test_close_to_a_tilted_word():
    tilted = np.float32([[60, 20], [160, 90], [150, 104], [50, 34]])
    box = place_caption((20, 10), tilted, IMAGE, 2, np.array([[0, 0, 200, 25]]))
    assert 2 <= shapely.box(*box).distance(shapely.Polygon(tilted)) <= 5


def test_other_words_and_captions_are_spared():
    above = np.array([[50, 30, 90, 48]])
    assert place_caption((40, 15), QUAD, IMAGE, 3, above).tolist() == [60, 73, 100, 88]
    around = np.array([[0, 0, 200, 48], [0, 72, 200, 120]])
    assert place_caption((40, 15), QUAD, IMAGE, 3, around).tolist() == [123, 52, 163, 67]


boxes = st.lists(outlines.map(lambda points: np.array([*points.min(axis=0), *points.max(axis=0)])), max_size=12)


@given(outlines, st.tuples(st.integers(4, 60), st.integers(4, 20)), boxes)
def test_neither_captions_nor_their_lines_meet_an_obstacle(polygon, size, boxes):
    obstacles = np.array(boxes).reshape(-1, 4)
    areas = [shapely.box(*box) for box in boxes]
    beside = place_caption(size, polygon, IMAGE, 2, obstacles)
    assert beside is None or all(shapely.box(*beside).intersection(area).area < 1e-6 for area in areas)
    apart = place_apart(size, polygon, IMAGE, 2, obstacles)
    if apart is not None:
        box, line = apart
        assert (box[:2] >= 0).all()
        assert (box[2:] <= IMAGE).all()
        assert not any(shapely.box(*box).intersection(area).area > 1e-6 for area in areas)
        assert not any(shapely.LineString(line).intersection(area).length > 1e-3 for area in areas)
        assert shapely.box(*box).distance(shapely.Point(line[0])) < 1e-6


def test_a_line_leads_from_the_nearest_free_place_to_the_word():
    around = np.array([[40, 30, 140, 48], [40, 72, 140, 90], [40, 30, 58, 90]])
    box, line = place_apart((30, 12), QUAD, IMAGE, 3, around)
    assert 123 <= box[0] <= 130  # to the right, where there is nothing
    assert line[1].tolist() == [120, line[0, 1]]
    closed = np.array([*around, [122, 30, 140, 90]])
    assert place_apart((30, 12), QUAD, IMAGE, 3, closed) is None
