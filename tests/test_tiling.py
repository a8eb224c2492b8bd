"""Tiles of large photos, and one result made from theirs."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm import TextInstances, geometry
from transformers_tcm.tiling import Box, TileGrid, merge_tiles, stitch_maps

# Two tiles side by side that share 400…600: (0, 0, 600, 300) and (400, 0, 1000, 300).
GRID = TileGrid(width=1000, height=300, tile=600, overlap=200)
LEFT, RIGHT = GRID.tiles


def rectangle(box: Sequence[float]) -> np.ndarray:
    x_min, y_min, x_max, y_max = box
    return np.array([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]], np.float32)


def words(*boxes: Sequence[float], scores: Sequence[float] | None = None) -> TextInstances:
    return TextInstances([rectangle(box) for box in boxes], scores=np.array(scores or [0.9] * len(boxes)))


def merged(*found: tuple[Box, TextInstances]) -> list[list[int]]:
    return merge_tiles(GRID, found).boxes.round().astype(int).tolist()


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(64, 1000), st.floats(0, 0.5))
def test_tiles_are_of_one_size_and_show_whatever_is_not_longer_than_the_overlap(
    width: int, height: int, tile: int, share: float
) -> None:
    overlap = int(share * tile)
    grid = TileGrid(width, height, tile, overlap)
    boxes = np.array(grid.tiles)
    assert (boxes[:, 2:] - boxes[:, :2] == np.minimum(tile, [width, height])).all()
    for low, high, length in ((boxes[:, 0], boxes[:, 2], width), (boxes[:, 1], boxes[:, 3], height)):
        starts, ends = np.unique(low), np.unique(high)
        assert starts[0] == 0
        assert ends[-1] == length
        assert (ends[:-1] - starts[1:] >= overlap).all()
        # One tile less would not do.
        assert len(starts) == 1 or tile + (len(starts) - 2) * (tile - overlap) < length


@given(st.integers(1, 400), st.integers(1, 400), st.integers(64, 200), st.integers(0, 32))
def test_cores_cover_the_photo_once_and_lie_in_their_tiles(width: int, height: int, tile: int, overlap: int) -> None:
    grid = TileGrid(width, height, tile, overlap)
    count = np.zeros((height, width), int)
    for (left, top, right, bottom), core in zip(grid.tiles, grid.cores, strict=True):
        count[core[1] : core[3], core[0] : core[2]] += 1
        assert left <= core[0] < core[2] <= right
        assert top <= core[1] < core[3] <= bottom
    assert (count == 1).all()


@pytest.mark.parametrize(
    ("tile", "overlap", "error", "message"),
    [
        (63, 0, ValueError, "`tile` is 63; expected at least 64"),
        (-1, 0, ValueError, "`tile` is -1"),
        (100, 51, ValueError, "`tile_overlap` is 51; expected 0 to 50"),
        (100, -1, ValueError, "`tile_overlap` is -1"),
        (100.0, 20, TypeError, "expected whole pixels"),
    ],
)
def test_impossible_tiles_are_refused(tile: int, overlap: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TileGrid(1000, 1000, tile, overlap)


def test_a_word_that_two_tiles_see_is_taken_from_the_one_it_is_deeper_in() -> None:
    seen_left, seen_right = (430, 100, 490, 120), (431, 101, 492, 121)
    result = merge_tiles(GRID, [(LEFT, words(seen_left, scores=[0.6])), (RIGHT, words(seen_right, scores=[0.9]))])
    assert result.boxes.tolist() == [list(seen_left)]
    assert result.scores == pytest.approx([0.6])
    # 500 is the middle of what they share.
    assert merged((LEFT, words((510, 100, 570, 120))), (RIGHT, words((511, 101, 572, 121)))) == [[511, 101, 572, 121]]


def test_a_cut_word_is_dropped_where_another_tile_sees_it_whole() -> None:
    piece, whole = (520, 100, 600, 120), (520, 100, 660, 120)
    assert merged((LEFT, words(piece, scores=[0.99])), (RIGHT, words(whole, scores=[0.5]))) == [list(whole)]
    # Also where that one says that there is no word.
    assert merged((LEFT, words(piece)), (RIGHT, words())) == []


@pytest.mark.parametrize(("gap", "remains"), [(9, False), (10, True)])
def test_a_word_is_cut_within_half_its_height_of_the_border(gap: int, remains: bool) -> None:
    word = (520, 100, 600 - gap, 120)
    assert bool(merged((LEFT, words(word)))) is remains
    low = (520, 100, 596, 103)  # 4 pixels from the border, however low it is
    assert merged((LEFT, words(low))) == [list(low)]


def test_borders_of_the_photo_cut_nothing() -> None:
    boxes = [(0, 0, 80, 20), (900, 280, 1000, 300)]
    assert merged((LEFT, words(boxes[0])), (RIGHT, words(boxes[1]))) == [list(box) for box in boxes]


def test_pieces_of_a_word_too_long_for_the_overlap_stay_unless_they_show_the_same() -> None:
    left, right = (250, 100, 600, 150), (400, 100, 880, 150)
    assert merged((LEFT, words(left)), (RIGHT, words(right))) == [[400, 100, 880, 150]]  # 200 of 350 are shared
    left, right = (100, 100, 600, 150), (400, 100, 880, 150)
    assert merged((LEFT, words(left)), (RIGHT, words(right))) == [list(left), list(right)]


def test_the_overview_counts_for_words_that_no_tile_sees_whole() -> None:
    pieces = [(LEFT, words((250, 100, 600, 150))), (RIGHT, words((400, 100, 880, 150)))]
    long, short, elsewhere = (250, 100, 880, 150), (700, 10, 760, 30), (20, 200, 80, 220)
    overview = (GRID.whole, words(long, short, elsewhere))
    assert merged(overview, *pieces, (LEFT, words((20, 200, 81, 221)))) == [list(long), [20, 200, 81, 221]]


def test_a_line_of_words_is_no_word() -> None:
    line, parts = (100, 100, 900, 150), [(100, 100, 300, 150), (320, 100, 480, 150), (500, 100, 900, 150)]
    found = [(GRID.whole, words(line)), (LEFT, words(*parts[:2])), (RIGHT, words(parts[2]))]
    assert sorted(merged(*found)) == [list(part) for part in parts]
    # A letter that a tile takes for a word is part of the long word.
    assert merged((GRID.whole, words(line)), (LEFT, words((320, 100, 360, 150)))) == [list(line)]


def test_words_inside_another_stay_where_one_tile_finds_both() -> None:
    around, inside = (100, 50, 300, 250), (150, 120, 250, 160)
    assert merged((LEFT, words(around, inside))) == [list(around), list(inside)]


def test_texts_and_their_scores_go_along() -> None:
    left = TextInstances(
        [rectangle((10, 10, 90, 30))], scores=np.array([0.8]), texts=["SALE"], text_scores=np.array([0.7])
    )
    polygons = [rectangle((700, 10, 790, 30)), rectangle((900, 10, 980, 30))]
    right = TextInstances(polygons, scores=np.array([0.6, 0.9]), texts=["a", "b"], text_scores=np.array([1, 0]))
    result = merge_tiles(GRID, [(LEFT, left), (RIGHT, right)])
    assert result.texts == ["b", "SALE", "a"]
    np.testing.assert_allclose(result.text_scores, [0, 0.7, 1])
    np.testing.assert_allclose(result.scores, [0.9, 0.8, 0.6])
    none = TextInstances([], scores=np.zeros(0), texts=[], text_scores=np.zeros(0))
    assert merge_tiles(GRID, [(LEFT, none), (RIGHT, none)]).texts == []


def test_outlines_that_cross_themselves_are_taken_as_they_are() -> None:
    crossed = np.array([[10, 10], [90, 50], [90, 10], [10, 50]], np.float32)
    result = merge_tiles(GRID, [(LEFT, TextInstances([crossed], scores=np.array([0.5])))])
    np.testing.assert_array_equal(result.polygons[0], crossed)


def scene(grid: TileGrid, seed: int) -> list[np.ndarray]:
    """Words of many sizes, turned, apart from each other; many of them across the borders of tiles."""
    rng = np.random.default_rng(seed)
    lines = [edge for box in grid.tiles for edge in box]
    placed: list[np.ndarray] = []
    for _ in range(120):
        length = rng.choice([30, 60, 120, 400])
        angle = rng.uniform(-0.4, 0.4)
        center = [
            rng.choice(lines) if rng.random() < 0.6 else rng.uniform(0, size) for size in (grid.width, grid.height)
        ]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        word = rectangle((-length / 2, -length / 8, length / 2, length / 8)) @ turn + center
        box, low = geometry.bounding_box(word), word.min(axis=0)
        inside = (low > 0).all() and (word.max(axis=0) < [grid.width, grid.height]).all()
        apart = all((box[:2] > other[2:]).any() or (other[:2] > box[2:]).any() for other in map(_box, placed))
        if inside and apart:
            placed.append(word.astype(np.float32))
    return placed


def _box(word: np.ndarray) -> np.ndarray:
    return geometry.bounding_box(word) + np.array([-20, -20, 20, 20])


@pytest.mark.parametrize("seed", range(8))
def test_who_sees_what_is_visible_gets_every_word_once_and_whole(seed: int) -> None:
    grid = TileGrid(1500, 1100, 512, 128)
    rng = np.random.default_rng(seed)
    expected = scene(grid, seed)
    found = []
    for box in [grid.whole, *grid.tiles]:
        corner, (width, height) = np.float32(box[:2]), np.subtract(box[2:], box[:2])
        visible = [geometry.clip_polygon(word - corner, width, height) for word in expected]
        seen = [part + corner for part in visible if part is not None and abs(geometry.signed_area(part)) > 20]
        found.append((box, TextInstances(seen, scores=rng.uniform(0.5, 1, len(seen)))))
    result = merge_tiles(grid, found)
    assert len(expected) > 25
    once, wanted = (sorted(words, key=lambda word: word.tolist()) for words in (result.polygons, expected))
    assert [len(word) for word in once] == [4] * len(wanted)
    np.testing.assert_allclose(once, wanted, atol=1e-3)


def test_maps_are_stitched_where_tiles_share_half() -> None:
    maps = [(LEFT, np.full((300, 600), 1.0)), (RIGHT, np.full((300, 600), 2.0))]
    stitched = stitch_maps(GRID, maps)
    assert stitched.shape == (300, 1000)
    assert (stitched[:, :500] == 1).all()
    assert (stitched[:, 500:] == 2).all()
    whole = np.random.default_rng(0).random((500, 700), np.float32)
    grid = TileGrid(700, 500, 128, 40)
    parts = [(box, whole[box[1] : box[3], box[0] : box[2]]) for box in grid.tiles]
    np.testing.assert_array_equal(stitch_maps(grid, parts), whole)
