"""Captions beside their words."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.visualization.captions import place_caption

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
