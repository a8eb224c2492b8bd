"""DBNet's targets and decoding: what is drawn comes back, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.geometry import signed_area
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads.dbnet import DBNetConfig, DBNetDecoding, DBNetHead
from transformers_tcm.models.tcm.post_processing_tcm import instances_of_images

SETTINGS = {"threshold": 0.3, "box_threshold": 0.6, "max_candidates": 100, "min_size": 2, "polygon": False}
# Undoes a shrink ratio of 0.4 for words four times as long as high.
UNCLIP_RATIO = 1.6


def iou(first: np.ndarray, second: np.ndarray) -> float:
    import shapely

    a, b = shapely.Polygon(first), shapely.Polygon(second)
    return a.intersection(b).area / a.union(b).area


def decode(prob_map: np.ndarray, **changes: object) -> TextInstances:
    return decode_batch(prob_map[None, None], [prob_map.shape], **changes)[0]


def decode_batch(prob_map: np.ndarray, valid_sizes: list[tuple[int, ...]], **changes: object) -> list[TextInstances]:
    decoding = DBNetDecoding(**{**SETTINGS, "unclip_ratio": UNCLIP_RATIO, **changes})
    regions = DBNetHead.decode({"prob_map": torch.from_numpy(prob_map)}, torch.tensor(valid_sizes), decoding)
    return instances_of_images(regions, len(valid_sizes))


def targets_of(instances: TextInstances, *size: int) -> dict[str, np.ndarray]:
    return DBNetHead.targets(instances, size, size, DBNetConfig())


def rectangle(x: float, y: float, width: float, height: float, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.float32([[x, y] + a * along * width / 2 + b * down * height / 2 for a, b in corners])


@settings(max_examples=40, deadline=None)
@given(st.floats(90, 166), st.floats(60, 100), st.floats(60, 110), st.floats(36, 48), st.floats(-80, 80), st.booleans())
def test_decoding_undoes_the_targets(
    x: float, y: float, width: float, height: float, degrees: float, polygon: bool
) -> None:
    word = rectangle(x, y, width, height, degrees)
    targets = targets_of(TextInstances([word]), 160, 256)
    decoded = decode(targets["shrink_map"].astype(np.float32), polygon=polygon)
    assert len(decoded) == 1
    assert decoded.scores[0] == pytest.approx(1.0)
    assert iou(decoded.polygons[0], word) > 0.6
    assert signed_area(decoded.polygons[0]) > 0


def test_threshold_map_peaks_on_the_outline() -> None:
    word = rectangle(64, 32, 80, 24, 0)
    targets = targets_of(TextInstances([word]), 64, 128)
    threshold = targets["threshold_map"]
    assert threshold[20, 40:90].min() > 0.65
    assert threshold[0, 0] == pytest.approx(0.3)
    assert threshold[32, 64] == pytest.approx(0.3)
    assert threshold.max() <= 0.7 + 1e-6
    assert targets["threshold_mask"][20, 64] == 1
    assert targets["threshold_mask"][0, 0] == 0


def test_small_ignored_and_vanishing_words_are_masked() -> None:
    thin, ignored, plain = (rectangle(64, y, 60, height, 0) for y, height in ((10, 5), (40, 20), (90, 20)))
    instances = TextInstances([thin, ignored, plain], ignore=np.array([False, True, False]))
    targets = targets_of(instances, 120, 128)
    assert targets["shrink_mask"][10, 64] == targets["shrink_mask"][40, 64] == 0
    assert targets["shrink_map"][10, 64] == targets["shrink_map"][40, 64] == 0
    assert targets["shrink_mask"][90, 64] == targets["shrink_map"][90, 64] == 1
    assert targets["threshold_mask"][40, 64] == 0


def test_no_instances_give_empty_targets() -> None:
    targets = targets_of(TextInstances([]), 32, 64)
    assert {name: array.shape for name, array in targets.items()} == dict.fromkeys(targets, (32, 64))
    assert targets["shrink_map"].sum() == targets["threshold_mask"].sum() == 0
    assert targets["shrink_mask"].all()


def test_scores_thresholds_and_limits() -> None:
    prob_map = np.zeros((64, 256), np.float32)
    for index, (value, height) in enumerate([(0.9, 20), (0.5, 20), (0.95, 2)]):
        prob_map[10 : 10 + height, 10 + 80 * index : 70 + 80 * index] = value
    assert decode(prob_map, min_size=3).scores == pytest.approx([0.9])
    assert len(decode(prob_map, box_threshold=0.4, min_size=3)) == 2
    assert len(decode(prob_map, box_threshold=0.4, min_size=1)) == 3
    assert len(decode(prob_map, box_threshold=0.4, min_size=1, max_candidates=1)) == 1
    assert len(decode(prob_map, threshold=0.97)) == 0


def test_padding_is_not_decoded() -> None:
    prob_map = np.zeros((64, 128), np.float32)
    prob_map[10:30, 20:60] = prob_map[10:30, 80:120] = 0.9
    [decoded] = decode_batch(prob_map[None, None], [(64, 70)])
    assert len(decoded) == 1
    assert decoded.polygons[0][:, 0].max() < 75


def test_padding_is_not_learned() -> None:
    """The head itself leaves out what lies beyond the image, also where a word reaches into it."""
    word = rectangle(64, 32, 100, 30, 0)
    whole = targets_of(TextInstances([word]), 64, 128)
    padded = DBNetHead.targets(TextInstances([word]), (64, 128), (40, 90), DBNetConfig())
    for name in ("shrink_mask", "threshold_mask"):
        assert whole[name][40:].any()
        assert whole[name][:, 90:].any()
        assert not padded[name][40:].any()
        assert not padded[name][:, 90:].any()
    assert all((padded[name][:40, :90] == whole[name][:40, :90]).all() for name in whole)


def test_images_of_a_batch_are_told_apart() -> None:
    prob_map = np.zeros((3, 1, 64, 128), np.float32)
    prob_map[0, 0, 10:30, 20:60] = prob_map[2, 0, 30:50, 20:60] = prob_map[2, 0, 5:25, 70:120] = 0.9
    decoded = decode_batch(prob_map, [(64, 128)] * 3)
    assert [len(image) for image in decoded] == [1, 0, 2]
    assert decoded[0].boxes[0, 1] < 15
    assert max(decoded[2].boxes[:, 2]) > 110


def test_maps_that_are_not_finite_are_refused() -> None:
    prob_map = np.zeros((1, 1, 64, 128), np.float32)
    prob_map[0, 0, 50, 100] = np.nan
    assert decode_batch(prob_map, [(40, 128)])[0].polygons == []  # only in the padding
    with pytest.raises(ValueError, match="`prob_map` has values that are NaN or infinite"):
        decode_batch(prob_map, [(64, 128)])


def test_polygons_follow_a_curve() -> None:
    """The outline of an arc is much smaller than its enclosing rectangle."""
    import cv2

    prob_map = np.zeros((200, 240), np.float32)
    cv2.ellipse(prob_map, (120, 180), (90, 120), 0, 200, 340, 0.9, thickness=14)
    curved = decode(prob_map, polygon=True)
    quad = decode(prob_map, polygon=False)
    assert len(curved) == len(quad) == 1
    assert len(curved.polygons[0]) > 8
    assert abs(signed_area(curved.polygons[0])) < 0.6 * abs(signed_area(quad.polygons[0]))


def two_words(valley: float) -> np.ndarray:
    """A map of two words of 40 x 12 pixels that a valley of 6 pixels lies between."""
    probabilities = np.zeros((64, 128), np.float32)
    probabilities[20:32, 20:106] = valley
    probabilities[20:32, 20:60] = probabilities[20:32, 66:106] = 0.95
    return probabilities


def parts_of(probabilities: np.ndarray, **changes: object) -> tuple[TextInstances, list[int]]:
    decoding = DBNetDecoding(**{**SETTINGS, "unclip_ratio": UNCLIP_RATIO, **changes})
    # An empty image first.
    maps = {"prob_map": torch.from_numpy(np.stack([np.zeros_like(probabilities), probabilities])[:, None])}
    sizes = torch.tensor([probabilities.shape] * 2)
    parts, sources = DBNetHead.split(maps, sizes, decoding, DBNetHead.decode(maps, sizes, decoding))
    nothing, found = instances_of_images(parts, 2)
    assert not len(nothing)
    return found, list(sources)


@pytest.mark.parametrize("polygon", [False, True])
@pytest.mark.parametrize("valley", [0.4, 0.7, 0.9])
def test_words_that_grew_together_come_apart(valley: float, polygon: bool) -> None:
    probabilities = two_words(valley)
    assert len(decode(probabilities, polygon=polygon)) == 1
    parts, sources = parts_of(probabilities, polygon=polygon)
    assert sources == [0, 0]
    alone = two_words(0.0)
    for part, word in zip(sorted(parts.boxes.tolist()), sorted(decode(alone).boxes.tolist()), strict=True):
        # Half of the valley goes to either side.
        np.testing.assert_allclose(part, word, atol=4.5)
    assert all(score > 0.85 for score in parts.scores)
    assert all((signed_area(polygon) > 0) for polygon in parts.polygons)


def test_what_holds_together_has_no_parts() -> None:
    parts, sources = parts_of(two_words(0.95))
    assert (len(parts), sources) == (0, [])


def test_scraps_are_no_parts() -> None:
    """Neither what is smaller than any word, nor another word that the outline reaches into."""
    probabilities = two_words(0.95)
    probabilities[36:48, 20:60] = 0.95  # the line below, which the grown outline overlaps
    probabilities[20:32, 108:109] = 0.95
    probabilities[20:32, 106:108] = 0.4
    assert not parts_of(probabilities)[1]


def test_parts_at_the_border_of_the_image() -> None:
    probabilities = two_words(0.5)[20:32, 20:106]
    parts, sources = parts_of(np.ascontiguousarray(probabilities))
    assert sources == [0, 0]
    assert len(parts) == 2
