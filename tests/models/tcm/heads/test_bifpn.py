"""BiFPN against its equations, written once more in NumPy, level by level and in double precision.

Tan et al., "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, section 3, for the six levels C2 … C5,
P6 and P7, with shares by fast normalised fusion:

    td_i  = conv(swish((w_1 in_i + w_2 up(td_{i+1})) / (w_1 + w_2 + 1e-4)))           i = 4 … 0, td_5 = in_5
    out_i = conv(swish((w_1 in_i + w_2 td_i + w_3 down(out_{i-1})) / (w_1 + w_2 + w_3 + 1e-4)))      i = 1 … 4
    out_5 = conv(swish((w_1 in_5 + w_2 down(out_4)) / (w_1 + w_2 + 1e-4)))            out_0 = td_0

where up repeats to the finer size, down is max-pooling (3, stride 2, padding 1), every w is cut at 0, a map of another
width first goes through a convolution (1 x 1) and a norm, and every convolution has a norm behind it. P6 and P7 are
made from C5 by such a convolution and pooling, once and twice.
"""

import numpy as np
import pytest
import torch
from torch import nn

from transformers_tcm.models.tcm.heads.necks import BidirectionalPyramid

WIDTHS, CHANNELS, LEVELS = [5, 6, 8, 10], 6, 6
# The second one has odd sizes from stride 16 on.
SIZES = [(128, 64), (96, 160)]
Weights = dict[str, np.ndarray]


def convolved(maps: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """A convolution with its norm in evaluation mode: (B, C, h, w) to (B, C', h, w)."""
    kernel = weights[f"{name}.0.weight"]  # (C', C, k, k)
    side, (height, width) = kernel.shape[2], maps.shape[2:]
    padded = np.pad(maps, [(0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2])
    total = sum(
        np.einsum("oc,bchw->bohw", kernel[:, :, y, x], padded[:, :, y : y + height, x : x + width])
        for y in range(side)
        for x in range(side)
    )
    mean, variance, scale, shift = (
        weights[f"{name}.1.{leaf}"][:, None, None] for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return (total - mean) / np.sqrt(variance + 1e-5) * scale + shift


def enlarged(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, maps.shape[2:], strict=True))
    return maps[:, :, rows][:, :, :, columns]


def pooled(maps: np.ndarray) -> np.ndarray:
    padded = np.pad(maps, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    rows, columns = ((size + 1) // 2 for size in maps.shape[2:])
    windows = [padded[:, :, y : y + 2 * rows : 2, x : x + 2 * columns : 2] for y in range(3) for x in range(3)]
    return np.max([window[:, :, :rows, :columns] for window in windows], axis=0)


def node(maps: list[np.ndarray], weights: Weights, name: str) -> np.ndarray:
    shares = np.maximum(weights[f"{name}.weights"], 0)
    fused = np.zeros(1)
    for index, features in enumerate(maps):
        own_width = f"{name}.lateral.{index}"
        one = convolved(features, weights, own_width) if f"{own_width}.0.weight" in weights else features
        fused = fused + shares[index] * one
    fused = fused / (shares.sum() + 1e-4)
    return convolved(fused / (1 + np.exp(-fused)), weights, f"{name}.smooth")


def reference(stages: list[np.ndarray], weights: Weights, num_repeats: int) -> list[np.ndarray]:
    """C2 … C5 to P2 … P7."""
    sixth = pooled(convolved(stages[3], weights, "reduce"))
    given = [*stages, sixth, pooled(sixth)]
    for repeat in range(num_repeats):
        down = {5: given[5]}
        for level in (4, 3, 2, 1, 0):
            coarser = enlarged(down[level + 1], given[level].shape[2:])
            down[level] = node([given[level], coarser], weights, f"layers.{repeat}.top_down.{level}")
        up = {0: down[0]}
        for level in (1, 2, 3, 4):
            met = [given[level], down[level], pooled(up[level - 1])]
            up[level] = node(met, weights, f"layers.{repeat}.bottom_up.{level - 1}")
        up[5] = node([given[5], pooled(up[4])], weights, f"layers.{repeat}.bottom_up.4")
        given = [up[level] for level in range(LEVELS)]
    return given


def any_pyramid(num_repeats: int) -> BidirectionalPyramid:
    """With shares that differ, one of them negative, and norms that have seen something."""
    torch.manual_seed(0)
    neck = BidirectionalPyramid(WIDTHS, CHANNELS, LEVELS, num_repeats).eval()
    for name, parameter in neck.named_parameters():
        if name.endswith("weights"):
            nn.init.uniform_(parameter, 0.5, 2.0)
    neck.get_parameter("layers.0.top_down.2.weights").data[0] *= -1
    for norm in (module for module in neck.modules() if isinstance(module, nn.BatchNorm2d)):
        for values, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -1, 1)):
            nn.init.uniform_(values, low, high)
        norm.running_mean = torch.empty(norm.num_features).uniform_(-0.5, 0.5)
        norm.running_var = torch.empty(norm.num_features).uniform_(0.5, 2.0)
    return neck


@pytest.mark.parametrize("num_repeats", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_levels_equal_the_equations(size: tuple[int, int], num_repeats: int) -> None:
    neck = any_pyramid(num_repeats)
    strides = zip(WIDTHS, (4, 8, 16, 32), strict=True)
    stages = [torch.randn(2, width, size[0] // stride, size[1] // stride) for width, stride in strides]
    with torch.no_grad():
        levels = neck(stages)
    weights = {name: tensor.double().numpy() for name, tensor in neck.state_dict().items()}
    expected = reference([stage.double().numpy() for stage in stages], weights, num_repeats)
    assert len(levels) == LEVELS
    for level, right in zip(levels, expected, strict=True):
        np.testing.assert_allclose(level.numpy(), right, rtol=1e-5, atol=1e-5)
