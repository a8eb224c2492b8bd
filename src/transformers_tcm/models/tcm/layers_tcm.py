"""Layers that the image encoder, heads and recognisers share."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from .attention_tcm import AttentionInterface

__all__ = ["TCMConvNorm", "TCMMultiheadAttention", "sizes_tensor", "without_norms"]


class TCMConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it ends a residual branch, ReLU; (B, C, H, W) to (B, C', H', W').

    Without gradients and in evaluation mode the norm is folded into the convolution's weights, in each call, since they
    are far smaller than the maps, or once, by `fold`.
    """

    # Weight (C', C, k, k) and bias (C',) that `fold` has made: no buffers, because they are not to be saved.
    _folded: tuple[torch.Tensor, torch.Tensor] | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        eps: float = 1e-5,
        stride: int | tuple[int, int] = 1,
        relu: bool = True,
    ):
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        conv, norm = self[0], self[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        # Weights that are elsewhere (`device_map`) come when their module is called.
        if self.training or torch.is_grad_enabled() or conv.weight.device != features.device:
            return super().forward(features)
        weight, bias = self._folded or _fold(conv, norm)
        features = functional.conv2d(features, weight, bias, conv.stride, conv.padding[0])
        return features if len(self) == 2 else functional.relu(features, inplace=True)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the norm once for all calls, until weights are loaded, moved, cast or trained."""
        self._folded = _fold(self[0], self[1])

    def train(self, mode: bool = True) -> Self:
        """See `torch.nn.Module.train`; in training mode nothing stays folded."""
        self._folded = None if mode else self._folded
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self._folded = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded = None
        super()._load_from_state_dict(*args, **kwargs)


class TCMMultiheadAttention(AttentionInterface, nn.MultiheadAttention):
    """The layer of torch, with `batch_first` and without masks, which attends by the model's implementation.

    Its output projection is called as a module: torch reads the weights of that directly, which are not there while
    they are offloaded by a `device_map`.
    """

    def forward(  # type: ignore[override]
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        """(N, T, D), (N, S, D) and (N, S, D) to (N, T, D); no attention weights are made."""
        assert self.in_proj_weight is not None  # keys and values are as wide as queries
        biases = self.in_proj_bias.chunk(3)
        projected = zip((query, key, value), self.in_proj_weight.chunk(3), biases, strict=True)
        # On a CPU the gradients of the fused kernel take several times as long for few keys.
        plain = query.is_cpu and torch.is_grad_enabled()
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            attended, _ = self.attend(*(functional.linear(states, weight, bias) for states, weight, bias in projected))
        return self.out_proj(attended), None


def without_norms(layers: nn.Sequential, features: torch.Tensor) -> torch.Tensor:
    """What layers make of features (B, C, H, W); norms are folded into the convolutions before them, transposed ones
    too, as in `TCMConvNorm`, but in each call."""
    if layers.training or torch.is_grad_enabled():
        return layers(features)
    remaining: list[Any] = list(layers)
    while remaining:
        layer = remaining.pop(0)
        if remaining and isinstance(remaining[0], nn.BatchNorm2d) and layer.weight.device == features.device:
            weight, bias = _fold(layer, remaining.pop(0))
            transform = functional.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else functional.conv2d
            features = transform(features, weight, bias, layer.stride, layer.padding)
        else:
            features = layer(features)
    return features


def _fold(conv: Any, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution, transposed or not, with the norm after it."""
    # In float32, because the rounding of half precision would move whole channels.
    gamma, beta = norm.weight.float(), norm.bias.float()
    scale = gamma * torch.rsqrt(norm.get_buffer("running_var").float() + norm.eps)
    mean = norm.get_buffer("running_mean").float()
    shift = beta + ((0 if conv.bias is None else conv.bias.float()) - mean) * scale
    # Weights (C', C, k, k), those of transposed convolutions (C, C', k, k).
    shape = (-1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    dtype = conv.weight.dtype
    return (conv.weight.float() * scale.view(shape)).to(dtype), shift.to(dtype)


def sizes_tensor(
    sizes: Sequence[tuple[int, int]], like: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Pairs of sizes as a tensor (L, 2) on the device, and unless told otherwise of the type, of another one.

    `torch.tensor` would make constants of sizes that are free in an exported graph.
    """
    pairs = [[like.new_full((), size, dtype=dtype) for size in pair] for pair in sizes]
    return torch.stack([torch.stack(pair) for pair in pairs])
