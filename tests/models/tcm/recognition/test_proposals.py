"""Outlines of words as control points, and proposals matched with the words they lie on."""

import numpy as np
import pytest
import torch

from transformers_tcm.bezier import bezier_to_polygon, fit_bezier
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.recognition.proposals import (
    proposals_to_bezier,
    with_matched_proposals,
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


@pytest.mark.parametrize("halves_are_sides", [True, False])
def test_corners_of_quads_are_kept(halves_are_sides: bool) -> None:
    [control_points] = proposals_to_bezier([QUAD], halves_are_sides)
    assert control_points.dtype == np.float32
    np.testing.assert_array_equal(control_points[[0, 3, 4, 7]], QUAD)
    np.testing.assert_allclose(control_points[1], QUAD[0] + (QUAD[1] - QUAD[0]) / 3, rtol=1e-6)
    np.testing.assert_allclose(control_points[5], QUAD[2] + (QUAD[3] - QUAD[2]) / 3, rtol=1e-6)


def test_sides_of_a_curved_word_are_kept() -> None:
    word = arc()
    [control_points] = proposals_to_bezier([bezier_to_polygon(word, 20)], halves_are_sides=True)
    assert distance(control_points, word) < 0.5


@pytest.mark.parametrize("start", [0, 3, 11, 17])
def test_outlines_may_start_anywhere(start: int) -> None:
    word = arc()
    outline = np.roll(bezier_to_polygon(word, 24), start, axis=0)
    [control_points] = proposals_to_bezier([outline], halves_are_sides=False)
    assert distance(control_points, word) < 3


@pytest.mark.parametrize("halves_are_sides", [True, False])
@pytest.mark.parametrize("polygon", [TRIANGLE, LINE, np.repeat(LINE, 2, axis=0), QUAD[::-1].repeat(2, axis=0)])
def test_something_is_read_whatever_the_outline(polygon: np.ndarray, halves_are_sides: bool) -> None:
    [control_points] = proposals_to_bezier([polygon], halves_are_sides)
    assert np.isfinite(control_points).all()
    # No further out than the smallest rectangle around it may be.
    low, high = polygon.min(axis=0) - 10, polygon.max(axis=0) + 10
    assert ((control_points >= low) & (control_points <= high)).all()


def test_no_proposals() -> None:
    assert proposals_to_bezier([], halves_are_sides=False).shape == (0, 8, 2)
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


def label(*quads: np.ndarray, ignore: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    return {
        "control_points": quads_to_bezier(torch.from_numpy(np.array(quads).reshape(-1, 4, 2))),
        "char_ids": torch.arange(1, len(quads) + 1)[:, None],
        "ignore": torch.tensor([index in ignore for index in range(len(quads))]),
    }


def proposals(*quads: np.ndarray) -> TextInstances:
    return TextInstances(list(quads), scores=np.full(len(quads), 0.9))


def test_proposals_take_over_the_word_they_lie_on() -> None:
    """Boxes of 60 x 20: moved by 10 px they share 50/70, by 25 px 35/85 of their union."""

    def moved(x: float, y: float) -> np.ndarray:
        return np.float32([[x, y], [x + 60, y], [x + 60, y + 20], [x, y + 20]])

    words = label(moved(0, 0), moved(0, 40), moved(100, 0), ignore=(2,))
    found = proposals(moved(10, 40), moved(25, 0), moved(2, 0), moved(101, 1), moved(300, 300))
    both = with_matched_proposals(words, found, halves_are_sides=False)
    assert both["char_ids"][:, 0].tolist() == [1, 2, 3, 2, 1, 3]
    assert both["ignore"].tolist() == [False, False, True, False, False, True]
    torch.testing.assert_close(both["control_points"][:3], words["control_points"])
    np.testing.assert_allclose(both["control_points"][3, [0, 3, 4, 7]], moved(10, 40))
    np.testing.assert_allclose(both["control_points"][4, [0, 3, 4, 7]], moved(2, 0))


def test_nothing_to_match() -> None:
    words = label(QUAD)
    assert with_matched_proposals(words, proposals(), False) is words
    assert with_matched_proposals(words, proposals(QUAD + 200), False)["control_points"].shape == (1, 8, 2)
    empty = label()
    assert with_matched_proposals(empty, proposals(QUAD), False) is empty


def test_a_word_without_curves_matches_nothing() -> None:
    words = label(QUAD)
    words["control_points"].zero_()
    assert len(with_matched_proposals(words, proposals(QUAD - QUAD.min(axis=0)), False)["ignore"]) == 1
