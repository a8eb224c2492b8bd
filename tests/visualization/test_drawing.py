"""Outlines drawn into pictures."""

import numpy as np
import pytest
import shapely
from PIL import Image

from transformers_tcm import TextInstances
from transformers_tcm.visualization import draw_text_instances, overlay_score_map
from transformers_tcm.visualization.drawing import FOUND, IGNORED

QUAD = np.array([[60, 40], [240, 60], [235, 110], [55, 90]], dtype=np.float32)


def flat(color: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, color)


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((np.asarray(image) == color).all(axis=2).sum())


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (128, 128, 128), FOUND])
def test_outlines_stand_out_on_any_background(background: tuple[int, int, int]) -> None:
    drawn = np.asarray(draw_text_instances(flat(background), TextInstances([QUAD]), line_width=3)).astype(int)
    middle_of_edges = (QUAD + np.roll(QUAD, -1, axis=0)) / 2
    for x, y in middle_of_edges.round().astype(int):
        assert tuple(drawn[y, x]) == FOUND
        neighbourhood = drawn[y - 4 : y + 5, x - 4 : x + 5]
        assert neighbourhood.sum(axis=2).min() < 60  # dark beside it


def test_the_given_image_stays_as_it_is_and_the_inside_of_words_too() -> None:
    image = flat((200, 10, 10))
    before = image.tobytes()
    drawn = draw_text_instances(image, TextInstances([QUAD]))
    assert image.tobytes() == before
    assert drawn.mode == "RGB"
    assert drawn.size == image.size
    assert drawn.getpixel((147, 75)) == (200, 10, 10)


def test_pipeline_results_are_drawn_as_instances_are() -> None:
    found = [{"score": 0.5, "label": "text", "box": {}, "polygon": QUAD.tolist()}]
    expected = draw_text_instances(flat((90, 90, 90)), TextInstances([QUAD], scores=np.array([0.5])), scores=True)
    assert draw_text_instances(flat((90, 90, 90)), found, scores=True).tobytes() == expected.tobytes()


def test_nothing_found_leaves_the_picture_unchanged() -> None:
    image = flat((1, 2, 3))
    assert draw_text_instances(image, []).tobytes() == image.tobytes()
    assert draw_text_instances(image, TextInstances([]), scores=False).tobytes() == image.tobytes()


def test_ignored_instances_are_dashed_and_grey() -> None:
    drawn = draw_text_instances(flat((0, 0, 0)), TextInstances([QUAD], ignore=np.array([True])), line_width=2)
    solid = draw_text_instances(flat((0, 0, 0)), TextInstances([QUAD]), line_width=2)
    assert count(drawn, FOUND) == 0
    assert 0.3 * count(solid, FOUND) < count(drawn, IGNORED) < 0.8 * count(solid, FOUND)


def test_lines_grow_with_the_image_but_not_with_its_longer_side_alone() -> None:
    quad = [np.array([[2, 2], [60, 2], [60, 8], [2, 8]], np.float32)]
    strip = draw_text_instances(flat((0, 0, 0), (20_000, 10)), TextInstances(quad))
    assert strip.getpixel((30, 5)) == (0, 0, 0)
    small, large = (
        count(draw_text_instances(flat((0, 0, 0), size), TextInstances([QUAD])), FOUND)
        for size in ((300, 200), (3000, 2000))
    )
    assert large > 3 * small


def test_curved_outlines_are_closed() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([150 + 60 * np.cos(angles), 100 + 60 * np.sin(angles)], axis=1)
    drawn = draw_text_instances(flat((0, 0, 0)), TextInstances([circle]), line_width=3)
    x, y = np.rint((circle[-1] + circle[0]) / 2).astype(int).tolist()
    assert drawn.getpixel((x, y)) == FOUND


def written(at: tuple[int, int]) -> np.ndarray:
    """Columns and rows of the pixels of a score at a tiny quad, outlines left out."""
    quad = np.array([[0, 0], [10, 0], [10, 5], [0, 5]], np.float32) + at
    instances = TextInstances([quad], scores=np.array([0.87]))
    bright = [
        np.asarray(draw_text_instances(flat((0, 0, 0)), instances, scores=scores))[:, :, 1] > 100
        for scores in (False, True)
    ]
    return np.argwhere(bright[1] & ~bright[0])


@pytest.mark.parametrize("corner", [(0, 0), (290, 0), (0, 195), (290, 195)])
def test_scores_are_written_in_full_wherever_the_word_is(corner: tuple[int, int]) -> None:
    in_the_middle, moved = written(at=(140, 100)), written(at=corner)
    assert len(in_the_middle) > 40
    if corner[1]:  # above the word; at the upper border the two share pixels
        assert (np.ptp(moved, axis=0) == np.ptp(in_the_middle, axis=0)).all()
        assert len(moved) == len(in_the_middle)
    assert np.ptp(moved, axis=0)[1] == np.ptp(in_the_middle, axis=0)[1]


def caption_pixels(text: str | None, quad: np.ndarray = QUAD, **options: object) -> np.ndarray:
    """(x, y) of all pixels that a word changes in a picture with its outline."""
    outlined = draw_text_instances(flat((90, 90, 90)), TextInstances([quad]))
    written = draw_text_instances(flat((90, 90, 90)), TextInstances([quad], texts=[text]), **options)
    return np.argwhere((np.asarray(outlined) != np.asarray(written)).any(axis=2))[:, ::-1]


@pytest.mark.parametrize("shift", [(0, 0), (-55, -40), (55, 80), (-30, 85)])
@pytest.mark.parametrize("text", ["i", "SALE", "Sommerschlussverkauf", "漢字 👍", "ab\ncd", "\ud800"])
def test_words_are_written_beside_their_outlines(text: str, shift: tuple[int, int]) -> None:
    quad = QUAD + np.float32(shift)
    written = caption_pixels(text, quad)
    if text == "\ud800":  # half a character, which no font has
        assert len(written) == 0
        return
    assert len(written) > 20
    outline = shapely.Polygon(quad)
    assert not outline.intersects(shapely.points(written)).any()
    assert (np.ptp(written, axis=0) == np.ptp(caption_pixels(text), axis=0)).all()  # nothing is cut off


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), FOUND])
def test_words_can_be_read_on_any_background(background: tuple[int, int, int]) -> None:
    drawn = draw_text_instances(flat(background), TextInstances([QUAD], texts=["SALE"]))
    bare = draw_text_instances(flat(background), TextInstances([QUAD]))
    changed = (np.asarray(drawn) != np.asarray(bare)).any(axis=2)
    box = Image.fromarray(changed).getbbox()
    colors = np.asarray(drawn.crop(box)).reshape(-1, 3).sum(axis=1)
    assert colors.min() < 30
    assert colors.max() > 400


def test_letters_grow_with_the_word_up_to_a_limit() -> None:
    def height(of_word: int) -> int:
        quad = np.float32([[20, 150 - of_word], [290, 150 - of_word], [290, 150], [20, 150]])
        return int(np.ptp(caption_pixels("SALE", quad), axis=0)[1])

    assert height(10) == height(12) < height(40) < height(60)
    assert height(60) == height(80)


def test_a_word_as_large_as_the_picture_is_still_written_inside_it() -> None:
    whole = np.float32([[0, 0], [300, 0], [300, 200], [0, 200]])
    assert len(caption_pixels("SALE", whole)) > 20


def sign(columns: int, rows: int, x: float, y: float) -> list[np.ndarray]:
    """Words of 60 x 16 pixels with hardly a gap between them."""
    word = np.float32([[0, 0], [60, 0], [60, 16], [0, 16]])
    return [word + np.float32([x + 63 * column, y + 19 * row]) for row in range(rows) for column in range(columns)]


def changes(words: list[np.ndarray], size: tuple[int, int], index: int) -> tuple[np.ndarray, Image.Image]:
    """(x, y) of the pixels that the caption of one word changes, and the picture with all captions."""
    texts = [f"word{number}" for number in range(len(words))]
    without = [None if number == index else text for number, text in enumerate(texts)]
    drawn, bare = (
        draw_text_instances(flat((90, 90, 90), size), TextInstances(words, texts=t)) for t in (texts, without)
    )
    common = min(drawn.height, bare.height, size[1])
    differ = np.asarray(drawn)[:common] != np.asarray(bare)[:common]
    return np.argwhere(differ.any(axis=2))[:, ::-1], drawn


def test_captions_of_a_dense_sign_cover_no_other_word() -> None:
    words = sign(3, 4, 100, 80)
    pixels, drawn = changes(words, (400, 300), len(words) - 1)
    assert drawn.size == (400, 300)
    assert len(pixels) > 20
    others = shapely.MultiPolygon([shapely.Polygon(word) for word in words[:-1]])
    assert not shapely.contains_properly(others, shapely.points(pixels)).any()
    inside = np.asarray(drawn)[80:152, 100:286].reshape(-1, 3)
    plain = np.asarray(draw_text_instances(flat((90, 90, 90), (400, 300)), TextInstances(words)))[80:152, 100:286]
    lines = (inside != plain.reshape(-1, 3)).any(axis=1).mean()
    assert lines < 0.01  # not even lines to the captions


def test_without_room_numbers_stand_for_captions() -> None:
    words = sign(3, 6, 3, 2)
    pixels, drawn = changes(words, (195, 118), 17)
    assert drawn.width == 195
    assert drawn.height > 118 + 14
    legend = np.asarray(drawn)[118:]
    assert (legend == FOUND).all(axis=2).sum() > 200
    left, top = words[17].min(axis=0)
    assert ((pixels >= [left - 1, top - 1]) & (pixels <= [left + 61, top + 17])).all()  # its number is on its own word


def test_illegible_words_have_no_caption() -> None:
    assert len(caption_pixels("###")) == 0


def test_each_instance_may_have_a_colour() -> None:
    red, quads = (255, 0, 0), [QUAD, QUAD + np.float32([0, 90])]
    drawn = draw_text_instances(flat((0, 0, 0)), TextInstances(quads), color=[red, FOUND], line_width=3)
    assert count(drawn.crop((0, 0, 300, 118)), red) > 100 > count(drawn.crop((0, 125, 300, 200)), red) == 0
    assert count(drawn, FOUND) > 100


def test_texts_can_be_left_out_and_need_not_be_known() -> None:
    assert len(caption_pixels("SALE", texts=False)) == 0
    assert len(caption_pixels(None)) == 0
    assert len(caption_pixels("")) == 0


def test_words_and_scores_share_a_caption() -> None:
    found = [{"score": 0.5, "label": "text", "box": {}, "polygon": QUAD.tolist(), "text": "SALE", "text_score": 0.4}]
    both = np.asarray(draw_text_instances(flat((0, 0, 0)), found, scores=True))
    alone = np.asarray(draw_text_instances(flat((0, 0, 0)), found))
    assert (both != alone).any()
    expected = TextInstances([QUAD], scores=np.array([0.5]), texts=["SALE 0.50"])
    assert (both == np.asarray(draw_text_instances(flat((0, 0, 0)), expected))).all()


def test_pictures_of_any_kind_come_out_as_rgb() -> None:
    pixel = TextInstances([np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)])
    assert draw_text_instances(np.zeros((1, 1), np.uint8), pixel).mode == "RGB"
    assert draw_text_instances(Image.new("RGBA", (8, 8)), pixel).size == (8, 8)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no scores"):
        draw_text_instances(flat((0, 0, 0)), TextInstances([QUAD]), scores=True)
    with pytest.raises(ValueError, match="line_width"):
        draw_text_instances(flat((0, 0, 0)), TextInstances([QUAD]), line_width=0)
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        draw_text_instances("missing.jpg", [])


def test_heat_grows_brighter_with_the_score() -> None:
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1))
    heat = np.asarray(overlay_score_map(flat((0, 0, 0), (256, 4)), ramp, alpha=1.0))
    assert heat.shape == (4, 256, 3)
    luminance = heat[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[0] < 5
    assert luminance[-1] > 240


def test_a_score_map_lies_where_it_belongs_whatever_its_size() -> None:
    corner = np.zeros((4, 6), np.float32)
    corner[0, 0] = 1
    for score_map in (corner, np.kron(corner, np.ones((50, 50), np.float32))):
        drawn = overlay_score_map(flat((0, 0, 0)), score_map)
        assert drawn.size == (300, 200)
        brightness = np.asarray(drawn).sum(axis=2).astype(int) - 3 * 66  # half of the grey of a flat photo
        assert brightness[:20, :20].min() > 300
        assert brightness[100:].max() < 30
        assert brightness[:, 150:].max() < 30


def test_alpha_mixes_score_map_and_a_grey_picture() -> None:
    photo, scores = flat((200, 100, 0)), np.full((200, 300), 0.5, np.float32)
    alone = overlay_score_map(photo, scores, alpha=0)
    assert np.asarray(alone).tolist() == np.asarray(photo.convert("L").convert("RGB")).tolist()
    heat = np.asarray(overlay_score_map(photo, scores, alpha=1.0)).astype(float)
    half = np.asarray(overlay_score_map(photo, scores, alpha=0.5)).astype(float)
    # A photo of one colour lies in the middle of the range of greys.
    np.testing.assert_allclose(half, (heat + 132) / 2, atol=1)
    assert photo.getpixel((0, 0)) == (200, 100, 0)


@pytest.mark.parametrize("level", [20, 128, 235])
def test_scores_stand_out_from_bright_and_from_dark_photos_alike(level: int) -> None:
    noise = np.random.default_rng(0).integers(-20, 21, (200, 300), np.int64)
    photo = np.repeat(np.clip(level + noise, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    scores = np.zeros((200, 300), np.float32)
    scores[:, 200:] = 1
    drawn = np.asarray(overlay_score_map(photo, scores)).astype(int)
    quiet, text = drawn[:, :200].sum(axis=2), drawn[:, 200:].sum(axis=2)
    assert quiet.max() + 60 < text.min()
    assert np.ptp(quiet) > 150  # the photo can be seen


def test_a_bar_says_which_colour_is_which_score() -> None:
    scores = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (200, 1))
    plain = overlay_score_map(flat((90, 90, 90)), scores)
    drawn = overlay_score_map(flat((90, 90, 90)), scores, colorbar=True)
    assert drawn.size == (300, 228)
    assert drawn.crop((0, 0, 300, 200)).tobytes() == plain.tobytes()
    row = np.asarray(drawn)[214].astype(int)
    bar = row[60:270].sum(axis=1)
    assert (np.diff(bar) > -12).all()
    assert bar[-1] > bar[0] + 200
    # The colours of the bar are those of the picture.
    ends = [np.abs(row[50:290] - plain.getpixel((x, 0))).sum(axis=1).min() for x in (1, 298)]
    assert max(ends) < 12
    assert overlay_score_map(flat((90, 90, 90), (20, 500)), np.zeros((5, 5)), colorbar=True).size == (20, 528)


@pytest.mark.parametrize(
    ("score_map", "alpha", "error", "message"),
    [
        (None, 0.5, TypeError, "no score map"),
        (np.zeros((2, 2, 1)), 0.5, ValueError, r"shape \(2, 2, 1\)"),
        (np.zeros((0, 2)), 0.5, ValueError, "shape"),
        (np.full((2, 2), -0.1), 0.5, ValueError, r"expected \[0, 1\]"),
        (np.full((2, 2), np.nan), 0.5, ValueError, r"expected \[0, 1\]"),
        (np.zeros((2, 2)), 1.5, ValueError, r"`alpha` is 1\.5"),
    ],
)
def test_wrong_score_maps_are_named(score_map: np.ndarray, alpha: float, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        overlay_score_map(flat((0, 0, 0)), score_map, alpha)
