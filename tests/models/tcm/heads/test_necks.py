"""The pyramids of the anchor-free heads: sizes, what flows where, and what they refuse."""

import pytest
import torch

from transformers_tcm.models.tcm.heads.necks import BidirectionalPyramid, FeaturePyramid, WeightedFusion

CHANNELS = [8, 12, 20]


def feature_maps(height: int, width: int) -> list[torch.Tensor]:
    """C3 … C5 of an input of that size."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, height // stride, width // stride, generator=generator)
        for channels, stride in zip(CHANNELS, (8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("num_levels", [3, 4, 5])
def test_each_level_halves_the_one_before(num_levels: int) -> None:
    torch.manual_seed(0)
    levels = FeaturePyramid(CHANNELS, 16, num_levels)(feature_maps(96, 160))
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]  # rounded up where odd
    assert [tuple(level.shape) for level in levels] == [(2, 16, *size) for size in sizes[:num_levels]]


def test_coarse_maps_reach_every_level_and_fine_ones_no_coarser_level() -> None:
    torch.manual_seed(0)
    neck, maps = FeaturePyramid(CHANNELS, 16, 5), feature_maps(64, 64)
    before = neck(maps)
    after_coarsest = neck([maps[0], maps[1], maps[2] + 1])
    assert all(not torch.equal(a, b) for a, b in zip(before, after_coarsest, strict=True))
    after_finest = neck([maps[0] + 1, maps[1], maps[2]])
    assert [torch.equal(a, b) for a, b in zip(before, after_finest, strict=True)] == [False, True, True, True, True]


def test_all_weights_are_trained() -> None:
    torch.manual_seed(0)
    neck = FeaturePyramid(CHANNELS, 16, 5)
    sum(level.square().sum() for level in neck(feature_maps(64, 64))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in neck.parameters())


def test_fewer_levels_than_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="3 feature maps make at least as many levels, got 2"):
        FeaturePyramid(CHANNELS, 16, 2)


@pytest.mark.parametrize("num_levels", [3, 4, 5])
def test_levels_of_the_bidirectional_pyramid_halve_too(num_levels: int) -> None:
    torch.manual_seed(0)
    levels = BidirectionalPyramid(CHANNELS, 16, num_levels)(feature_maps(96, 160))
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]  # rounded up where odd
    assert [tuple(level.shape) for level in levels] == [(2, 16, *size) for size in sizes[:num_levels]]


def test_in_the_bidirectional_pyramid_every_map_reaches_every_level() -> None:
    torch.manual_seed(0)
    neck, maps = BidirectionalPyramid(CHANNELS, 16, 5, num_repeats=1).eval(), feature_maps(64, 64)
    before = neck(maps)
    for changed in range(3):
        others = [features + (index == changed) for index, features in enumerate(maps)]
        assert not any(torch.equal(a, b) for a, b in zip(before, neck(others), strict=True))


def test_fused_maps_weigh_what_their_shares_say() -> None:
    """Swish of the weighted mean, negative weights counting nothing, under a convolution that does nothing."""
    fuse, generator = WeightedFusion((4, 4, 4), 4).eval(), torch.Generator().manual_seed(0)
    torch.nn.init.dirac_(fuse.smooth[0].weight)
    fuse.weights.data = torch.tensor([3.0, 1.0, -2.0])
    one, two, three = torch.randn(3, 1, 4, 5, 5, generator=generator)
    expected = torch.nn.functional.silu((3 * one + two) / (4 + 1e-4)) / (1 + 1e-5) ** 0.5
    with torch.no_grad():
        torch.testing.assert_close(fuse(one, two, three), expected)


def test_all_weights_of_the_bidirectional_pyramid_are_trained() -> None:
    torch.manual_seed(0)
    neck = BidirectionalPyramid(CHANNELS, 16, 5)
    sum(level.square().sum() for level in neck(feature_maps(64, 64))).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in neck.parameters())


def test_fewer_levels_of_the_bidirectional_pyramid_than_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="3 feature maps make at least as many levels, got 2"):
        BidirectionalPyramid(CHANNELS, 16, 2)
