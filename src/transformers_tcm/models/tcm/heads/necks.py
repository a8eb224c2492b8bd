"""Feature pyramids that heads share.

References: FPN, Lin et al., CVPR 2017; its coarser levels by strided convolution, Lin et al., "Focal Loss for Dense
Object Detection" (RetinaNet), ICCV 2017; DBNet, Liao et al., AAAI 2020; adaptive scale fusion, Liao et al., TPAMI 2022;
feature pyramid enhancement, Wang et al., "Efficient and Accurate Arbitrary-Shaped Text Detection with Pixel
Aggregation Network" (PAN), ICCV 2019; BiFPN, Tan et al., "EfficientDet: Scalable and Efficient Object Detection",
CVPR 2020.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import initialization as init

from ..layers_tcm import TCMConvNorm

__all__ = [
    "AdaptiveScaleFusion",
    "BidirectionalPyramid",
    "ConcatenatedFPN",
    "FeatureEnhancement",
    "FeaturePyramid",
    "InputFeaturePyramid",
    "PixelAggregationPyramid",
]


class ConcatenatedFPN(nn.Module):
    """DBNet's neck: a top-down pyramid whose levels are brought to stride 4 and concatenated.

    Args:
        in_channels: channels of C2 … C5.
        channels: width of the lateral connections; every level gives a quarter of it.
        adaptive_scale_fusion: weigh the levels at each pixel (DBNet++).
    """

    def __init__(self, in_channels: Sequence[int], channels: int, adaptive_scale_fusion: bool = False):
        super().__init__()
        level_channels = channels // len(in_channels)
        self.lateral = nn.ModuleList(nn.Conv2d(size, channels, 1, bias=False) for size in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, level_channels, 3, padding=1, bias=False) for _ in in_channels)
        self.fusion = AdaptiveScaleFusion(channels, len(in_channels)) if adaptive_scale_fusion else None

    def forward(self, pyramid: Sequence[torch.Tensor]) -> torch.Tensor:
        """C2 … C5 (B, C_i, H / stride, W / stride) to (B, channels, H/4, W/4)."""
        merged = _top_down([lateral(features) for lateral, features in zip(self.lateral, pyramid, strict=True)])
        return self.concatenated(merged)

    def concatenated(self, merged: Sequence[torch.Tensor]) -> torch.Tensor:
        """Levels (B, channels, h_i, w_i) of the top-down pyramid, the finest first, to (B, channels, H/4, W/4)."""
        size = merged[0].shape[-2:]
        levels = [smooth(features) for smooth, features in zip(self.smooth, merged, strict=True)]
        levels = [levels[0], *(functional.interpolate(features, size=size) for features in levels[1:])]
        fused = torch.cat(levels, dim=1)
        return fused if self.fusion is None else self.fusion(fused, levels)


class AdaptiveScaleFusion(nn.Module):
    """Weighs pyramid levels against each other at every pixel (DBNet++)."""

    def __init__(self, channels: int, num_levels: int):
        super().__init__()
        level_channels = channels // num_levels
        self.mix = nn.Conv2d(channels, level_channels, 3, padding=1)
        self.spatial = nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False), nn.Sigmoid()
        )
        self.weigh = nn.Sequential(nn.Conv2d(level_channels, num_levels, 1, bias=False), nn.Sigmoid())

    def forward(self, fused: torch.Tensor, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Concatenated levels (B, C, H, W) and the levels themselves to weighted (B, C, H, W)."""
        mixed = self.mix(fused)
        attended = mixed + self.spatial(mixed.mean(dim=1, keepdim=True))
        weights = self.weigh(attended).split(1, dim=1)  # one (B, 1, H, W) for each level
        return torch.cat([weight * level for weight, level in zip(weights, levels, strict=True)], dim=1)


class FeaturePyramid(nn.Module):
    """Top-down pyramid with one map for each stride, continued upwards by strided convolutions (RetinaNet).

    Args:
        in_channels: channels of the backbone's maps taken in, for example those of C3 … C5.
        channels: channels of every level.
        num_levels: levels given out, at least one for each map taken in; the others each halve the one before.

    Raises:
        ValueError: if there are fewer levels than maps.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int):
        super().__init__()
        if num_levels < len(in_channels):
            raise ValueError(f"{len(in_channels)} feature maps make at least as many levels, got {num_levels}")
        self.lateral = nn.ModuleList(nn.Conv2d(size, channels, 1) for size in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        self.coarser = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_levels - len(in_channels))
        )

    def forward(self, pyramid: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, C_i, h_i, w_i), each half as large as the one before, to levels (B, channels, h_i, w_i).

        A further level has half the height and width of the one before it, rounded up.
        """
        merged = _top_down([lateral(features) for lateral, features in zip(self.lateral, pyramid, strict=True)])
        levels = [smooth(features) for smooth, features in zip(self.smooth, merged, strict=True)]
        for position, halve in enumerate(self.coarser):
            levels.append(halve(levels[-1] if position == 0 else functional.relu(levels[-1])))
        return levels


class PixelAggregationPyramid(nn.Module):
    """PAN's neck: cascaded feature pyramid enhancement, the sum of its stages brought to stride 4 and concatenated.

    Convolutions keep their biases although a norm follows: released checkpoints hold them.

    Args:
        in_channels: channels of C2 … C5.
        channels: width of every level.
        num_repeats: enhancement modules in a row.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_repeats: int):
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(size, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
            for size in in_channels
        )
        self.enhance = nn.ModuleList(FeatureEnhancement(channels, len(in_channels)) for _ in range(num_repeats))

    def forward(self, pyramid: Sequence[torch.Tensor]) -> torch.Tensor:
        """C2 … C5 (B, C_i, H / stride, W / stride) to (B, 4 x channels, H/4, W/4)."""
        levels = [reduce(features) for reduce, features in zip(self.reduce, pyramid, strict=True)]
        stages = []
        for enhance in self.enhance:
            levels = enhance(levels)
            stages.append(levels)
        sums = [torch.stack(level).sum(dim=0) for level in zip(*stages, strict=True)]
        size = sums[0].shape[-2:]
        coarser = (functional.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in sums[1:])
        return torch.cat([sums[0], *coarser], dim=1)


class FeatureEnhancement(nn.Module):
    """PAN's feature pyramid enhancement module (FPEM): once down the pyramid and once up, by separable convolutions.

    Args:
        channels: width of every level.
        num_levels: levels of the pyramid.
    """

    def __init__(self, channels: int, num_levels: int):
        super().__init__()
        self.top_down = nn.ModuleList(_separable(channels, stride=1) for _ in range(num_levels - 1))
        self.bottom_up = nn.ModuleList(_separable(channels, stride=2) for _ in range(num_levels - 1))

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Levels (B, C, h_i, w_i), the finest first, to levels of the same shapes."""
        refined = list(levels)
        for level, mix in zip(range(len(levels) - 1, 0, -1), self.top_down, strict=True):
            refined[level - 1] = mix(_enlarged_sum(refined[level], refined[level - 1]))
        # On the way back, too, the coarser map is enlarged to the finer one; the stride of the convolution undoes it.
        for level, mix in enumerate(self.bottom_up):
            refined[level + 1] = mix(_enlarged_sum(refined[level + 1], refined[level]))
        return refined


def _enlarged_sum(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(coarse, size=fine.shape[-2:]) + fine


def _separable(channels: int, stride: int) -> nn.Sequential:
    """Depthwise and pointwise convolution, norm and activation: (B, C, h, w) to (B, C, h / stride, w / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class InputFeaturePyramid(FeaturePyramid):
    """A `FeaturePyramid` whose first further level is made from the coarsest map taken in, as in RetinaNet's paper.

    There is no activation between the further levels. Arguments as for `FeaturePyramid`.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int):
        super().__init__(in_channels, channels, len(in_channels))
        inputs = [in_channels[-1], *[channels] * num_levels][: num_levels - len(in_channels)]
        self.further = nn.ModuleList(nn.Conv2d(size, channels, 3, stride=2, padding=1) for size in inputs)

    def forward(self, pyramid: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        levels, coarsest = super().forward(pyramid), pyramid[-1]
        for halve in self.further:
            coarsest = halve(coarsest)
            levels.append(coarsest)
        return levels


class BidirectionalPyramid(nn.Module):
    """BiFPN: levels flow down the pyramid and up again, weighed against each other wherever they meet (EfficientDet).

    Args:
        in_channels: channels of C2 … C5.
        channels: channels of every level.
        num_levels: levels given out, at least one for each map taken in; the others each halve the one before.
        num_repeats: times down and up.

    Raises:
        ValueError: if there are fewer levels than maps.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int, num_repeats: int = 2):
        super().__init__()
        self.num_further = num_levels - len(in_channels)
        if self.num_further < 0:
            raise ValueError(f"{len(in_channels)} feature maps make at least as many levels, got {num_levels}")
        self.reduce = TCMConvNorm(in_channels[-1], channels, 1, relu=False) if self.num_further else None
        widths = [[*in_channels, *[channels] * self.num_further], *[[channels] * num_levels] * (num_repeats - 1)]
        self.layers = nn.ModuleList(BidirectionalLayer(layer, channels) for layer in widths)

    def init_weights(self) -> None:
        """Levels start with equal weights."""
        for module in self.modules():
            if isinstance(module, WeightedFusion):
                init.ones_(module.weights)

    def forward(self, pyramid: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, C_i, h_i, w_i), each half as large as the one before, to levels (B, channels, h_i, w_i).

        A further level has half the height and width of the one before it, rounded up.
        """
        levels = list(pyramid)
        coarsest = levels[-1] if self.reduce is None else self.reduce(levels[-1])
        for _ in range(self.num_further):
            coarsest = _halved(coarsest)
            levels.append(coarsest)
        for layer in self.layers:
            levels = layer(levels)
        return levels


class BidirectionalLayer(nn.Module):
    """Once down the pyramid and once up.

    Args:
        in_channels: of the levels taken in, the finest first.
        channels: of the levels given out.
    """

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        finer, last = in_channels[:-1], in_channels[-1]
        coarser = [channels] * (len(finer) - 1) + [last]
        self.top_down = nn.ModuleList(WeightedFusion(widths, channels) for widths in zip(finer, coarser, strict=True))
        self.bottom_up = nn.ModuleList(WeightedFusion((width, channels, channels), channels) for width in finer[1:])
        self.bottom_up.append(WeightedFusion((last, channels), channels))

    def forward(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Levels (B, C_i, h_i, w_i), the finest first, to levels (B, channels, h_i, w_i)."""
        down = [levels[-1]]
        for level, fuse in reversed(list(zip(levels[:-1], self.top_down, strict=True))):
            down.insert(0, fuse(level, functional.interpolate(down[0], size=level.shape[-2:])))
        up = down[:1]
        for level, met, fuse in zip(levels[1:-1], down[1:-1], self.bottom_up[:-1], strict=True):
            up.append(fuse(level, met, _halved(up[-1])))
        return [*up, self.bottom_up[-1](levels[-1], _halved(up[-1]))]


class WeightedFusion(nn.Module):
    """Maps of one size, each brought to one width, in learned shares: "fast normalized fusion" (EfficientDet, 3.3)."""

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Identity() if width == channels else TCMConvNorm(width, channels, 1, relu=False) for width in in_channels
        )
        self.weights = nn.Parameter(torch.ones(len(in_channels)))
        self.smooth = TCMConvNorm(channels, channels, 3, relu=False)

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        weights = self.weights.relu()
        shares = weights / (weights.sum() + 1e-4)
        parts = (share * layer(features) for share, layer, features in zip(shares, self.lateral, maps, strict=True))
        return self.smooth(functional.silu(torch.stack(list(parts)).sum(dim=0)))


def _top_down(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Levels, the finest first, each with the coarser ones added, in place."""
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        fine += functional.interpolate(coarse, size=fine.shape[-2:])
    return levels


def _halved(features: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(features, 3, stride=2, padding=1)
