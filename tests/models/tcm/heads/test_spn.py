"""The segmentation proposals of Mask TextSpotter v3: what is drawn comes back, and settings that do not fit."""

from typing import Any

import numpy as np
import pytest
import torch

from transformers_tcm import geometry
from transformers_tcm.instances import TextInstances
from transformers_tcm.models.tcm.heads.base import HeadInputs, Regions
from transformers_tcm.models.tcm.heads.spn import SPNConfig, SPNDecoding, SPNHead


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])


def targets_of(words: TextInstances, valid: tuple[int, int] = (96, 160), **changes: Any) -> dict[str, np.ndarray]:
    return SPNHead.targets(words, (96, 160), valid, SPNConfig(**changes))


def decode(prob_map: np.ndarray, **changes: Any) -> Regions:
    maps = {"prob_map": torch.from_numpy(prob_map.astype(np.float32))[None, None]}
    return SPNHead.decode(maps, torch.tensor([prob_map.shape]), SPNDecoding(**changes))


def iou(first: np.ndarray, second: np.ndarray) -> float:
    import shapely

    a, b = shapely.Polygon(first), shapely.Polygon(second)
    return a.intersection(b).area / a.union(b).area


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neck_channels": 6}, "`neck_channels` must be a positive multiple of 4"),
        ({"hidden_channels": 0}, "`hidden_channels` positive"),
        ({"shrink_ratio": 1.0}, r"`shrink_ratio` must lie between 0 and 1, got 1\.0"),
        ({"min_short_side": -1}, "`min_short_side` is -1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPNConfig(**settings)


@pytest.mark.parametrize("name", ["threshold", "unclip_ratio", "box_unclip_ratio", "box_threshold"])
def test_bad_decoding_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is -1"):
        SPNDecoding(**{name: -1})


@pytest.mark.parametrize(("polygon", "width"), [(True, 120), (False, 60)])
def test_what_is_drawn_comes_back(polygon: bool, width: int) -> None:
    """Outlines are grown by so much that they fit long words, rectangles by so much that they fit short ones."""
    word = box(20, 30, 20 + width, 56)
    regions = decode(targets_of(TextInstances([word]))["shrink_map"], polygon=polygon)
    [found] = regions.polygons()
    assert iou(found, word) > 0.75
    assert (len(found) == 4) is not polygon
    assert geometry.signed_area(found) > 0


def test_ignored_tiny_and_vanishing_words_and_padding_do_not_count() -> None:
    words = [box(10, 10, 60, 30), box(70, 10, 120, 30), box(10, 50, 60, 53), box(70, 50, 120, 51)]
    targets = targets_of(TextInstances(words, ignore=[False, True, False, False]), (96, 140), min_short_side=4)
    assert targets["shrink_map"].any(axis=0).nonzero()[0].max() < 60
    mask = targets["shrink_mask"]
    assert mask[20, 20]
    assert not mask[20, 90]
    assert not mask[51, 20]
    assert not mask[:, 140:].any()


def test_thresholds() -> None:
    prob_map = np.zeros((96, 160))
    prob_map[20:40, 20:100] = 0.5
    prob_map[60:64, 20:100] = 0.9
    assert len(decode(prob_map)) == 1
    assert len(decode(prob_map, min_size=2)) == 2
    assert len(decode(prob_map, min_size=2, box_threshold=0.8)) == 1
    assert len(decode(prob_map, threshold=0.6)) == 0


def test_scores_are_means_in_the_rectangle() -> None:
    """Not in the region itself: half of a triangle's rectangle is empty."""
    rows, columns = np.indices((96, 160))
    prob_map = np.where((rows >= 10) & (columns >= 10) & (rows + columns < 80), 0.8, 0.0)
    [score] = decode(prob_map).scores.tolist()
    assert 0.3 < score < 0.7


def test_the_loss_falls_to_nothing_for_a_perfect_map() -> None:
    torch.manual_seed(0)
    head = SPNHead(SPNConfig(neck_channels=8, hidden_channels=4), [4, 6, 8, 9])
    pyramid = tuple(
        torch.randn(2, size, 64 // s, 96 // s) for size, s in zip([4, 6, 8, 9], (4, 8, 16, 32), strict=True)
    )
    maps = head(HeadInputs(pyramid, torch.zeros(2, 4, 32, 48), torch.tensor([[64, 96]] * 2)))
    assert maps.prob_map.shape == (2, 1, 64, 96)
    words = TextInstances([box(10, 10, 80, 40)])
    target = torch.from_numpy(SPNHead.targets(words, (64, 96), (64, 96), SPNConfig())["shrink_map"])
    labels = {"shrink_map": target.repeat(2, 1, 1), "shrink_mask": torch.ones(2, 64, 96)}
    [loss] = head.loss(maps, labels).values()
    assert loss > 0.1
    maps.prob_map = target.float().repeat(2, 1, 1, 1)
    assert float(head.loss(maps, labels)["loss_segmentation"]) == pytest.approx(0, abs=1e-5)
