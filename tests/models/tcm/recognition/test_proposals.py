"""Outlines of words as control points, and proposals matched with the words they lie on."""

import numpy as np
import pytest
import torch

from transformers_tcm.bezier import bezier_to_polygon, fit_bezier
from transformers_tcm.models.tcm.heads.base import Regions
from transformers_tcm.models.tcm.recognition.proposals import (
    LabelledWords,
    outlines_to_bezier,
    regions_to_bezier,
    words_to_bezier,
)
from transformers_tcm.models.tcm.recognition.sampling import quads_to_bezier

QUAD = np.float32([[10, 12], [70, 10], [72, 34], [12, 36]])
LINE = np.float32([[0, 0], [10, 0], [20, 0], [5, 0]])
TRIANGLE = np.float32([[0, 0], [30, 0], [30, 10]])


def arc(degrees: float = 120.0) -> np.ndarray:
    """Control points (8, 2) of a word along an arc."""
    angles = np.deg2rad(np.linspace(180 + (180 - degrees) / 2, 360 - (180 - degrees) / 2, 12))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return fit_bezier(np.concatenate([100 + 80 * circle, (100 + 55 * circle)[::-1]]).astype(np.float32))


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance of the outlines of two words, point by point along each side."""
    outlines = [bezier_to_polygon(points, 40) for points in (first, second)]
    return float(np.linalg.norm(outlines[0] - outlines[1], axis=1).max())


def regions(*images: list[np.ndarray], **known: list[np.ndarray]) -> Regions:
    return Regions.from_outlines(images, [np.full(len(image), 0.9) for image in images], **known)


def test_corners_of_quads_are_kept() -> None:
    [control_points] = outlines_to_bezier([QUAD])
    assert control_points.dtype == torch.float32
    np.testing.assert_array_equal(control_points[[0, 3, 4, 7]], QUAD)
    np.testing.assert_allclose(control_points[1], QUAD[0] + (QUAD[1] - QUAD[0]) / 3, rtol=1e-6)
    np.testing.assert_allclose(control_points[5], QUAD[2] + (QUAD[3] - QUAD[2]) / 3, rtol=1e-6)


def test_sides_that_a_head_knows_are_kept() -> None:
    """Its control points count, whatever the outlines; without them the outlines are fitted."""
    word, quad = arc(), quads_to_bezier(torch.from_numpy(QUAD))[None].numpy()
    known = regions([bezier_to_polygon(word, 20)], [QUAD + 100], control_points=[word[None], quad])
    kept = regions_to_bezier(known)
    assert kept.dtype == torch.float32
    np.testing.assert_allclose(kept, np.concatenate([word[None], quad]), rtol=1e-6)
    unknown = regions([bezier_to_polygon(word, 20)], [QUAD])
    fitted = regions_to_bezier(unknown)
    assert torch.equal(fitted, outlines_to_bezier(unknown.polygons()))
    assert distance(fitted[0].numpy(), word) < 3
    np.testing.assert_array_equal(fitted[1, [0, 3, 4, 7]], QUAD)


@pytest.mark.parametrize("start", [0, 3, 11, 17])
def test_outlines_may_start_anywhere(start: int) -> None:
    word = arc()
    outline = np.roll(bezier_to_polygon(word, 24), start, axis=0)
    [control_points] = outlines_to_bezier([outline])
    assert distance(control_points.numpy(), word) < 3


@pytest.mark.parametrize("polygon", [TRIANGLE, LINE, np.repeat(LINE, 2, axis=0), QUAD[::-1].repeat(2, axis=0)])
def test_something_is_read_whatever_the_outline(polygon: np.ndarray) -> None:
    [control_points] = outlines_to_bezier([polygon]).numpy()
    assert np.isfinite(control_points).all()
    # No further out than the smallest rectangle around it may be.
    low, high = polygon.min(axis=0) - 10, polygon.max(axis=0) + 10
    assert ((control_points >= low) & (control_points <= high)).all()


def test_no_proposals() -> None:
    assert outlines_to_bezier([]).shape == (0, 8, 2)
    assert regions_to_bezier(regions([], [])).shape == (0, 8, 2)
    control_points, fitted = words_to_bezier([], [])
    assert control_points.shape == (0, 8, 2)
    assert fitted.shape == (0,)


def test_words_that_no_curves_describe_are_marked() -> None:
    control_points, fitted = words_to_bezier([QUAD, LINE, TRIANGLE, QUAD[::-1]], [None] * 4)
    assert fitted.tolist() == [True, False, False, False]
    np.testing.assert_allclose(control_points[0], fit_bezier(QUAD))
    assert not control_points[1:].any()


def test_labels_are_read_from_where_the_word_begins() -> None:
    tall = np.float32([[10, 10], [30, 12], [26, 90], [6, 88]])
    control_points, fitted = words_to_bezier([tall, tall, QUAD], ["down", None, "across"])
    assert fitted.all()
    np.testing.assert_array_equal(control_points[:, [0, 3, 4, 7]], [tall[[1, 2, 3, 0]], tall, QUAD])


def labels(*images: list[np.ndarray], ignore: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Of images with these quads; the words say 1, 2, …, and some of them are to be ignored."""
    quads = [quad for image in images for quad in image]
    return {
        "control_points": quads_to_bezier(torch.from_numpy(np.float32(quads).reshape(-1, 4, 2))),
        "char_ids": torch.arange(1, len(quads) + 1)[:, None],
        "ignore": torch.tensor([index in ignore for index in range(len(quads))], dtype=torch.bool),
        "word_counts": torch.tensor([len(image) for image in images]),
    }


def moved(x: float, y: float) -> np.ndarray:
    """A box of 60 x 20."""
    return np.float32([[x, y], [x + 60, y], [x + 60, y + 20], [x, y + 20]])


def test_words_to_learn_from() -> None:
    """Neither ignored words nor those without a transcription, each with the image it is in."""
    known = labels([moved(0, 0), moved(0, 40)], [], [moved(5, 5), moved(50, 50)], ignore=(1,))
    known["char_ids"][3] = 0
    everything = LabelledWords.from_labels(known)
    assert everything.char_ids.tolist() == [[1], [0], [3], [0]]
    words = everything.readable()
    assert words.char_ids.tolist() == [[1], [3]]
    assert words.batch_indices.tolist() == [0, 2]
    assert torch.equal(words.control_points, known["control_points"][[0, 2]])
    turned = words.in_images(torch.tensor([1, 2, 0]))
    assert turned.batch_indices.tolist() == [1, 0]
    assert turned.char_ids is words.char_ids


def test_labels_without_words_are_named() -> None:
    known = labels([QUAD])
    del known["ignore"], known["char_ids"]
    with pytest.raises(ValueError, match="`labels` lack char_ids, ignore; build them with the collator"):
        LabelledWords.from_labels(known)


def test_proposals_take_over_the_word_they_lie_on() -> None:
    """Moved by 10 px boxes share 50/70, by 25 px 35/85 of their union; what lies on an ignored word is not read."""
    words = LabelledWords.from_labels(labels([moved(0, 0), moved(0, 40), moved(100, 0)], ignore=(2,))).readable()
    found = regions([moved(10, 40), moved(25, 0), moved(2, 0), moved(101, 1), moved(300, 300)])
    both = words.with_matched(found)
    assert both.char_ids[:, 0].tolist() == [1, 2, 2, 1]
    assert both.batch_indices.tolist() == [0] * 4
    torch.testing.assert_close(both.control_points[:2], words.control_points)
    np.testing.assert_allclose(both.control_points[2, [0, 3, 4, 7]], moved(10, 40))
    np.testing.assert_allclose(both.control_points[3, [0, 3, 4, 7]], moved(2, 0))


def test_proposals_are_matched_within_their_image() -> None:
    words = LabelledWords.from_labels(labels([moved(0, 0)], [moved(0, 40)], [moved(0, 80)]))
    both = words.with_matched(regions([moved(0, 40)], [moved(1, 40), moved(0, 80)], [moved(2, 80)]))
    assert both.char_ids[:, 0].tolist() == [1, 2, 3, 2, 3]
    assert both.batch_indices.tolist() == [0, 1, 2, 1, 2]
    np.testing.assert_allclose(both.control_points[3:, 0], [[1, 40], [2, 80]])


def test_matched_proposals_keep_the_sides_that_the_head_knows() -> None:
    words = LabelledWords.from_labels(labels([moved(0, 0)]))
    known = quads_to_bezier(torch.from_numpy(moved(3, 0)))[None].numpy()
    both = words.with_matched(regions([moved(1, 0)], control_points=[known]))
    np.testing.assert_allclose(both.control_points[1:], known)


def test_proposals_that_touch_no_word_say_nothing() -> None:
    """Ignored words are words too, and so are those that are touched by a corner."""
    labelled = LabelledWords.from_labels(labels([moved(0, 0), moved(0, 40)], [moved(0, 0)], ignore=(1,)))
    found = regions([moved(55, 55), moved(59, 0), moved(0, 100)], [moved(0, 40), moved(2, 2)], [moved(0, 0)])
    words = labelled.readable().with_background(found, labelled)
    assert words.char_ids[:, 0].tolist() == [1, 3, 0, 0, 0]
    assert words.batch_indices.tolist() == [0, 1, 0, 1, 2]
    np.testing.assert_allclose(words.control_points[2:, 0], [[0, 100], [0, 40], [0, 0]])


def test_nothing_to_match() -> None:
    words = LabelledWords.from_labels(labels([QUAD]))
    assert words.with_matched(regions([])) is words
    assert words.with_matched(regions([QUAD + 200])).control_points.shape == (1, 8, 2)
    empty = LabelledWords.from_labels(labels([]))
    assert empty.with_matched(regions([QUAD])) is empty


def test_a_word_without_curves_matches_nothing() -> None:
    known = labels([QUAD])
    known["control_points"].zero_()
    words = LabelledWords.from_labels(known)
    assert len(words.with_matched(regions([QUAD - QUAD.min(axis=0)])).char_ids) == 1
