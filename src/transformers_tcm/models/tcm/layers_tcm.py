"""Layers that the image encoder, heads and recognisers share."""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TCMConvNorm"]


class TCMConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it ends a residual branch, ReLU; (B, C, H, W) to (B, C', H', W').

    Without gradients and in evaluation mode the norm is folded into the convolution's weights, in each call: they are
    far smaller than the maps.
    """

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
        if self.training or torch.is_grad_enabled():
            return super().forward(features)
        conv, norm = self[0], self[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        # In float32, because the rounding of half precision would move whole channels.
        gamma, beta = norm.weight.float(), norm.bias.float()
        scale = gamma * torch.rsqrt(norm.get_buffer("running_var").float() + norm.eps)
        shift = beta - norm.get_buffer("running_mean").float() * scale
        dtype = conv.weight.dtype
        weight = (conv.weight.float() * scale.view(-1, 1, 1, 1)).to(dtype)
        features = functional.conv2d(features, weight, shift.to(dtype), conv.stride, conv.padding[0])
        return features if len(self) == 2 else functional.relu(features, inplace=True)
