"""Layers that the image encoder, heads and recognisers share."""

from torch import nn

__all__ = ["TCMConvNorm"]


class TCMConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it ends a residual branch, ReLU; (B, C, H, W) to (B, C', H', W')."""

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
